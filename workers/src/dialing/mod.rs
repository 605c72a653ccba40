//! Works on campaigns: claims due tasks, dials through a provider, and records the results.

mod dialer;
mod provider;
pub mod simulator;

pub use dialer::Dialing;
pub use provider::{Ended, Line, Placement, Provider, ProviderError};

/// How long a claim of the dialer lasts without a sign of life from its call, in seconds. The dialer renews its claims every two seconds.
pub const DIALER_LEASE_SEC: u32 = 10;

/// Names of the providers that the dialer supports.
pub const PROVIDERS: &[&str] = &[simulator::NAME];
