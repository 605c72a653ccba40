//! Settles claims whose lease has expired.

use async_trait::async_trait;
use chrono::TimeDelta;
use domain::{
    call::Call,
    outcome::{Outcome, was_reached},
    task::{AttemptFailure, FailureCause, Task, TaskCommand, TaskEvent, TaskRefusal},
};
use eventstore::{ActorKind, CommandContext, CommandError as _, ExecuteError, StoreError, StreamName, now};
use projections::call_tasks::{self, ExpiredClaim};
use services::{ServiceError, Services, claim_slots};
use uuid::Uuid;

use crate::engine::{DueWork, ItemKey, Lease};

pub(super) struct ExpiredClaims(pub Services);

#[async_trait]
impl DueWork for ExpiredClaims {
    type Item = ExpiredClaim;

    fn name(&self) -> &'static str {
        "expired_claims"
    }

    async fn due(&self, limit: i64) -> Result<Vec<ExpiredClaim>, ServiceError> {
        Ok(call_tasks::expired_claims(self.0.pool(), limit).await?)
    }

    fn key(&self, claim: &ExpiredClaim) -> ItemKey {
        ItemKey { company_id: Some(claim.company_id), item: claim.call_id.to_string() }
    }

    async fn handle(&self, claim: &ExpiredClaim, _lease: &Lease) -> Result<(), ServiceError> {
        match settle(&self.0, claim).await {
            Ok(Some(settled)) => log_settled(claim, &settled),
            // A refusal: the attempt has ended meanwhile.
            Ok(None) | Err(ExecuteError::Refused(_)) => {}
            Err(error) if error.is_conflict() => {}
            Err(ExecuteError::Store(error)) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Settles the attempt, unless its call shows a sign of life: with the outcome of its call if the call has ended, else as failed. Returns
/// the decided event; `None` if there is none.
async fn settle(services: &Services, claim: &ExpiredClaim) -> Result<Option<TaskEvent>, ExecuteError<TaskRefusal>> {
    let context = CommandContext::system(claim.company_id, "claim lease", now());
    let call = services.store.load_fresh::<Call>(claim.company_id, claim.call_id).await?;
    let lease_sec = claim.lease_sec;
    if call.updated_at + TimeDelta::seconds(i64::from(lease_sec)) > now() {
        return Ok(None);
    }
    let ended = call.state.present().and_then(|call| Some((call.end.as_ref()?, call.classification?.outcome?)));
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

/// The failure of an attempt whose lease has expired, with the outcome of its call if the call has ended.
fn failure_of(claim: &ExpiredClaim, outcome: Option<Outcome>) -> AttemptFailure {
    let (error_message, cause) = match outcome {
        Some(outcome) => (format!("the call ended with {outcome}"), FailureCause::CallEnded),
        None => (format!("no sign of life for {} seconds", claim.lease_sec), FailureCause::LeaseExpired),
    };
    AttemptFailure { call_id: claim.call_id, error_message: error_message.into(), outcome, cause }
}

/// Whether our own dialer claimed the call's task: the claim dialed the call, and its event has the actor.
async fn is_dialed_by_us(services: &Services, company_id: Uuid, call_id: Uuid) -> Result<bool, StoreError> {
    let history = services.store.read_history(company_id, &[StreamName::of::<Call>(call_id)], 0, 1).await?;
    match history.rows.first() {
        Some(dialed) => Ok(dialed.metadata()?.actor.kind == ActorKind::Dialer),
        None => Ok(false),
    }
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
        TaskEvent::TaskCreated(_) | TaskEvent::TaskClaimed { .. } | TaskEvent::TaskCancelled { .. } | TaskEvent::TaskReopened { .. } => {}
    }
}
