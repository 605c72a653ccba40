//! Periodic work without a request: completes campaigns that have no tasks left, settles claims whose lease has expired, cancels tasks of
//! campaigns that are deleted or have passed their end, and releases slots that a crash has left.

use std::time::Duration;

use chrono::TimeDelta;
use domain::{
    call::Call,
    campaign::{Campaign, CampaignCommand},
    outcome::{Outcome, was_reached},
    task::{AttemptFailure, FailureCause, Task, TaskCommand, TaskEvent, TaskRefusal, TaskState, TaskStatus},
};
use eventstore::{ActorKind, CommandContext, CommandError as _, ExecuteError, StoreError, StreamName, now};
use projections::{
    call_tasks::{self, ExpiredClaim},
    campaigns,
};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use services::{Services, claim_slots};

use crate::absent_processes::AbsentProcesses;

const ROUND_EVERY: Duration = Duration::from_millis(500);
/// A round that takes longer is blocked by a dead connection.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of expired claims that are settled in one round.
const EXPIRED_MAX: i64 = 200;
/// Maximum number of missing slots that are restored in one round.
const MISSING_MAX: i64 = 200;
/// Number of rounds between two checks of data that changes slowly.
const SLOW_ROUNDS: u32 = 120;

/// Runs housekeeping until shutdown. Several processes may do so at the same time: every command is decided on the log.
pub struct Housekeeping {
    services: Services,
    absent: AbsentProcesses,
}

/// The failure of an attempt whose lease has expired, with the outcome of its call if the call has ended.
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
    pub fn new(services: Services) -> Self {
        Self { services, absent: AbsentProcesses::default() }
    }

    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut round: u32 = 0;
        while !*shutdown.borrow() {
            let health = self.services.store.head().health().clone();
            let keeping = tokio::time::timeout(ROUND_TIMEOUT, self.keep_house(round.is_multiple_of(SLOW_ROUNDS)));
            if !matches!(health.or_unavailable(keeping).await, Ok(Ok(()))) {
                tracing::warn!("a round of housekeeping took too long or the database fell silent; it was cut off");
                self.absent.look_failed();
            }
            round = round.wrapping_add(1);
            let _ = tokio::time::timeout(ROUND_EVERY, shutdown.wait_for(|stop| *stop)).await;
        }
    }
}

/// Logs failed work; a later round retries it.
fn log_failure(work: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{work} failed");
    }
}

impl Housekeeping {
    /// Runs one round. A failure for one campaign or task is logged, and the others are still handled.
    async fn keep_house(&mut self, slowly_changing: bool) {
        let services = &self.services;
        if slowly_changing {
            log_failure("making partitions of the log ahead", services.store.ensure_partitions().await.map(drop));
            log_failure("purging released claim slots", claim_slots::purge(services.pool()).await.map_err(StoreError::from));
        }
        // Work that other processes wait for is done first.
        log_failure("freeing stale claim slots", free_stale_slots(services, &mut self.absent).await);
        log_failure("restoring missing claim slots", restore_missing_slots(services).await);
        log_failure("settling expired claims", settle_expired_claims(services).await);
        log_failure("completing finished campaigns", complete_finished_campaigns(services).await);
        log_failure("cancelling tasks of ended campaigns", cancel_tasks_of_ended_campaigns(services).await);
    }
}

async fn free_stale_slots(services: &Services, absent: &mut AbsentProcesses) -> Result<(), StoreError> {
    claim_slots::confirm_claimed(services.pool()).await?;
    let looked = claim_slots::absent_processes(services.pool()).await.inspect_err(|_| absent.look_failed())?;
    let gone = absent.update(looked, Instant::now());
    for slot in claim_slots::suspicious(services.pool(), &gone).await? {
        // Checked after the slot was read: a claim is in progress before it acquires its slot.
        if !services.claims_under_way().contains(slot.call_id) {
            log_failure("freeing a stale claim slot", resolve_slot(services, &slot).await);
        }
    }
    Ok(())
}

/// Whether this call is the task's attempt in progress.
fn is_in_progress(task: &TaskState, call_id: Uuid) -> bool {
    task.created().is_some_and(|task| task.status == TaskStatus::InProgress && task.call_id == Some(call_id))
}

/// Logs the result of an expired claim.
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

async fn complete_finished_campaigns(services: &Services) -> Result<(), StoreError> {
    for campaign in campaigns::finished(services.pool()).await? {
        let context = CommandContext::system(campaign.company_id, "campaign completion", now());
        let command = CampaignCommand::Complete { total_tasks: count_of_tasks(campaign.total_tasks) };
        match services.store.execute::<Campaign>(&context, campaign.campaign_id, command).await {
            Ok(committed) if !committed.events.is_empty() => tracing::info!(campaign = %campaign.campaign_id, "campaign completed"),
            Ok(_) | Err(ExecuteError::Refused(_)) => {}
            Err(ExecuteError::Store(error)) => log_failure("completing a finished campaign", Err(error)),
        }
    }
    Ok(())
}

async fn settle_expired_claims(services: &Services) -> Result<(), StoreError> {
    for claim in call_tasks::expired_claims(services.pool(), EXPIRED_MAX).await? {
        match settle_expired_claim(services, &claim).await {
            Ok(Some(settled)) => log_settled(&claim, &settled),
            Ok(None) | Err(ExecuteError::Refused(_)) => {}
            Err(error) if error.is_conflict() => {}
            Err(ExecuteError::Store(error)) => log_failure("settling an expired claim", Err(error)),
        }
    }
    Ok(())
}

/// Cancels waiting tasks of campaigns that are deleted, or that are running and have passed their end. The latter are then completed as
/// soon as no attempt is in progress.
async fn cancel_tasks_of_ended_campaigns(services: &Services) -> Result<(), StoreError> {
    for campaign in campaigns::ended_with_tasks(services.pool(), now()).await? {
        log_failure(
            "cancelling the tasks of an ended campaign",
            services.cancel_waiting_tasks(campaign.company_id, campaign.campaign_id).await,
        );
    }
    Ok(())
}

/// Settles the attempt, unless its call shows a sign of life: with the outcome of its call if the call has ended, else as failed. Returns
/// the decided event; `None` if there is none.
async fn settle_expired_claim(services: &Services, claim: &ExpiredClaim) -> Result<Option<TaskEvent>, ExecuteError<TaskRefusal>> {
    let context = CommandContext::system(claim.company_id, "claim lease", now());
    let call = services.store.load_fresh::<Call>(claim.company_id, claim.call_id).await?;
    let lease_sec = claim.lease_sec;
    if call.updated_at + TimeDelta::seconds(i64::from(lease_sec)) > now() {
        return Ok(None);
    }
    let ended = call.state.known().and_then(|call| Some((call.end.as_ref()?, call.classification?.outcome?)));
    // In calls of our own dialer, `system` means that the platform hung up because the process stopped; in other calls, the client defines
    // its meaning.
    let is_own =
        ended.is_some_and(|(end, _)| end.hangup_by.is_some()) && is_dialed_by_us(services, claim.company_id, claim.call_id).await?;
    let command = match ended {
        Some((end, outcome)) if was_reached(outcome, end.hangup_by.as_deref().filter(|_| is_own)) => {
            TaskCommand::Complete { call_id: claim.call_id, outcome }
        }
        ended => {
            let failure = failure_of(claim, ended.map(|(_, outcome)| outcome));
            TaskCommand::Fail { failure, retry: services.retry_policy(&context, claim.campaign_id).await?, now: context.now }
        }
    };
    let mut unit = services.store.unit(&context);
    let decided = unit.decide::<Task>(claim.task_id, command).await?;
    unit.hold(claim.call_id, &call);
    unit.commit().await?;
    claim_slots::release(services.pool(), claim.call_id).await.map_err(StoreError::from)?;
    Ok(decided.events.into_iter().next())
}

/// Whether our own dialer claimed the call's task: the claim dialed the call, and its event has the actor.
async fn is_dialed_by_us(services: &Services, company_id: Uuid, call_id: Uuid) -> Result<bool, StoreError> {
    let history = services.store.read_history(company_id, &[StreamName::of::<Call>(call_id)], 0, 1).await?;
    match history.rows.first() {
        Some(dialed) => Ok(dialed.metadata()?.actor.kind == ActorKind::Dialer),
        None => Ok(false),
    }
}

/// Compares a slot with the log. The slot stays open while the attempt is in progress, is closed if the attempt has ended, and is deleted
/// if the log has no claim.
async fn resolve_slot(services: &Services, slot: &claim_slots::Taking) -> Result<(), StoreError> {
    // The call is read first: events that are appended in between are then visible at the task.
    let call = services.store.load_fresh::<Call>(slot.company_id, slot.call_id).await?;
    let was_claimed = call.state.known().is_some_and(|call| call.subject.task_id == Some(slot.task_id));
    let task = services.store.load_fresh::<Task>(slot.company_id, slot.task_id).await?;
    match (is_in_progress(&task.state, slot.call_id), was_claimed) {
        (true, _) => {}
        (false, true) => claim_slots::release(services.pool(), slot.call_id).await?,
        (false, false) => claim_slots::give_up(services.pool(), slot).await?,
    }
    Ok(())
}

/// Every attempt in progress must have a slot: if the slot was deleted because its process seemed to be gone, it is restored.
async fn restore_missing_slots(services: &Services) -> Result<(), StoreError> {
    for claimed in claim_slots::missing(services.pool(), MISSING_MAX).await? {
        let task = services.store.load_fresh::<Task>(claimed.company_id, claimed.task_id).await?;
        if is_in_progress(&task.state, claimed.call_id) && claim_slots::confirm(services.pool(), &claimed).await? {
            tracing::info!(task = %claimed.task_id, call = %claimed.call_id, "an attempt in progress had no claim slot; it was restored");
        }
    }
    Ok(())
}
