//! Work that is due by time.

use std::{panic::AssertUnwindSafe, time::Duration};

use async_trait::async_trait;
use domain::count;
use eventstore::Pool;
use futures::FutureExt as _;
use services::ServiceError;

use super::{
    Lease, Next, Worker,
    failures::{self, ItemKey},
};

/// Maximum number of pieces of work that are done in one round.
const ITEMS_MAX: usize = 200;
/// How long one piece of work may take; then its attempt has failed.
const HANDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// After so many failures of the database or the platform, a round ends.
const PASSING_MAX: usize = 10;

/// Work that a query over the read models finds when it is due. A piece of work is done at least once; the same piece may be found again
/// until the read model includes what was done.
#[async_trait]
pub trait DueWork: Send + Sync {
    type Item: Send + Sync;

    fn name(&self) -> &'static str;

    /// How often the query is sent while nothing is due.
    fn every(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// At most `limit` pieces of work that are due now.
    async fn due(&self, limit: i64) -> Result<Vec<Self::Item>, ServiceError>;

    fn key(&self, item: &Self::Item) -> ItemKey;

    async fn handle(&self, item: &Self::Item, lease: &Lease) -> Result<(), ServiceError>;
}

/// Runs [`DueWork`].
pub struct Due<W> {
    work: W,
    pool: Pool,
    /// Number of failures that the last round knew; `None` before the first round. They may be due: the query must find other work beside
    /// them.
    failed: Option<usize>,
    /// The work that the last round found.
    found: Vec<String>,
}

impl<W: DueWork> Due<W> {
    pub fn new(work: W, pool: Pool) -> Self {
        Self { work, pool, failed: None, found: Vec::new() }
    }
}

#[async_trait]
impl<W: DueWork> Worker for Due<W> {
    fn name(&self) -> &'static str {
        self.work.name()
    }

    fn every(&self) -> Duration {
        self.work.every()
    }

    async fn round(&mut self, lease: &Lease) -> Result<Next, ServiceError> {
        let limit = ITEMS_MAX + self.failed.unwrap_or_default();
        let items = self.work.due(count::to_i64(limit)).await?;
        if items.is_empty() && self.failed == Some(0) {
            return Ok(Next::AfterPause);
        }
        let name = self.work.name();
        let keys: Vec<_> = items.iter().map(|item| self.work.key(item)).collect();
        let found: Vec<_> = keys.iter().map(|key| key.item.clone()).collect();
        if items.len() < limit {
            failures::forget_others(&self.pool, name, &found).await?;
        }
        let failed = failures::all_of(&self.pool, name).await?;
        let mut count_failed = failed.len();
        let mut passing = Vec::new();
        for (item, key) in items.iter().zip(&keys) {
            let before = failed.get(&key.item);
            if before.is_some_and(|failed| !failed.is_due) {
                continue;
            }
            match in_time(self.work.handle(item, lease)).await {
                Ok(()) if before.is_some() => failures::forget(&self.pool, name, &key.item).await?,
                Ok(()) => {}
                Err(error) if failures::is_passing(&error) => {
                    passing.push(error);
                    if passing.len() == PASSING_MAX {
                        break;
                    }
                }
                Err(error) => {
                    count_failed += usize::from(before.is_none());
                    failures::record(&self.pool, name, key, &error).await?;
                }
            }
        }
        self.failed = Some(count_failed);
        // While the read model is behind, it shows the same work again.
        let is_new = std::mem::replace(&mut self.found, found) != self.found;
        match passing.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(if items.len() == limit && is_new { Next::AtOnce } else { Next::AfterPause }),
        }
    }
}

/// A piece of work that takes too long has failed.
pub(super) async fn in_time(work: impl Future<Output = Result<(), ServiceError>>) -> Result<(), ServiceError> {
    let late = |_| Err(ServiceError::internal(&"the work took too long"));
    tokio::time::timeout(HANDLE_TIMEOUT, caught(work)).await.unwrap_or_else(late)
}

/// A panic becomes a failure of the work and does not end its worker.
pub(super) async fn caught<T>(work: impl Future<Output = Result<T, ServiceError>>) -> Result<T, ServiceError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(ServiceError::internal(&"the worker panicked")))
}
