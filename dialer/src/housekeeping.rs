//! What has to happen although nobody asks: campaigns without a task left are completed, claims whose lease has expired are
//! settled, tasks of deleted campaigns and of those that have passed their end are cancelled, slots left over by a crash are given back.

use std::time::Duration;

use chrono::TimeDelta;
use domain::{
    call::Call,
    campaign::{Campaign, CampaignCommand, CampaignState},
    outcome::{Outcome, was_reached},
    task::{AttemptFailure, FailureCause, Task, TaskCommand, TaskEvent, TaskRefusal, TaskState, TaskStatus},
};
use eventstore::{ActorKind, CommandContext, ExecuteError, StoreError, StreamName, now};
use projections::{
    call_tasks::{self, ExpiredClaim},
    campaigns,
};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{Desk, absent_processes::AbsentProcesses, slots};

const ROUND_EVERY: Duration = Duration::from_millis(500);
/// A round that takes longer hangs on a dead connection.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
/// Expired claims that are settled in one round.
const EXPIRED_MAX: i64 = 200;
/// Missing slots that are restored in one round.
const MISSING_MAX: i64 = 200;
/// Tasks that are cancelled in one step.
const CANCEL_MAX: i64 = 500;
/// Rounds between two looks at what changes slowly.
const SLOW_ROUNDS: u32 = 120;

/// Keeps house until told to stop. Several processes may do so at once: every command is decided on the log.
pub struct Housekeeping {
    pub desk: Desk,
    absent: AbsentProcesses,
}

/// The failure of an attempt whose lease has expired, with the outcome that its call ended with, if it did.
fn failure_of(claim: &ExpiredClaim, outcome: Option<Outcome>) -> AttemptFailure {
    let (error_message, cause) = match outcome {
        Some(outcome) => (format!("the call ended with {outcome}"), FailureCause::CallEnded),
        None => (format!("no sign of life for {} seconds", claim.lease_sec), FailureCause::LeaseExpired),
    };
    AttemptFailure { call_id: claim.call_id, error_message: error_message.into(), outcome, cause }
}

#[expect(clippy::expect_used, reason = "a count of rows is not negative")]
fn count_of_tasks(stored: i64) -> u64 {
    stored.try_into().expect("a campaign has no fewer than zero tasks")
}

impl Housekeeping {
    pub fn new(desk: Desk) -> Self {
        Self { desk, absent: AbsentProcesses::default() }
    }

    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut round: u32 = 0;
        while !*shutdown.borrow() {
            let silence = self.desk.store.head().silence().clone();
            let keeping = tokio::time::timeout(ROUND_TIMEOUT, self.keep_house(round.is_multiple_of(SLOW_ROUNDS)));
            if !matches!(silence.unless(keeping).await, Ok(Ok(()))) {
                tracing::warn!("a round of housekeeping took too long or the database fell silent; it was cut off");
                self.absent.look_failed();
            }
            round = round.wrapping_add(1);
            let _ = tokio::time::timeout(ROUND_EVERY, shutdown.wait_for(|stop| *stop)).await;
        }
    }
}

/// Logs work that failed; a later round tries again.
fn log_failure(work: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{work} failed");
    }
}

impl Housekeeping {
    /// One round. What fails for one campaign or task is logged, and the others are done all the same.
    async fn keep_house(&mut self, slowly_changing: bool) {
        let desk = &self.desk;
        if slowly_changing {
            log_failure("making partitions of the log ahead", desk.store.ensure_partitions().await.map(drop));
            log_failure("purging released claim slots", slots::purge(&desk.pool).await.map_err(StoreError::from));
        }
        // What others wait for comes first.
        log_failure("freeing stale claim slots", free_stale_slots(desk, &mut self.absent).await);
        log_failure("restoring missing claim slots", desk.restore_missing_slots().await);
        log_failure("settling expired claims", desk.settle_expired_claims().await);
        log_failure("completing finished campaigns", desk.complete_finished_campaigns().await);
        log_failure("cancelling tasks of ended campaigns", desk.cancel_tasks_of_ended_campaigns().await);
    }
}

async fn free_stale_slots(desk: &Desk, absent: &mut AbsentProcesses) -> Result<(), StoreError> {
    slots::confirm_claimed(&desk.pool).await?;
    let looked = slots::absent_processes(&desk.pool).await.inspect_err(|_| absent.look_failed())?;
    let gone = absent.update(looked, Instant::now());
    for slot in slots::suspicious(&desk.pool, &gone).await? {
        // Asked after the slot was read: a claim is under way before it takes its slot.
        if !desk.claiming.contains(slot.call_id) {
            log_failure("freeing a stale claim slot", desk.resolve_slot(&slot).await);
        }
    }
    Ok(())
}

/// Whether this call is the task's attempt in progress.
fn is_in_progress(task: &TaskState, call_id: Uuid) -> bool {
    task.created().is_some_and(|task| task.status == TaskStatus::InProgress && task.call_id == Some(call_id))
}

/// Logs how the attempt of an expired claim was settled.
fn log_settled(claim: &ExpiredClaim, settled: &TaskEvent) {
    let (task, call) = (claim.task_id, claim.call_id);
    match settled {
        TaskEvent::TaskCompleted { outcome, .. } => {
            tracing::info!(%task, %call, %outcome, "a claim's lease expired; the task is completed, because its call had an outcome");
        }
        TaskEvent::TaskRetryScheduled { next_attempt_at, .. } => {
            tracing::info!(%task, %call, %next_attempt_at, "a claim's lease expired; the attempt counts as failed, and another one will follow");
        }
        TaskEvent::TaskFailed { .. } => {
            tracing::info!(%task, %call, "a claim's lease expired; the attempt counts as failed, and it was the task's last one");
        }
        TaskEvent::TaskCreated(_) | TaskEvent::TaskClaimed { .. } | TaskEvent::TaskCancelled { .. } => {}
    }
}

impl Desk {
    async fn complete_finished_campaigns(&self) -> Result<(), StoreError> {
        for campaign in campaigns::finished(&self.pool).await? {
            let context = CommandContext::system(campaign.company_id, "campaign completion", now());
            let command = CampaignCommand::Complete { total_tasks: count_of_tasks(campaign.total_tasks) };
            match self.store.execute::<Campaign>(&context, campaign.campaign_id, command).await {
                Ok(committed) if !committed.events.is_empty() => tracing::info!(campaign = %campaign.campaign_id, "campaign completed"),
                Ok(_) | Err(ExecuteError::Refused(_)) => {}
                Err(ExecuteError::Store(error)) => log_failure("completing a finished campaign", Err(error)),
            }
        }
        Ok(())
    }

    async fn settle_expired_claims(&self) -> Result<(), StoreError> {
        for claim in call_tasks::expired_claims(&self.pool, EXPIRED_MAX).await? {
            match self.settle_expired_claim(&claim).await {
                Ok(Some(settled)) => log_settled(&claim, &settled),
                Ok(None) | Err(ExecuteError::Refused(_)) => {}
                Err(error) if error.is_conflict() => {}
                Err(ExecuteError::Store(error)) => log_failure("settling an expired claim", Err(error)),
            }
        }
        Ok(())
    }

    /// Cancels what waits in campaigns that are deleted, or run and have passed their end. The latter are then completed as soon as no
    /// attempt is in progress.
    async fn cancel_tasks_of_ended_campaigns(&self) -> Result<(), StoreError> {
        for campaign in campaigns::ended_with_tasks(&self.pool, now()).await? {
            log_failure(
                "cancelling the tasks of an ended campaign",
                self.cancel_waiting_tasks(campaign.company_id, campaign.campaign_id).await,
            );
        }
        Ok(())
    }

    /// Settles the attempt unless its call shows a sign of life after all: by the outcome that its call has ended with, else as failed.
    /// Returns what was decided; `None` if nothing was.
    async fn settle_expired_claim(&self, claim: &ExpiredClaim) -> Result<Option<TaskEvent>, ExecuteError<TaskRefusal>> {
        let context = CommandContext::system(claim.company_id, "claim lease", now());
        let call = self.store.load_fresh::<Call>(claim.company_id, claim.call_id).await?;
        let lease_sec = claim.lease_sec;
        if call.updated_at + TimeDelta::seconds(i64::from(lease_sec)) > now() {
            return Ok(None);
        }
        let ended = call.state.known().and_then(|call| Some((call.end.as_ref()?, call.classification?.outcome?)));
        // Of our own dialer's calls the platform itself hangs up when the process stops; what others call `system` is theirs.
        let is_own = ended.is_some_and(|(end, _)| end.hangup_by.is_some()) && self.is_dialed_by_us(claim.company_id, claim.call_id).await?;
        let command = match ended {
            Some((end, outcome)) if was_reached(outcome, end.hangup_by.as_deref().filter(|_| is_own)) => {
                TaskCommand::Complete { call_id: claim.call_id, outcome }
            }
            ended => {
                let failure = failure_of(claim, ended.map(|(_, outcome)| outcome));
                TaskCommand::Fail { failure, retry: self.retry_policy(&context, claim.campaign_id).await?, now: context.now }
            }
        };
        let mut unit = self.store.unit(&context);
        let decided = unit.decide::<Task>(claim.task_id, command).await?;
        unit.hold(claim.call_id, &call);
        unit.commit().await?;
        slots::release(&self.pool, claim.call_id).await.map_err(StoreError::from)?;
        Ok(decided.events.into_iter().next())
    }

    /// Whether our own dialer claimed the call's task: the claim dialed the call, and its event says for which actor.
    async fn is_dialed_by_us(&self, company_id: Uuid, call_id: Uuid) -> Result<bool, StoreError> {
        let history = self.store.read_history(company_id, &[StreamName::of::<Call>(call_id)], 0, 1).await?;
        match history.rows.first() {
            Some(dialed) => Ok(dialed.metadata()?.actor.kind == ActorKind::Dialer),
            None => Ok(false),
        }
    }

    /// Compares a slot with the log. It stays open while the attempt is in progress, is closed if the attempt has ended, and is deleted if the
    /// log has no claim.
    async fn resolve_slot(&self, slot: &slots::Taking) -> Result<(), StoreError> {
        // The call first: what is appended in between is then seen at the task.
        let call = self.store.load_fresh::<Call>(slot.company_id, slot.call_id).await?;
        let was_claimed = call.state.known().is_some_and(|call| call.subject.task_id == Some(slot.task_id));
        let task = self.store.load_fresh::<Task>(slot.company_id, slot.task_id).await?;
        match (is_in_progress(&task.state, slot.call_id), was_claimed) {
            (true, _) => {}
            (false, true) => slots::release(&self.pool, slot.call_id).await?,
            (false, false) => slots::give_up(&self.pool, slot).await?,
        }
        Ok(())
    }

    /// An attempt that is in progress has a slot: one whose slot was deleted, because its process seemed to be gone, gets it back.
    async fn restore_missing_slots(&self) -> Result<(), StoreError> {
        for claimed in slots::missing(&self.pool, MISSING_MAX).await? {
            let task = self.store.load_fresh::<Task>(claimed.company_id, claimed.task_id).await?;
            if is_in_progress(&task.state, claimed.call_id) && slots::confirm(&self.pool, &claimed).await? {
                tracing::info!(task = %claimed.task_id, call = %claimed.call_id, "an attempt in progress had no claim slot; it was restored");
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

    /// Cancels the waiting tasks of a campaign that is deleted, or runs and has passed its end, as far as the read model knows them.
    pub async fn cancel_waiting_tasks(&self, company_id: Uuid, campaign_id: Uuid) -> Result<(), StoreError> {
        let campaign = self.store.load_fresh::<Campaign>(company_id, campaign_id).await?;
        let reason = match campaign.state.as_ref() {
            CampaignState::Deleted => "campaign deletion",
            CampaignState::Live(live) if live.is_over(now()) => "campaign end",
            CampaignState::Live(_) | CampaignState::None => return Ok(()),
        };
        let context = CommandContext::system(company_id, reason, now());
        let mut unit = self.store.unit(&context);
        if *campaign.state != CampaignState::Deleted {
            // Its end may be moved at this moment.
            unit.hold(campaign_id, &campaign);
        }
        for task_id in call_tasks::waiting_of(&self.pool, campaign_id, CANCEL_MAX).await? {
            match unit.decide::<Task>(task_id, TaskCommand::Cancel).await {
                Ok(_) | Err(ExecuteError::Refused(_)) => {}
                Err(ExecuteError::Store(error)) => return Err(error),
            }
        }
        match unit.commit().await {
            Ok(_) => Ok(()),
            // One of the tasks, or the campaign, has changed meanwhile: the next round looks again.
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
