//! Everything that acts without a request: dialing and housekeeping. Workers call the same use cases as the API. Replaying events never
//! causes an action here.
//!
//! `engine/` runs workers and knows none of them. A new worker is a file with its work, and a line in the list of its part.

mod dialing;
pub mod engine;
mod housekeeping;

pub use dialing::{DIALER_LEASE_SEC, Dialing, Ended, Line, PROVIDERS, Placement, Provider, ProviderError, simulator};
pub use housekeeping::workers as housekeeping;
