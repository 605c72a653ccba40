//! What has to happen although nobody asks: campaigns without a task left are completed, claims whose worker is gone are
//! released, tasks of deleted campaigns are cancelled, slots left over by a crash are given back.

use std::time::Duration;

use chrono::TimeDelta;
use domain::{
    call::Call,
    campaign::{Campaign, CampaignCommand, CampaignState},
    task::{AttemptFailure, FailureCause, Task, TaskCommand, TaskStatus},
};
use eventstore::{CommandContext, ExecuteError, StoreError, now};
use projections::{
    call_tasks::{self, ExpiredClaim},
    campaigns,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{Desk, slots};

const ROUND_EVERY: Duration = Duration::from_millis(500);
/// A round that takes longer hangs on a dead connection.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
/// Claims that are released in one round.
const EXPIRED_MAX: i64 = 200;
/// Tasks that are cancelled in one step.
const CANCEL_MAX: i64 = 500;
/// Rounds between two looks at what changes slowly.
const SLOW_ROUNDS: u32 = 120;

/// Keeps house until told to stop. Several processes may do so at once: every command is decided on the log.
pub struct Housekeeping(pub Desk);

impl Housekeeping {
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut round: u32 = 0;
        while !*shutdown.borrow() {
            let keeping = tokio::time::timeout(ROUND_TIMEOUT, self.0.keep_house(round.is_multiple_of(SLOW_ROUNDS)));
            if !matches!(self.0.store.head().silence().unless(keeping).await, Ok(Ok(()))) {
                tracing::warn!("a round of housekeeping took too long or the database fell silent; it was cut off");
            }
            round = round.wrapping_add(1);
            let _ = tokio::time::timeout(ROUND_EVERY, shutdown.wait_for(|stop| *stop)).await;
        }
    }
}

/// Logs what could not be done this time.
fn note(what: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "housekeeping left {what} for later");
    }
}

impl Desk {
    /// One round. What fails for one campaign or task is logged, and the others go on.
    async fn keep_house(&self, slowly_changing: bool) {
        if slowly_changing {
            note("the log's room ahead", self.store.ensure_partitions().await.map(drop));
            note("old claim slots", slots::purge(&self.pool).await.map_err(StoreError::from));
        }
        note("finished campaigns", self.complete_finished_campaigns().await);
        note("expired claims", self.release_expired_claims().await);
        note("claim slots left over", self.free_stale_slots().await);
        note("tasks of deleted campaigns", self.cancel_tasks_of_deleted_campaigns().await);
    }

    async fn complete_finished_campaigns(&self) -> Result<(), StoreError> {
        for campaign in campaigns::finished(&self.pool).await? {
            let context = CommandContext::system(campaign.company_id, "campaign completion", now());
            let command = CampaignCommand::Complete { total_tasks: u64::try_from(campaign.total_tasks).unwrap_or_default() };
            match self.store.execute::<Campaign>(&context, campaign.campaign_id, command).await {
                Ok(committed) if !committed.events.is_empty() => tracing::info!(campaign = %campaign.campaign_id, "campaign completed"),
                Ok(_) | Err(ExecuteError::Refused(_)) => {}
                Err(ExecuteError::Store(error)) => note("a finished campaign", Err(error)),
            }
        }
        Ok(())
    }

    async fn release_expired_claims(&self) -> Result<(), StoreError> {
        for claim in call_tasks::expired_claims(&self.pool, EXPIRED_MAX).await? {
            match self.release_expired(&claim).await {
                Ok(true) => {
                    tracing::info!(task = %claim.task_id, call = %claim.call_id, "a claim's lease expired; the attempt counts as failed")
                }
                Ok(false) | Err(ExecuteError::Refused(_)) => {}
                Err(error) if error.is_conflict() => {}
                Err(ExecuteError::Store(error)) => note("an expired claim", Err(error)),
            }
        }
        Ok(())
    }

    async fn cancel_tasks_of_deleted_campaigns(&self) -> Result<(), StoreError> {
        for campaign in campaigns::deleted_with_tasks(&self.pool).await? {
            note("a deleted campaign", self.cancel_waiting_tasks(campaign.company_id, campaign.campaign_id).await);
        }
        Ok(())
    }

    /// Fails the attempt unless its call shows a sign of life after all. Says whether it did.
    async fn release_expired(&self, claim: &ExpiredClaim) -> Result<bool, ExecuteError<domain::task::TaskRefusal>> {
        let context = CommandContext::system(claim.company_id, "claim lease", now());
        let call = self.store.load_fresh::<Call>(claim.company_id, claim.call_id).await?;
        let lease_sec = claim.lease_sec;
        if call.updated_at + TimeDelta::seconds(i64::from(lease_sec)) > now() {
            return Ok(false);
        }
        let failure = AttemptFailure {
            call_id: claim.call_id,
            error_message: format!("no sign of life for {lease_sec} seconds").into(),
            outcome: None,
            cause: FailureCause::LeaseExpired,
        };
        let retry = self.retry_policy(&context, claim.campaign_id).await?;
        let mut unit = self.store.unit(&context);
        let decided = unit.decide::<Task>(claim.task_id, TaskCommand::Fail { failure, retry, now: context.now }).await?;
        unit.hold(claim.call_id, &call);
        unit.commit().await?;
        slots::release(&self.pool, claim.call_id).await.map_err(StoreError::from)?;
        Ok(!decided.events.is_empty())
    }

    async fn free_stale_slots(&self) -> Result<(), StoreError> {
        for slot in slots::suspicious(&self.pool).await? {
            let task = match self.store.load_fresh::<Task>(slot.company_id, slot.task_id).await {
                Ok(task) => task,
                Err(error) => {
                    note("a claim slot", Err(error));
                    continue;
                }
            };
            let in_progress =
                task.state.created().is_some_and(|task| task.status == TaskStatus::InProgress && task.call_id == Some(slot.call_id));
            if !in_progress {
                slots::release(&self.pool, slot.call_id).await?;
            }
        }
        Ok(())
    }

    /// Cancels what is still to be done to reach a person. How many tasks it were.
    pub async fn cancel_tasks_of(&self, context: &CommandContext, person_id: Uuid) -> Result<usize, StoreError> {
        let mut cancelled = 0;
        for task_id in call_tasks::waiting_for(&self.pool, context.company_id, person_id).await? {
            match self.store.execute::<Task>(context, task_id, TaskCommand::Cancel).await {
                Ok(committed) => cancelled += committed.events.len(),
                Err(ExecuteError::Refused(_)) => {}
                Err(ExecuteError::Store(error)) => return Err(error),
            }
        }
        Ok(cancelled)
    }

    /// Cancels a deleted campaign's waiting tasks, as far as the read model knows them.
    pub async fn cancel_waiting_tasks(&self, company_id: Uuid, campaign_id: Uuid) -> Result<(), StoreError> {
        let campaign = self.store.load_fresh::<Campaign>(company_id, campaign_id).await?;
        if *campaign.state != CampaignState::Deleted {
            return Ok(());
        }
        let context = CommandContext::system(company_id, "campaign deletion", now());
        let mut unit = self.store.unit(&context);
        for task_id in call_tasks::waiting_of(&self.pool, campaign_id, CANCEL_MAX).await? {
            match unit.decide::<Task>(task_id, TaskCommand::Cancel).await {
                Ok(_) | Err(ExecuteError::Refused(_)) => {}
                Err(ExecuteError::Store(error)) => return Err(error),
            }
        }
        match unit.commit().await {
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
