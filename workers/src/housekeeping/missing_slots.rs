//! Restores claim slots: every attempt in progress must have one. A slot was deleted if its process seemed to be gone.

use async_trait::async_trait;
use domain::task::Task;
use services::{
    ServiceError, Services,
    claim_slots::{self, ClaimedTask},
};

use crate::engine::{DueWork, ItemKey, Lease};

pub(super) struct MissingSlots(pub Services);

#[async_trait]
impl DueWork for MissingSlots {
    type Item = ClaimedTask;

    fn name(&self) -> &'static str {
        "missing_claim_slots"
    }

    async fn due(&self, limit: i64) -> Result<Vec<ClaimedTask>, ServiceError> {
        Ok(claim_slots::missing(self.0.pool(), limit).await?)
    }

    fn key(&self, claimed: &ClaimedTask) -> ItemKey {
        ItemKey { company_id: Some(claimed.company_id), item: claimed.call_id.to_string() }
    }

    async fn handle(&self, claimed: &ClaimedTask, _lease: &Lease) -> Result<(), ServiceError> {
        let task = self.0.store.load_fresh::<Task>(claimed.company_id, claimed.task_id).await?;
        if task.state.present().is_some_and(|task| task.is_in_progress_with(claimed.call_id))
            && claim_slots::confirm(self.0.pool(), claimed).await?
        {
            tracing::info!(task = %claimed.task_id, call = %claimed.call_id, "an attempt in progress had no claim slot; it was restored");
        }
        Ok(())
    }
}
