//! Support for benchmarks: a private PostgreSQL, and a report of figures and ratios.

mod ground;
pub mod load;
mod report;

pub use ground::{Ground, Log};
pub use report::{Goal, Report, median};
