//! Pure rules and facts of voice campaigns.
//!
//! One file or folder per aggregate, each in the same order: `Event`, `State`, `Command`, `Refusal`, `evolve`, `decide`, tests.
//! Nothing here does I/O, reads the clock or generates a random number: times and new ids are passed in.

pub mod api_key;
pub mod call;
pub mod campaign;
pub mod company;
pub mod count;
pub mod decider;
pub mod decimal;
pub mod email;
pub mod fact;
pub mod json;
pub mod latency;
mod lifecycle;
pub mod outcome;
pub mod person;
pub mod personal;
pub mod phone;
pub mod price;
pub mod price_list;
mod reason;
mod refusal;
pub mod reserved_name;
pub mod retry;
pub mod role;
pub mod schedule;
pub mod skillbase;
pub mod task;
#[cfg(test)]
pub mod testing;
pub mod user;
pub mod validation;

pub use decider::{Decider, DomainEvent, Upcaster};
pub use fact::Fact;
pub use lifecycle::{Absent, Lifecycle};
pub use personal::{ERASED, Personal};
pub use reason::{Coded, Reason};
pub use refusal::{Refusal, RefusalKind};
