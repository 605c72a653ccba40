use std::time::Duration;

use async_trait::async_trait;
use services::ServiceError;

use super::Lease;

/// Work that the platform does without a request.
#[async_trait]
pub trait Worker: Send {
    /// Names it in the API, in metrics and in the table of leases.
    fn name(&self) -> &'static str;

    fn runs(&self) -> Runs {
        Runs::InOneProcess
    }

    /// The pause after a round that did all that was due.
    fn every(&self) -> Duration;

    /// Does what is due. Work that the process must not lose is recorded before the round ends.
    async fn round(&mut self, lease: &Lease) -> Result<Next, ServiceError>;

    /// Whether a round may be cut off at shutdown, because the next one repeats it.
    fn may_be_cut_off(&self) -> bool {
        false
    }

    /// Ends work that outlives its round, at shutdown.
    async fn stop(&mut self) {}
}

/// Which processes run a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The process that holds the lease.
    InOneProcess,
    /// Each process with the worker's role. Its rounds have no lease: the decisions are made on the log.
    InEachProcess,
}

/// When the next round begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once: more work is due.
    AtOnce,
    /// After the worker's pause.
    AfterPause,
}
