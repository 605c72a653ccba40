//! Works on campaigns: claims due tasks, dials through a provider, records what happened. The API claims and records through
//! the same commands. Events that are read again never drive anything here.

mod absent_processes;
mod calls;
mod claim;
mod claims_under_way;
mod dialing;
mod housekeeping;
mod provider;
pub mod simulator;
mod slots;
mod tasks;

use eventstore::{EventStore, ExecuteError, Pool, StoreError};
use projections::Positions;

pub use calls::{CallError, Recorded};
pub use claim::{Claim, ClaimError, NothingToClaim, Worker};
pub use claims_under_way::ClaimsUnderWay;
pub use dialing::Dialer;
pub use housekeeping::Housekeeping;
pub use provider::{Ended, Line, Placement, Provider, ProviderError};
pub use tasks::TaskError;

/// How long a claim lasts without a sign of life from its call, in seconds, when outside workers claim.
pub const EXTERNAL_LEASE_SEC: u32 = 600;
/// The same when our own dialer claims: it says every two seconds which calls it is at work on.
pub const DIALER_LEASE_SEC: u32 = 10;

/// Names of the providers that the dialer can have.
pub const PROVIDERS: &[&str] = &[simulator::NAME];

/// The commands of whoever works on campaigns. Clones share everything.
#[derive(Clone)]
pub struct Desk {
    pub store: EventStore,
    /// Sees every company.
    pub pool: Pool,
    pub positions: Positions,
    /// Calls for which this process is claiming a task at the moment.
    pub claiming: ClaimsUnderWay,
}

/// A command's refusal, or the log's failure.
pub(crate) fn store_error<R: std::error::Error + 'static, E: From<R> + From<StoreError>>(error: ExecuteError<R>) -> E {
    match error {
        ExecuteError::Refused(refusal) => refusal.into(),
        ExecuteError::Store(error) => error.into(),
    }
}
