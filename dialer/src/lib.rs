//! Works on campaigns: claims due tasks, dials through a provider, records the results, and runs housekeeping. It calls the same use cases
//! as the API. Replaying events never causes an action here.

mod absent_processes;
mod dialing;
mod housekeeping;
mod provider;
pub mod simulator;

pub use dialing::Dialer;
pub use housekeeping::Housekeeping;
pub use provider::{Ended, Line, Placement, Provider, ProviderError};

/// How long a claim of the dialer lasts without a sign of life from its call, in seconds. The dialer renews its claims every two seconds.
pub const DIALER_LEASE_SEC: u32 = 10;

/// Names of the providers that the dialer supports.
pub const PROVIDERS: &[&str] = &[simulator::NAME];
