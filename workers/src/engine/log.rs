//! Work that follows the log.

use std::time::Duration;

use async_trait::async_trait;
use eventstore::{EventStore, Pool, StoredEvent};
use services::ServiceError;
use tokio::time::Instant;

use super::{
    Lease, Next, Worker,
    due::in_time,
    failures::{self, ItemKey},
};

/// Maximum number of events of one page.
const PAGE_EVENTS: i64 = 500;
/// How long the cursor may stay behind the events that were handled: after a crash, those are handled once more.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// How long a round waits for an event.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Work that is done for each event of some categories, in log order and at least once. An event for which it fails is tried again later;
/// the events after it do not wait. If the database or the platform fails, the round ends there and the next one continues.
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
        match in_time(self.work.handle(event, lease)).await {
            Ok(()) if had_failed => Ok(failures::forget(&self.pool, name, &item).await?),
            Ok(()) => Ok(()),
            Err(error) if failures::is_passing(&error) => Err(error),
            Err(error) => Ok(failures::record(&self.pool, name, &ItemKey { company_id: Some(event.company_id), item }, &error).await?),
        }
    }

    /// Tries the events again that failed before and are due. If the database or the platform fails, they stay due and new events do not wait.
    async fn retry(&self, lease: &Lease) -> Result<(), ServiceError> {
        let name = self.work.name();
        for (item, _) in failures::all_of(&self.pool, name).await?.into_iter().filter(|(_, failed)| failed.is_due) {
            let position: i64 = item.parse().map_err(|error| ServiceError::internal(&error))?;
            match self.store.read_page(position - 1, 1).await?.first().filter(|event| event.position == position) {
                Some(event) => {
                    if let Err(error) = self.attempt(event, lease, true).await {
                        tracing::warn!(worker = name, position, %error, "an event that failed before could not be tried again");
                    }
                }
                None => {
                    tracing::error!(worker = name, position, "an event at which a worker failed is not in the log any more");
                    failures::forget(&self.pool, name, &item).await?;
                }
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
        let (mut handled, mut saved_at) = (after, Instant::now());
        for event in self.store.next_page(after, PAGE_EVENTS, WAIT_MAX).await? {
            if self.work.categories().contains(&event.stream.category())
                && let Err(error) = self.attempt(&event, lease, false).await
            {
                lease.move_cursor(handled).await?;
                return Err(error);
            }
            handled = event.position;
            if saved_at.elapsed() >= SAVE_AFTER {
                lease.move_cursor(handled).await?;
                saved_at = Instant::now();
            }
        }
        if handled > after {
            lease.move_cursor(handled).await?;
        }
        Ok(Next::AtOnce)
    }
}
