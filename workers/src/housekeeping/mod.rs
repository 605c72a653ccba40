//! Work that keeps campaigns and tables in order, one worker per file. Every decision is made on the log, so that a worker that runs twice
//! does no harm.

mod absent_processes;
mod ended_campaigns;
mod expired_claims;
mod finished_campaigns;
mod missing_slots;
mod stale_slots;

use std::time::Duration;

use futures::FutureExt as _;
use services::{ServiceError, Services, claim_slots};

use crate::engine::{Due, Periodic, Worker};

/// The pause of workers for what changes slowly.
const SELDOM: Duration = Duration::from_secs(60);

/// The workers of housekeeping.
pub fn workers(services: &Services) -> Vec<Box<dyn Worker>> {
    let pool = services.pool().clone();
    let (store, slots) = (services.store.clone(), pool.clone());
    vec![
        Box::new(stale_slots::StaleSlots::new(services.clone())),
        Box::new(Due::new(missing_slots::MissingSlots(services.clone()), pool.clone())),
        Box::new(Due::new(expired_claims::ExpiredClaims(services.clone()), pool.clone())),
        Box::new(Due::new(finished_campaigns::FinishedCampaigns(services.clone()), pool.clone())),
        Box::new(Due::new(ended_campaigns::EndedCampaigns(services.clone()), pool)),
        Box::new(Periodic::new("log_partitions", SELDOM, move || {
            let store = store.clone();
            async move { Ok(store.ensure_partitions().await.map(drop)?) }.boxed()
        })),
        Box::new(Periodic::new("claim_slot_purge", SELDOM, move || {
            let slots = slots.clone();
            async move { claim_slots::purge(&slots).await.map_err(ServiceError::from) }.boxed()
        })),
    ]
}
