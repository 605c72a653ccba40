//! The results of attempts.

use chrono::{DateTime, Utc};
use domain::{
    campaign::Campaign,
    outcome::Outcome,
    retry::{Backoff, RetryPolicy},
    task::{AttemptFailure, CreatedTask, Task, TaskCommand, TaskStatus},
};
use eventstore::{CommandContext, Committed, Loaded, StoreError};
use projections::campaigns;
use uuid::Uuid;

use crate::{OpContext, ServiceError, Services, StateConflict, Versioned, claim_slots};

impl Services {
    /// Completes the attempt; no other attempt is needed.
    pub async fn complete_task(
        &self,
        op: &OpContext,
        task_id: Uuid,
        call_id: Uuid,
        outcome: Outcome,
    ) -> Result<Versioned<CreatedTask>, ServiceError> {
        let command = TaskCommand::Complete { call_id, outcome };
        let committed = self.store.execute::<Task>(&op.command, task_id, command).await?;
        claim_slots::release(&self.claims, call_id).await?;
        self.task(op.company_id(), task_id, committed).await
    }

    /// Records that the attempt failed: either another attempt follows the campaign's retry policy, or the task has failed.
    pub async fn fail_task(&self, op: &OpContext, task_id: Uuid, failure: AttemptFailure) -> Result<Versioned<CreatedTask>, ServiceError> {
        let call_id = failure.call_id;
        let task = self.store.load::<Task>(op.company_id(), task_id).await?;
        let campaign_id = task.state.require("task")?.contact.campaign_id;
        let command = TaskCommand::Fail { failure, retry: self.retry_policy(&op.command, campaign_id).await?, now: op.command.now };
        let committed = self.store.execute::<Task>(&op.command, task_id, command).await?;
        claim_slots::release(&self.claims, call_id).await?;
        self.task(op.company_id(), task_id, committed).await
    }

    /// Cancels a waiting task: its person is not called again. An attempt in progress is not interrupted.
    pub async fn cancel_task(&self, op: &OpContext, task_id: Uuid) -> Result<Versioned<CreatedTask>, ServiceError> {
        let committed = self.store.execute::<Task>(&op.command, task_id, TaskCommand::Cancel).await?;
        match committed.state.require("task")?.status {
            TaskStatus::Cancelled => self.task(op.company_id(), task_id, committed).await,
            status => Err(ServiceError::conflict(StateConflict::TaskIs { status })),
        }
    }

    async fn task(&self, company_id: Uuid, id: Uuid, committed: Committed<Task>) -> Result<Versioned<CreatedTask>, ServiceError> {
        let loaded: Loaded<Task> = self.store.load(company_id, id).await?;
        let task = committed.state.require("task")?.clone();
        Ok(Versioned::of_committed(id, &committed, &loaded, task))
    }

    /// The task as of a given time, from the events that were recorded until then.
    pub async fn task_as_of(&self, company_id: Uuid, id: Uuid, moment: DateTime<Utc>) -> Result<Versioned<CreatedTask>, ServiceError> {
        let loaded: Loaded<Task> = self.store.load_as_of(company_id, id, moment).await?;
        let task = loaded.state.require("task at that moment")?.clone();
        Ok(Versioned::of_loaded(id, &loaded, loaded.position, task))
    }

    /// Maximum number of attempts of a campaign's tasks at a time, by default at present. The settings of a deleted campaign stay what they
    /// were.
    pub async fn max_attempts(&self, company_id: Uuid, campaign_id: Uuid, as_of: Option<DateTime<Utc>>) -> Result<u32, ServiceError> {
        let loaded: Loaded<Campaign> = match as_of {
            None => self.store.load(company_id, campaign_id).await?,
            Some(moment) => self.store.load_as_of(company_id, campaign_id, moment).await?,
        };
        if let Some(campaign) = loaded.state.present() {
            return Ok(campaign.settings.max_retries);
        }
        let mut read = self.read_by_key(company_id, &[campaigns::READ_MODEL], None).await?;
        let row = campaigns::get(&mut read, company_id, campaign_id).await?.ok_or_else(|| ServiceError::not_found("campaign"))?;
        Ok(row.into_data()?.settings.max_retries)
    }

    /// The campaign's retry policy; tasks of a campaign that is deleted or finishing are not retried.
    pub async fn retry_policy(&self, context: &CommandContext, campaign_id: Uuid) -> Result<RetryPolicy, StoreError> {
        let campaign = self.store.load_fresh::<Campaign>(context.company_id, campaign_id).await?;
        let none = RetryPolicy { max_retries: 0, retry_delay_minutes: 0, retry_backoff: Backoff::Fixed };
        Ok(campaign.state.present().filter(|live| !live.is_finishing).map_or(none, |live| live.settings.retry_policy()))
    }
}
