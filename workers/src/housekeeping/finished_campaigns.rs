//! Completes running campaigns that have no task left to do.

use async_trait::async_trait;
use domain::campaign::{Campaign, CampaignCommand};
use eventstore::{CommandContext, CommandError as _, ExecuteError, now};
use projections::{
    call_tasks,
    campaigns::{self, CampaignAtWork},
};
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
        let &CampaignAtWork { company_id, campaign_id } = campaign;
        let context = CommandContext::system(company_id, "campaign completion", now());
        let loaded = self.0.store.load_fresh::<Campaign>(company_id, campaign_id).await?;
        let Some(live) = loaded.state.present() else { return Ok(()) };
        // Tasks may have been put back: the read model must have them before it shows that none is left.
        self.0.wait_for(&[campaigns::READ_MODEL, call_tasks::READ_MODEL], Some(loaded.position)).await?;
        if !campaigns::is_finished(self.0.pool(), company_id, campaign_id).await? {
            return Ok(());
        }
        let complete = CampaignCommand::Complete { total_tasks: live.total_tasks, last_reopened: live.last_reopened };
        match self.0.store.execute::<Campaign>(&context, campaign_id, complete).await {
            Ok(committed) if !committed.events.is_empty() => tracing::info!(campaign = %campaign.campaign_id, "campaign completed"),
            // A refusal: the campaign has got tasks or another status meanwhile.
            Ok(_) | Err(ExecuteError::Refused(_)) => {}
            Err(error) if error.is_conflict() => {}
            Err(ExecuteError::Store(error)) => return Err(error.into()),
        }
        Ok(())
    }
}
