//! Folds the events of a page into the tables of a projection, and judges the errors of it.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use sqlx::PgConnection;

use crate::engine::{
    feed::Page,
    projection::{ApplyError, Projection, Recorded},
};

/// The events of a page that a projection folds; the first one that cannot be read is an error.
pub(crate) fn wanted<'a>(page: &'a Page, projection: &dyn Projection) -> Result<Vec<&'a Recorded>, ApplyError> {
    let entries = page.entries.iter().filter(|entry| projection.categories().contains(&entry.category.as_str()));
    let events = entries.map(|entry| entry.event.as_ref());
    let events: Result<Vec<_>, _> = events.collect();
    events.map_err(|unreadable| ApplyError::Contradiction(format!("position {}: {}", unreadable.position, unreadable.reason)))
}

/// Applies events; a panic becomes an error of the projection and does not end its projector.
pub(crate) async fn apply_caught(projection: &dyn Projection, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
    let applied = AssertUnwindSafe(projection.apply(db, events)).catch_unwind().await;
    applied.unwrap_or_else(|_| Err(ApplyError::Contradiction("the projection panicked".to_owned())))
}

/// Whether the same page may succeed next time: the connection or the lease failed, not the event.
pub(crate) fn is_passing(error: &ApplyError) -> bool {
    match error {
        ApplyError::Sql(error) => is_passing_sql(error),
        ApplyError::Contradiction(_) | ApplyError::Detached { .. } => false,
    }
}

/// Whether the same statement may succeed next time: the connection or the server failed, not the statement.
pub fn is_passing_sql(error: &sqlx::Error) -> bool {
    match error {
        // The platform's own statement timeout: a smaller page may succeed.
        sqlx::Error::Database(error) if error.code().as_deref() == Some("57014") => false,
        sqlx::Error::Database(error) => {
            error.code().is_none_or(|code| ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class)))
        }
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => false,
        _ => true,
    }
}
