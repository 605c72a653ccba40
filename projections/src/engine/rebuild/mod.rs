//! Fills a projection's tables again from the whole log, beside the live ones, and swaps them in one transaction.
//!
//! The session that rebuilds sees `<table>__next` under the name of the live table, through temporary views; the projection's own
//! statements run unchanged. Readers see the live tables until the swap. A killed rebuild continues where it was. The previous tables stay
//! as `<table>__previous`; a restore brings them up to date and swaps them in, in the same way.

mod requests;
mod swap;

use std::{num::NonZeroUsize, slice, sync::Arc, time::Duration};

use eventstore::{EventStore, Pool, StoreError};
use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection, Executor as _, PgConnection, Postgres, Transaction};
use uuid::Uuid;

pub(crate) use requests::serve_requests;
pub use requests::{request, request_outdated};
use swap::Swap;

use crate::engine::{
    checkpoints::{self, LEASE_SEC},
    feed::Feed,
    fold::{apply_caught, is_passing, is_passing_sql, wanted},
    projection::{ApplyError, Projection},
};

/// Most events that the swap may still have to apply while the live projection waits for it.
const SWAP_LAG_MAX: i64 = 1_000;
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("the projection is being rebuilt already")]
    UnderWay,
    #[error("another process took the rebuild over")]
    TakenOver,
    #[error("{0}")]
    NothingToRestore(String),
    #[error("{0}")]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl RebuildError {
    /// Whether the rebuild can simply continue later: the connection or the lease failed, not the events.
    fn is_passing(&self) -> bool {
        match self {
            Self::TakenOver | Self::UnderWay => true,
            Self::NothingToRestore(_) => false,
            Self::Apply(error) => is_passing(error),
            Self::Sql(error) => is_passing_sql(error),
            Self::Store(error) => !matches!(error, StoreError::Unreadable { .. }),
        }
    }
}

/// A row that is in only one of the two tables.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub table: String,
    /// `live` or `rebuilt`.
    pub side: String,
    pub row: Value,
}

/// A progress report of a running rebuild.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The next tables are at `position`, the log ends at `head`.
    At { position: i64, head: i64 },
    /// A row that differs between the two, when they are compared.
    Differs(Difference),
}

/// What the next tables are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Fill them from the whole log, then swap them in.
    Rebuild,
    /// The same; before the swap the differences are reported.
    CompareAndRebuild,
    /// Fill them from the whole log, report the differences and drop them.
    Compare,
    /// Begin with the tables from before the last rebuild, bring them up to date and swap them in.
    Restore,
}

impl Purpose {
    /// As it is stored.
    const fn stored(self) -> &'static str {
        match self {
            Self::Rebuild | Self::CompareAndRebuild => "rebuild",
            Self::Compare => "comparison",
            Self::Restore => "restore",
        }
    }
}

/// A running rebuild.
pub struct Rebuild<'a> {
    pool: &'a Pool,
    feed: Feed,
    projection: Arc<dyn Projection>,
    db: PgConnection,
    token: i64,
    /// Version of the tables that are filled.
    version: i32,
    position: i64,
    purpose: Purpose,
}

impl<'a> Rebuild<'a> {
    /// Begins or continues a rebuild, whether it was requested, was left by a process that died, or is new.
    pub async fn begin(
        pool: &'a Pool,
        store: &EventStore,
        projection: Arc<dyn Projection>,
        holder: Uuid,
        purpose: Purpose,
    ) -> Result<Self, RebuildError> {
        let mut db = pool.acquire().await?.detach();
        checkpoints::ensure(&mut db, slice::from_ref(&projection)).await?;
        // An interrupted rebuild continues where it was, if it had the same purpose and no error.
        let row = sqlx::query!(
            "insert into projection_rebuilds as r (name, version, holder, token, lease_until, purpose, began_at)
             values ($1, $2, $3, 1, clock_timestamp() + make_interval(secs => $4), $5, clock_timestamp())
             on conflict (name) do update
                set holder = $3, token = r.token + 1, lease_until = excluded.lease_until, error = null, purpose = $5,
                    version = case when r.purpose = 'restore' and $5 = 'restore' then r.version else $2 end, began_at = clock_timestamp(),
                    position = case when r.purpose = $5 and ($5 = 'restore' or ($5 = 'rebuild' and r.error is null and r.version = $2))
                                    then r.position end
              where r.lease_until < clock_timestamp() and (r.version <= $2 or r.purpose = 'restore')
                and ($5 <> 'comparison' or r.purpose = 'comparison' or r.error is not null)
             returning token, version, position",
            projection.name(),
            projection.version(),
            holder,
            LEASE_SEC,
            purpose.stored()
        )
        .fetch_optional(pool)
        .await?
        .ok_or(RebuildError::UnderWay)?;
        // A plan that was made for an empty table must not be reused while the table fills.
        db.execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set plan_cache_mode = force_custom_plan")
            .await?;
        let feed = Feed::of_rebuild(store.clone(), projection.categories());
        let position = row.position.unwrap_or(0);
        let mut rebuild = Self { pool, feed, projection, db, token: row.token, version: row.version, position, purpose };
        if row.position.is_none() {
            let made = match purpose {
                Purpose::Rebuild | Purpose::CompareAndRebuild | Purpose::Compare => rebuild.create_tables().await,
                Purpose::Restore => rebuild.restore_tables().await,
            };
            rebuild.noted(made).await?;
        }
        let tables = rebuild.tables();
        sqlx::query!("select rebuild_redirect($1)", &tables).execute(&mut rebuild.db).await?;
        sqlx::query!("update projection_rebuilds set began_position = position where name = $1", rebuild.projection.name())
            .execute(&mut rebuild.db)
            .await?;
        Ok(rebuild)
    }

    fn tables(&self) -> Vec<String> {
        names_of(self.projection.as_ref())
    }

    async fn create_tables(&mut self) -> Result<(), RebuildError> {
        let tables = self.tables();
        let mut tx = self.db.begin().await?;
        sqlx::query!("select rebuild_create($1)", &tables).execute(&mut *tx).await?;
        keep(&mut tx, self.projection.name(), self.token, 0).await?;
        Ok(tx.commit().await?)
    }

    /// Begins with the tables from before the last rebuild, at their position.
    async fn restore_tables(&mut self) -> Result<(), RebuildError> {
        let (tables, name) = (self.tables(), self.projection.name());
        let mut tx = self.db.begin().await?;
        let previous =
            sqlx::query!("select previous_position, previous_version from projection_checkpoints where name = $1 for update", name);
        let previous = previous.fetch_optional(&mut *tx).await?.and_then(|row| row.previous_position.zip(row.previous_version));
        let (position, version) =
            previous.ok_or_else(|| RebuildError::NothingToRestore("there are no tables from before a rebuild".to_owned()))?;
        sqlx::query!("select rebuild_restore($1)", &tables).execute(&mut *tx).await.map_err(|error| match error {
            sqlx::Error::Database(refused) if refused.code().as_deref() == Some("NV003") => {
                RebuildError::NothingToRestore(refused.message().to_owned())
            }
            error => error.into(),
        })?;
        sqlx::query!("update projection_checkpoints set previous_position = null, previous_version = null where name = $1", name)
            .execute(&mut *tx)
            .await?;
        sqlx::query!("update projection_rebuilds set version = $2 where name = $1", name, version).execute(&mut *tx).await?;
        keep(&mut tx, name, self.token, position).await?;
        tx.commit().await?;
        (self.position, self.version) = (position, version);
        Ok(())
    }

    /// Fills the next tables up to the live tables' position, and compares or swaps. `progress` gets the position and, for a comparison,
    /// every row that differs; returns the number of differing rows.
    pub async fn run(mut self, mut progress: impl FnMut(Progress)) -> Result<usize, RebuildError> {
        // A page or a comparison may take longer than the lease.
        let renewal = renew(self.pool.clone(), self.projection.name(), self.token);
        let result = tokio::select! {
            result = self.fill_and_finish(&mut progress) => result,
            never = renewal => match never {},
        };
        let result = self.noted(result).await;
        let _ = self.db.close().await;
        result
    }

    /// Stores the error of a rebuild, so that every process can see it. A restore without previous tables is deleted as if it had never
    /// begun.
    async fn noted<T>(&self, result: Result<T, RebuildError>) -> Result<T, RebuildError> {
        let (name, token) = (self.projection.name(), self.token);
        let noted = match &result {
            Err(RebuildError::NothingToRestore(_)) => {
                sqlx::query!("delete from projection_rebuilds where name = $1 and token = $2", name, token).execute(self.pool).await
            }
            Err(error) if !error.is_passing() => {
                sqlx::query!(
                    "update projection_rebuilds set error = $3, lease_until = '-infinity' where name = $1 and token = $2",
                    name,
                    token,
                    error.to_string()
                )
                .execute(self.pool)
                .await
            }
            _ => return result,
        };
        if let Err(error) = noted {
            tracing::warn!(projection = name, %error, "what became of a rebuild could not be written down");
        }
        result
    }

    async fn fill_and_finish(&mut self, progress: &mut impl FnMut(Progress)) -> Result<usize, RebuildError> {
        let differences = match self.purpose {
            Purpose::Compare | Purpose::CompareAndRebuild => self.compare(progress).await?,
            Purpose::Rebuild | Purpose::Restore => 0,
        };
        if self.purpose == Purpose::Compare {
            self.discard().await?;
        } else {
            self.catch_up(progress).await?;
            self.swap(progress).await?;
        }
        Ok(differences)
    }

    async fn catch_up(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), RebuildError> {
        loop {
            let head = self.feed.store().last_position().await?;
            progress(Progress::At { position: self.position, head });
            if head - self.position <= SWAP_LAG_MAX {
                return Ok(());
            }
            self.step(None).await?;
        }
    }

    /// Applies one page of events, up to `until` at most, in a short transaction.
    async fn step(&mut self, until: Option<i64>) -> Result<(), RebuildError> {
        let mut tx = self.db.begin().await?;
        let position = step(&mut tx, &self.feed, self.projection.as_ref(), self.position, until).await?;
        keep(&mut tx, self.projection.name(), self.token, position).await?;
        tx.commit().await?;
        self.position = position;
        Ok(())
    }

    /// Brings the next tables to exactly the position of the live tables, and compares the two as of that moment.
    async fn compare(&mut self, progress: &mut impl FnMut(Progress)) -> Result<usize, RebuildError> {
        // Most of the way without delaying other processes, and never beyond the position of the live tables.
        let mut live = self.live_position().await?;
        while self.position < live {
            progress(Progress::At { position: self.position, head: live });
            self.step(Some(live)).await?;
            live = self.live_position().await?;
        }
        // The live projection waits for as long as the rebuild holds its checkpoint; readers do not wait.
        let mut gate = self.pool.begin().await?;
        gate.execute("set local idle_in_transaction_session_timeout = 0").await?;
        let live = lock_checkpoint(&mut gate, self.projection.name()).await?;
        while self.position < live {
            self.step(Some(live)).await?;
        }
        if self.position > live {
            let behind = format!("the live tables are at {live}, behind the rebuilt ones at {}: they cannot be compared", self.position);
            return Err(ApplyError::Contradiction(behind).into());
        }
        let mut snapshot = self.pool.acquire().await?.detach();
        sqlx::query!("select set_config('statement_timeout', '0', false)").fetch_one(&mut snapshot).await?;
        sqlx::query("begin isolation level repeatable read read only").execute(&mut snapshot).await?;
        sqlx::query!("select from projection_checkpoints limit 1").execute(&mut snapshot).await?;
        // If the lock was lost meanwhile, this would fail.
        gate.commit().await?;
        let mut differences = 0;
        for table in self.projection.tables() {
            let rows = sqlx::query!(r#"select side as "side!", content as "content!" from rebuild_differences($1)"#, table.name);
            let mut rows = rows.fetch(&mut snapshot);
            while let Some(row) = rows.try_next().await? {
                differences += 1;
                progress(Progress::Differs(Difference { table: table.name.to_owned(), side: row.side, row: row.content }));
            }
        }
        snapshot.close().await?;
        Ok(differences)
    }

    async fn live_position(&self) -> Result<i64, sqlx::Error> {
        let position = sqlx::query_scalar!("select position from projection_checkpoints where name = $1", self.projection.name());
        Ok(position.fetch_optional(self.pool).await?.unwrap_or(0))
    }

    /// The swap waits for current readers of the live tables only for a moment at a time, so that later readers do not have to wait long.
    async fn swap(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), RebuildError> {
        let mut wait = swap::RETRY_AFTER.0;
        loop {
            let mut tx = self.db.begin().await?;
            let swap = Swap { projection: self.projection.as_ref(), feed: &self.feed, token: self.token, version: self.version };
            match swap.run(&mut tx, self.position).await {
                Err(RebuildError::Sql(sqlx::Error::Database(error))) if error.code().as_deref() == Some("55P03") => {
                    // Rolls back at once, not when the connection is next used: until then, other processes wait for its locks.
                    tx.rollback().await?;
                    tokio::time::sleep(wait).await;
                    wait = swap::RETRY_AFTER.1.min(wait * 2);
                    // The next try must not have to apply the events that arrived meanwhile while it holds the live projection.
                    self.catch_up(progress).await?;
                }
                Err(error) => return Err(error),
                Ok(position) => {
                    tx.commit().await?;
                    self.position = position;
                    return Ok(());
                }
            }
        }
    }

    async fn discard(&mut self) -> Result<(), RebuildError> {
        let tables = self.tables();
        let mut tx = self.db.begin().await?;
        keep(&mut tx, self.projection.name(), self.token, self.position).await?;
        sqlx::query!("select rebuild_discard($1)", &tables).execute(&mut *tx).await?;
        sqlx::query!("delete from projection_rebuilds where name = $1", self.projection.name()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

fn names_of(projection: &dyn Projection) -> Vec<String> {
    projection.tables().iter().map(|table| table.name.to_owned()).collect()
}

/// Applies the next page after `position`, but nothing beyond `until`. Returns the new position.
async fn step(
    tx: &mut Transaction<'_, Postgres>,
    feed: &Feed,
    projection: &dyn Projection,
    position: i64,
    until: Option<i64>,
) -> Result<i64, RebuildError> {
    let limit = until.and_then(|until| NonZeroUsize::new(usize::try_from(until - position).ok()?));
    let page = feed.page(position, limit).await?;
    if page.is_empty() && position < feed.store().last_position().await? {
        return Err(StoreError::Unreadable { position: position + 1, reason: "it is not in the log".to_owned() }.into());
    }
    let wanted = wanted(&page, projection)?;
    if !wanted.is_empty() {
        apply_caught(projection, tx, &wanted).await?;
    }
    Ok(page.last_position)
}

/// Stores the position of the next tables, under the fencing token.
async fn keep(tx: &mut Transaction<'_, Postgres>, name: &str, token: i64, position: i64) -> Result<(), RebuildError> {
    let kept = sqlx::query!(
        "update projection_rebuilds set position = $3, lease_until = clock_timestamp() + make_interval(secs => $4) where name = $1 and token = $2",
        name,
        token,
        position,
        LEASE_SEC
    );
    if kept.execute(&mut **tx).await?.rows_affected() == 1 { Ok(()) } else { Err(RebuildError::TakenOver) }
}

/// Renews the rebuild's lease until this future is dropped.
async fn renew(pool: Pool, name: &'static str, token: i64) -> std::convert::Infallible {
    loop {
        let renewed = sqlx::query!(
            "update projection_rebuilds set lease_until = clock_timestamp() + make_interval(secs => $3) where name = $1 and token = $2",
            name,
            token,
            LEASE_SEC
        );
        if let Err(error) = renewed.execute(&pool).await {
            tracing::debug!(%error, projection = name, "the lease of a rebuild could not be prolonged");
        }
        tokio::time::sleep(Duration::from_secs_f64(LEASE_SEC / 3.0)).await;
    }
}

/// Holds the live projection at its position until the transaction ends.
async fn lock_checkpoint(tx: &mut Transaction<'_, Postgres>, name: &str) -> Result<i64, sqlx::Error> {
    let position = sqlx::query_scalar!("select position from projection_checkpoints where name = $1 for update", name);
    position.fetch_one(&mut **tx).await
}
