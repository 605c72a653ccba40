//! Runs projections and rebuilds them. It knows no read model: [`Projectors`] and the functions here get a list of projections.

mod checkpoints;
pub(crate) mod document;
mod feed;
mod fold;
mod folder;
mod group;
mod positions;
mod projection;
mod projector;
pub mod rebuild;
pub mod status;
mod streams;

pub use document::{Document, Stored, UnreadableDocument};
pub use feed::Feed;
pub use fold::is_passing_sql;
pub use positions::{NotReached, Positions, WAIT_MAX};
pub(crate) use projection::fit;
pub use projection::{ApplyError, PersonalColumns, Projection, ReadModel, Recorded, Table};
pub use projector::Projectors;
pub(crate) use streams::read_streams;
