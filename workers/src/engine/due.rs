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

    /// At most `limit` pieces of work that are due now, the most urgent first.
    async fn due(&self, limit: i64) -> Result<Vec<Self::Item>, ServiceError>;

    fn key(&self, item: &Self::Item) -> ItemKey;

    async fn handle(&self, item: &Self::Item, lease: &Lease) -> Result<(), ServiceError>;
}

/// Runs [`DueWork`].
pub struct Due<W> {
    work: W,
    pool: Pool,
    /// Number of failures that the last round knew. They may be due: the query must find other work beside them.
    failed: usize,
}

impl<W: DueWork> Due<W> {
    pub fn new(work: W, pool: Pool) -> Self {
        Self { work, pool, failed: 0 }
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
        let limit = ITEMS_MAX + self.failed;
        let items = self.work.due(count::to_i64(limit)).await?;
        if items.is_empty() && self.failed == 0 {
            return Ok(Next::AfterPause);
        }
        let name = self.work.name();
        let keys: Vec<_> = items.iter().map(|item| self.work.key(item)).collect();
        if items.len() < limit {
            let due: Vec<_> = keys.iter().map(|key| key.item.clone()).collect();
            failures::forget_others(&self.pool, name, &due).await?;
        }
        let failed = failures::all_of(&self.pool, name).await?;
        self.failed = failed.len();
        let mut done = 0;
        for (item, key) in items.iter().zip(&keys) {
            let before = failed.get(&key.item);
            if before.is_some_and(|failed| !failed.is_due) {
                continue;
            }
            match caught(self.work.handle(item, lease)).await {
                Ok(()) => {
                    done += 1;
                    if before.is_some() {
                        failures::forget(&self.pool, name, &key.item).await?;
                    }
                }
                Err(error) if failures::is_passing(&error) => return Err(error),
                Err(error) => {
                    self.failed += usize::from(before.is_none());
                    failures::record(&self.pool, name, key, &error).await?;
                }
            }
        }
        Ok(if items.len() == limit && done > 0 { Next::AtOnce } else { Next::AfterPause })
    }
}

/// A panic becomes a failure of the work and does not end its worker.
pub(super) async fn caught<T>(work: impl Future<Output = Result<T, ServiceError>>) -> Result<T, ServiceError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(ServiceError::internal(&"the worker panicked")))
}
