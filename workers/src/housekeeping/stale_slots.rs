//! Releases claim slots that a crash has left.

use std::time::Duration;

use async_trait::async_trait;
use domain::{call::Call, task::Task};
use services::{ServiceError, Services, claim_slots};
use tokio::time::Instant;

use super::absent_processes::AbsentProcesses;
use crate::engine::{Lease, Next, Runs, Worker};

/// Twice within the longest gap between two looks at absent processes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// It runs in each process: only the process itself knows which of its claims are in progress.
pub(super) struct StaleSlots {
    services: Services,
    absent: AbsentProcesses,
}

impl StaleSlots {
    pub fn new(services: Services) -> Self {
        Self { services, absent: AbsentProcesses::default() }
    }
}

#[async_trait]
impl Worker for StaleSlots {
    fn name(&self) -> &'static str {
        "stale_claim_slots"
    }

    fn runs(&self) -> Runs {
        Runs::InEachProcess
    }

    fn every(&self) -> Duration {
        LOOK_EVERY
    }

    async fn round(&mut self, _lease: &Lease) -> Result<Next, ServiceError> {
        let services = &self.services;
        claim_slots::confirm_claimed(services.pool()).await?;
        let looked = claim_slots::absent_processes(services.pool()).await.inspect_err(|_| self.absent.look_failed())?;
        let gone = self.absent.update(looked, Instant::now());
        for slot in claim_slots::suspicious(services.pool(), &gone).await? {
            // Checked after the slot was read: a claim is in progress before it acquires its slot.
            if !services.claims_under_way().contains(slot.call_id)
                && let Err(error) = resolve(services, &slot).await
            {
                tracing::warn!(%error, task = %slot.task_id, call = %slot.call_id, "a stale claim slot could not be compared with the log");
            }
        }
        Ok(Next::AfterPause)
    }
}

/// Compares a slot with the log. The slot stays open while the attempt is in progress, is closed if the attempt has ended, and is deleted
/// if the log has no claim.
async fn resolve(services: &Services, slot: &claim_slots::Taking) -> Result<(), ServiceError> {
    // The call is read first: events that are appended in between are then visible at the task.
    let call = services.store.load_fresh::<Call>(slot.company_id, slot.call_id).await?;
    let was_claimed = call.state.present().is_some_and(|call| call.subject.task_id == Some(slot.task_id));
    let task = services.store.load_fresh::<Task>(slot.company_id, slot.task_id).await?;
    match (task.state.present().is_some_and(|task| task.is_in_progress_with(slot.call_id)), was_claimed) {
        (true, _) => {}
        (false, true) => claim_slots::release(services.pool(), slot.call_id).await?,
        (false, false) => claim_slots::give_up(services.pool(), slot).await?,
    }
    Ok(())
}
