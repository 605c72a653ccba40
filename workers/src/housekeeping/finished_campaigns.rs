//! Completes running campaigns that have no task left to do.

use async_trait::async_trait;
use domain::campaign::{Campaign, CampaignCommand};
use eventstore::{CommandContext, CommandError as _, ExecuteError, now};
use projections::campaigns::{self, CampaignAtWork};
use services::{ServiceError, Services};

use crate::engine::{DueWork, ItemKey, Lease};

pub(super) struct FinishedCampaigns(pub Services);

#[async_trait]
impl DueWork for FinishedCampaigns {
    type Item = CampaignAtWork;

    fn name(&self) -> &'static str {
        "finished_campaigns"
    }

    async fn due(&self, limit: i64) -> Result<Vec<CampaignAtWork>, ServiceError> {
        Ok(campaigns::finished(self.0.pool(), limit).await?)
    }

    fn key(&self, campaign: &CampaignAtWork) -> ItemKey {
        ItemKey { company_id: Some(campaign.company_id), item: campaign.campaign_id.to_string() }
    }

    async fn handle(&self, campaign: &CampaignAtWork, _lease: &Lease) -> Result<(), ServiceError> {
        let context = CommandContext::system(campaign.company_id, "campaign completion", now());
        let total_tasks = u64::try_from(campaign.total_tasks).map_err(|error| ServiceError::internal(&error))?;
        match self.0.store.execute::<Campaign>(&context, campaign.campaign_id, CampaignCommand::Complete { total_tasks }).await {
            Ok(committed) if !committed.events.is_empty() => tracing::info!(campaign = %campaign.campaign_id, "campaign completed"),
            // A refusal: the campaign has got tasks or another status meanwhile.
            Ok(_) | Err(ExecuteError::Refused(_)) => {}
            Err(error) if error.is_conflict() => {}
            Err(ExecuteError::Store(error)) => return Err(error.into()),
        }
        Ok(())
    }
}
