//! Catch-up subscriptions: all events from a position on in large pages, then new events within milliseconds.
//!
//! A subscription trusts only the log: a notification of new events only makes it read sooner. It survives lost connections and restarts of
//! the server.

use std::time::Duration;

use tokio::{task::JoinHandle, time::Instant};

use crate::{
    database::Pool,
    error::StoreError,
    event::StoredEvent,
    head::Head,
    read::{self, PAGE_EVENTS_MAX},
};

/// How long to wait before the database is tried again, unless the subscription was made with another pause.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// A place in the log that moves forward.
pub struct Subscription {
    pool: Pool,
    head: Head,
    after: i64,
    page_events: i64,
    retry_every: Duration,
    /// The page after the one that is being processed.
    ahead: Option<JoinHandle<Result<Vec<StoredEvent>, StoreError>>>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.abort();
        }
    }
}

impl Subscription {
    pub(crate) fn new(pool: Pool, head: Head, after: i64) -> Self {
        Self { pool, head, after, page_events: PAGE_EVENTS_MAX, retry_every: RETRY_EVERY, ahead: None }
    }

    /// With pages of at most so many events.
    #[must_use]
    pub fn page_events(mut self, max: i64) -> Self {
        self.page_events = max.clamp(1, PAGE_EVENTS_MAX);
        self
    }

    /// Waits so long before it tries again to read what the database did not give.
    #[must_use]
    pub fn retry_every(mut self, pause: Duration) -> Self {
        self.retry_every = pause;
        self
    }

    /// The position of the last event that was returned, or where the subscription began.
    pub const fn position(&self) -> i64 {
        self.after
    }

    /// The next events in log order, without a gap: at least one, or none if none arrived within `wait_max`. Fails if the database could
    /// not be read during all that time, or if an event is missing from the log; the next call continues from the same place.
    pub async fn next(&mut self, wait_max: Duration) -> Result<Vec<StoredEvent>, StoreError> {
        let deadline = Instant::now() + wait_max;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            // Read before the page: an event that is appended in between is in the page or raises the head beyond this position.
            let known = self.head.position();
            match self.page().await {
                Ok(page) if page.is_empty() && remaining.is_zero() => return Ok(page),
                Ok(page) if page.is_empty() => {
                    // After a failover the log may be shorter than this process has seen.
                    if known > self.after {
                        tokio::time::sleep(self.retry_every.min(remaining)).await;
                    }
                    self.head.beyond(self.after, remaining).await;
                }
                Ok(page) => {
                    self.after = page.last().map_or(self.after, |event| event.position);
                    // A subscription that is behind needs the next page as soon as this one is done.
                    if self.head.position() > self.after {
                        let (pool, head, after, limit) = (self.pool.clone(), self.head.clone(), self.after, self.page_events);
                        self.ahead =
                            Some(tokio::spawn(async move { head.health().or_unavailable(read::page(&pool, after, limit)).await? }));
                    }
                    return Ok(page);
                }
                Err(error @ StoreError::Unreadable { .. }) => return Err(error),
                Err(error) if remaining.is_zero() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, after = self.after, "a subscription waits for the database");
                    tokio::time::sleep(self.retry_every.min(remaining)).await;
                }
            }
        }
    }

    async fn page(&mut self) -> Result<Vec<StoredEvent>, StoreError> {
        if let Some(ahead) = self.ahead.take()
            && let Ok(Ok(page)) = ahead.await
            && !page.is_empty()
        {
            return Ok(page);
        }
        self.head.health().or_unavailable(read::page(&self.pool, self.after, self.page_events)).await?
    }
}
