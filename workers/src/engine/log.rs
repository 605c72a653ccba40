//! Work that follows the log.

use std::time::Duration;

use async_trait::async_trait;
use eventstore::{EventStore, Pool, StoredEvent};
use services::ServiceError;

use super::{
    Lease, Next, Worker,
    due::caught,
    failures::{self, ItemKey},
};

/// Maximum number of events of one page.
const PAGE_EVENTS: i64 = 500;
/// Maximum number of events that are handled before the cursor is saved: after a crash, at most so many are handled once more.
const SAVE_EVERY: usize = 50;
/// How long a round waits for an event.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Work that is done for each event of some categories, in log order and at least once. An event for which it fails is tried again later;
/// the events after it do not wait.
#[async_trait]
pub trait LogWork: Send + Sync {
    fn name(&self) -> &'static str;

    /// Categories of the streams whose events are its work.
    fn categories(&self) -> &'static [&'static str];

    async fn handle(&self, event: &StoredEvent, lease: &Lease) -> Result<(), ServiceError>;
}

/// Runs [`LogWork`]. At its very first start it begins at the end of the log.
pub struct FollowsLog<W> {
    work: W,
    pool: Pool,
    store: EventStore,
}

impl<W: LogWork> FollowsLog<W> {
    pub const fn new(work: W, pool: Pool, store: EventStore) -> Self {
        Self { work, pool, store }
    }

    async fn attempt(&self, event: &StoredEvent, lease: &Lease, had_failed: bool) -> Result<(), ServiceError> {
        let (name, item) = (self.work.name(), event.position.to_string());
        match caught(self.work.handle(event, lease)).await {
            Ok(()) if had_failed => Ok(failures::forget(&self.pool, name, &item).await?),
            Ok(()) => Ok(()),
            Err(error) if failures::is_passing(&error) => Err(error),
            Err(error) => Ok(failures::record(&self.pool, name, &ItemKey { company_id: Some(event.company_id), item }, &error).await?),
        }
    }

    /// Tries the events again that failed before and are due.
    async fn retry(&self, lease: &Lease) -> Result<(), ServiceError> {
        for (item, _) in failures::all_of(&self.pool, self.work.name()).await?.into_iter().filter(|(_, failed)| failed.is_due) {
            let position: i64 = item.parse().map_err(|error| ServiceError::internal(&error))?;
            if let Some(event) = self.store.read_page(position - 1, 1).await?.first().filter(|event| event.position == position) {
                self.attempt(event, lease, true).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl<W: LogWork> Worker for FollowsLog<W> {
    fn name(&self) -> &'static str {
        self.work.name()
    }

    /// It waits for events within its rounds.
    fn every(&self) -> Duration {
        Duration::ZERO
    }

    async fn round(&mut self, lease: &Lease) -> Result<Next, ServiceError> {
        let after = lease.cursor(self.store.last_position().await?).await?;
        self.retry(lease).await?;
        let page = self.store.next_page(after, PAGE_EVENTS, WAIT_MAX).await?;
        for events in page.chunks(SAVE_EVERY) {
            for event in events.iter().filter(|event| self.work.categories().contains(&event.stream.category())) {
                self.attempt(event, lease, false).await?;
            }
            if let Some(last) = events.last() {
                lease.move_cursor(last.position).await?;
            }
        }
        Ok(Next::AtOnce)
    }
}
