//! Runs workers, and knows none of them: leases with fencing tokens, cursors on the log, work that is due by time, retries with growing
//! pauses, and dead letters.
//!
//! A worker that only one process may run has a lease, like a projection. Its row in the table `workers` has the lease, the cursor and the
//! result of the last round. Each failed piece of work is a row of `worker_failures` until the work succeeds or is no longer due.

mod due;
mod failures;
mod lease;
mod log;
mod periodic;
mod run;
pub mod status;
mod worker;

pub use due::{Due, DueWork};
pub use failures::ItemKey;
pub use lease::Lease;
pub use log::{FollowsLog, LogWork};
pub use periodic::Periodic;
pub use run::Engine;
pub use worker::{Next, Runs, Worker};
