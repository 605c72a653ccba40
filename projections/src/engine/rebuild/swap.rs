//! The transaction that replaces the live tables with the next tables.

use std::time::Duration;

use sqlx::{Postgres, Transaction};

use super::{RebuildError, keep, lock_checkpoint, names_of, step};
use crate::engine::{feed::Feed, projection::Projection};

/// How long the swap waits for autovacuum to leave the tables. PostgreSQL cancels autovacuum for a process that has waited for a second,
/// which is longer than readers should wait: so a lock that does not conflict with readers and writers keeps autovacuum out first.
const VACUUM_TIMEOUT: &str = "5s";
/// How long the swap waits for readers of the live tables before it gives way to the readers that wait behind it, and how long it gives
/// way.
const LOCK_TIMEOUT: &str = "100ms";
pub(super) const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What one transaction needs to replace the live tables with the next tables.
pub(super) struct Swap<'a> {
    pub projection: &'a dyn Projection,
    pub feed: &'a Feed,
    pub token: i64,
    pub version: i32,
}

impl Swap<'_> {
    /// The next tables are at `position`; returns their position once they are the live tables.
    pub async fn run(&self, tx: &mut Transaction<'_, Postgres>, mut position: i64) -> Result<i64, RebuildError> {
        let (tables, name) = (names_of(self.projection), self.projection.name());
        sqlx::query!("select set_config('lock_timeout', $1, true)", VACUUM_TIMEOUT).fetch_one(&mut **tx).await?;
        sqlx::query!("select rebuild_keep_vacuum_out($1)", &tables).execute(&mut **tx).await?;
        let live = lock_checkpoint(tx, name).await?;
        while position < live {
            position = step(tx, self.feed, self.projection, position, Some(live)).await?;
        }
        keep(tx, name, self.token, position).await?;
        sqlx::query!("select set_config('lock_timeout', $1, true)", LOCK_TIMEOUT).fetch_one(&mut **tx).await?;
        sqlx::query!("select rebuild_undirect($1)", &tables).execute(&mut **tx).await?;
        sqlx::query!("select rebuild_swap($1)", &tables).execute(&mut **tx).await?;
        sqlx::query!(
            "update projection_checkpoints
                set previous_position = position, previous_version = version, position = $2, version = $3, error = null, error_position = null,
                    updated_at = clock_timestamp(), token = token + 1, holder = null, lease_until = '-infinity'
              where name = $1",
            name,
            position,
            self.version
        )
        .execute(&mut **tx)
        .await?;
        sqlx::query!("delete from projection_rebuilds where name = $1", name).execute(&mut **tx).await?;
        Ok(position)
    }
}
