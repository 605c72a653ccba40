//! Work that is done every so often.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use services::ServiceError;

use super::{Lease, Next, Worker};

type Work = Box<dyn Fn() -> BoxFuture<'static, Result<(), ServiceError>> + Send>;

/// Work without pieces, which one process does every so often.
pub struct Periodic {
    name: &'static str,
    every: Duration,
    work: Work,
}

impl Periodic {
    pub fn new(
        name: &'static str,
        every: Duration,
        work: impl Fn() -> BoxFuture<'static, Result<(), ServiceError>> + Send + 'static,
    ) -> Self {
        Self { name, every, work: Box::new(work) }
    }
}

#[async_trait]
impl Worker for Periodic {
    fn name(&self) -> &'static str {
        self.name
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn may_be_cut_off(&self) -> bool {
        true
    }

    async fn round(&mut self, _lease: &Lease) -> Result<Next, ServiceError> {
        (self.work)().await?;
        Ok(Next::AfterPause)
    }
}
