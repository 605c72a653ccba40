//! The results of attempts.

use domain::{
    campaign::Campaign,
    outcome::Outcome,
    task::{AttemptFailure, Task, TaskCommand, TaskRefusal},
};
use eventstore::{CommandContext, Committed, StoreError};
use uuid::Uuid;

use crate::{Desk, slots, store_error};

#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    Refused(#[from] TaskRefusal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl Desk {
    /// The attempt came to an end that needs no other attempt.
    pub async fn complete(
        &self,
        context: &CommandContext,
        task_id: Uuid,
        call_id: Uuid,
        outcome: Outcome,
    ) -> Result<Committed<Task>, TaskError> {
        let command = TaskCommand::Complete { call_id, outcome };
        let committed = self.store.execute::<Task>(context, task_id, command).await.map_err(store_error::<_, TaskError>)?;
        slots::release(&self.pool, call_id).await?;
        Ok(committed)
    }

    /// The attempt failed: there will be another as the campaign's retry policy says, or the task has failed.
    pub async fn fail(&self, context: &CommandContext, task_id: Uuid, failure: AttemptFailure) -> Result<Committed<Task>, TaskError> {
        let call_id = failure.call_id;
        let task = self.store.load::<Task>(context.company_id, task_id).await?;
        let campaign_id = task.state.created().ok_or(TaskRefusal::Unknown)?.contact.campaign_id;
        let command = TaskCommand::Fail { failure, retry: self.retry_policy(context, campaign_id).await?, now: context.now };
        let committed = self.store.execute::<Task>(context, task_id, command).await.map_err(store_error::<_, TaskError>)?;
        slots::release(&self.pool, call_id).await?;
        Ok(committed)
    }

    /// The campaign's retry policy; a deleted campaign's tasks are not tried again.
    pub(crate) async fn retry_policy(&self, context: &CommandContext, campaign_id: Uuid) -> Result<domain::retry::RetryPolicy, StoreError> {
        let campaign = self.store.load_fresh::<Campaign>(context.company_id, campaign_id).await?;
        let none = domain::retry::RetryPolicy { max_retries: 0, retry_delay_minutes: 0, retry_backoff: domain::retry::Backoff::Fixed };
        Ok(campaign.state.live().map_or(none, |live| live.settings.retry_policy()))
    }
}
