//! The log in PostgreSQL: append, read, subscribe, verify, and `execute` (load, decide, append). It names no aggregate.

mod ahead;
mod append;
mod bounded_page;
pub mod canonical;
mod clock;
mod contention;
pub mod database;
mod error;
mod event;
mod execute;
mod head;
mod loaded;
pub mod persons;
mod read;
pub mod seal;
mod secret_file;
mod states;
mod store;
mod subscribe;
mod unit;
pub mod verify;

pub use append::{APPEND_DEADLINE, ExpectedVersion, StreamWrite};
pub use bounded_page::{BoundedPage, PageReader};
pub use database::{Database, Pool};
pub use error::{CommandError, Conflict, ExecuteError, StoreError};
pub use event::{Actor, ActorKind, CommandContext, CommandIdentity, Metadata, NewEvent, NoStreamName, StoredEvent, StreamName, now};
pub use execute::Committed;
pub use head::Head;
pub use loaded::Loaded;
pub use persons::{HoldsPersonal, MasterKey, Persons};
pub use read::Filter;
pub use store::{EventStore, Partition};
pub use subscribe::Subscription;
pub use unit::Unit;
