//! Cancels waiting tasks of campaigns that are deleted, or that are running and have passed their end. The latter are then completed as
//! soon as no attempt is in progress.

use async_trait::async_trait;
use eventstore::now;
use projections::campaigns::{self, CampaignAtWork};
use services::{ServiceError, Services};

use crate::engine::{DueWork, ItemKey, Lease};

pub(super) struct EndedCampaigns(pub Services);

#[async_trait]
impl DueWork for EndedCampaigns {
    type Item = CampaignAtWork;

    fn name(&self) -> &'static str {
        "ended_campaigns"
    }

    async fn due(&self, limit: i64) -> Result<Vec<CampaignAtWork>, ServiceError> {
        Ok(campaigns::ended_with_tasks(self.0.pool(), now(), limit).await?)
    }

    fn key(&self, campaign: &CampaignAtWork) -> ItemKey {
        ItemKey { company_id: Some(campaign.company_id), item: campaign.campaign_id.to_string() }
    }

    async fn handle(&self, campaign: &CampaignAtWork, _lease: &Lease) -> Result<(), ServiceError> {
        Ok(self.0.cancel_waiting_tasks(campaign.company_id, campaign.campaign_id).await?)
    }
}
