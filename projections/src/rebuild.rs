//! Fills a projection's tables again from the whole log, beside the live ones, and swaps them in one transaction.
//!
//! The session that rebuilds sees `<table>__next` under the name of the live table, through temporary views; the projection's
//! own statements run unchanged. Readers see the live tables until the swap. A rebuild that was killed goes on where it was.

use std::{sync::Arc, time::Duration};

use eventstore::StoreError;
use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    feed::{Feed, PAGE_EVENTS, decode},
    projection::{ApplyError, Projection},
    projector::{LEASE_SEC, apply_caught, is_passing, is_passing_sql, wanted},
};

/// How often requests of other processes are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Differing rows that are listed per table and side.
pub const DIFFERENCES_MAX: i64 = 20;
/// Events that the swap may still have to apply while the live projection waits for it.
const SWAP_LAG_MAX: i64 = PAGE_EVENTS;

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("the projection is being rebuilt already")]
    UnderWay,
    #[error("another process took the rebuild over")]
    TakenOver,
    #[error("{0}")]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl RebuildError {
    /// Whether the rebuild can simply go on later: the connection or the lease failed, not the events.
    fn is_passing(&self) -> bool {
        match self {
            Self::TakenOver | Self::UnderWay => true,
            Self::Apply(error) => is_passing(error),
            Self::Sql(error) => is_passing_sql(error),
            Self::Store(error) => !matches!(error, StoreError::Unreadable { .. }),
        }
    }
}

/// A row that is in one of the two tables only.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub table: String,
    /// `live` or `rebuilt`.
    pub side: String,
    pub row: Value,
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub position: i64,
    pub head: i64,
}

/// What to do when the next tables are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Swap,
    /// List the differences, then swap.
    CompareAndSwap,
    /// List the differences and throw the next tables away.
    CompareOnly,
}

/// Asks for a rebuild; a process that runs projectors will do it.
pub async fn request(pool: &PgPool, projection: &dyn Projection) -> Result<(), RebuildError> {
    let asked = sqlx::query!(
        "insert into projection_rebuilds as r (name, version) values ($1, $2)
         on conflict (name) do update set error = null, position = null, version = $2, requested_at = now() where r.error is not null",
        projection.name(),
        projection.version()
    );
    if asked.execute(pool).await?.rows_affected() == 0 { Err(RebuildError::UnderWay) } else { Ok(()) }
}

/// Does the rebuilds that were asked for, or left over by a process that died, until told to stop.
pub(crate) async fn serve_requests(pool: PgPool, feed: Feed, holder: Uuid, mut shutdown: watch::Receiver<bool>) {
    let work = async {
        loop {
            let requests = sqlx::query_scalar!(
                "select name from projection_rebuilds where swap and error is null and lease_until < clock_timestamp()"
            );
            match feed.store().head().silence().unless(requests.fetch_all(&pool)).await.flatten() {
                Ok(names) => {
                    for projection in names.iter().filter_map(|name| crate::by_name(name)) {
                        serve(&pool, &feed, projection, holder).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "rebuild requests could not be read"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! { () = work => {}, _ = shutdown.wait_for(|stop| *stop) => {} }
}

async fn serve(pool: &PgPool, feed: &Feed, projection: Arc<dyn Projection>, holder: Uuid) {
    let name = projection.name();
    tracing::info!(projection = name, "rebuilding");
    match Rebuild::begin(pool, feed, projection, holder, Then::Swap).await {
        Ok(rebuild) => match rebuild.run(|_| ()).await {
            Ok(_) => tracing::info!(projection = name, "rebuilt and swapped"),
            Err(error) => tracing::error!(projection = name, %error, "the rebuild failed"),
        },
        Err(RebuildError::UnderWay) => {}
        Err(error) => tracing::warn!(projection = name, %error, "the rebuild could not begin"),
    }
}

/// A rebuild under way.
pub struct Rebuild<'a> {
    pool: &'a PgPool,
    feed: &'a Feed,
    projection: Arc<dyn Projection>,
    db: PgConnection,
    token: i64,
    position: i64,
    then: Then,
}

impl<'a> Rebuild<'a> {
    /// Takes the rebuild on, whether it was asked for, begun by a process that died, or neither.
    pub async fn begin(
        pool: &'a PgPool,
        feed: &'a Feed,
        projection: Arc<dyn Projection>,
        holder: Uuid,
        then: Then,
    ) -> Result<Self, RebuildError> {
        let row = sqlx::query!(
            "insert into projection_rebuilds as r (name, version, holder, token, lease_until, swap)
             values ($1, $2, $3, 1, clock_timestamp() + make_interval(secs => $4), $5)
             on conflict (name) do update
                set holder = $3, token = r.token + 1, lease_until = excluded.lease_until, error = null, version = $2, swap = $5,
                    position = case when r.version = $2 and r.error is null and r.swap and $5 then r.position end
              where r.lease_until < clock_timestamp()
             returning token, position",
            projection.name(),
            projection.version(),
            holder,
            LEASE_SEC,
            then != Then::CompareOnly
        )
        .fetch_optional(pool)
        .await?
        .ok_or(RebuildError::UnderWay)?;
        let mut db = pool.acquire().await?.detach();
        sqlx::query!("select set_config('statement_timeout', '0', false) as statement, set_config('idle_in_transaction_session_timeout', '0', false) as idle")
            .fetch_one(&mut db)
            .await?;
        let mut rebuild = Self { pool, feed, projection, db, token: row.token, position: row.position.unwrap_or(0), then };
        if row.position.is_none() {
            rebuild.create_tables().await?;
        }
        let tables = rebuild.tables();
        sqlx::query!("select rebuild_redirect($1)", &tables).execute(&mut rebuild.db).await?;
        Ok(rebuild)
    }

    fn tables(&self) -> Vec<String> {
        self.projection.tables().iter().map(|t| (*t).to_owned()).collect()
    }

    async fn create_tables(&mut self) -> Result<(), RebuildError> {
        let tables = self.tables();
        let mut tx = self.db.begin().await?;
        sqlx::query!("select rebuild_create($1)", &tables).execute(&mut *tx).await?;
        keep(&mut tx, self.projection.name(), self.token, 0).await?;
        Ok(tx.commit().await?)
    }

    /// Fills the next tables up to the live ones' position, and compares or swaps. Answers the differences, if asked for.
    pub async fn run(mut self, mut progress: impl FnMut(Progress)) -> Result<Vec<Difference>, RebuildError> {
        // A page or a comparison may take longer than the lease.
        let renewal = tokio::spawn(renew(self.pool.clone(), self.projection.name(), self.token));
        let result = self.fill_and_finish(&mut progress).await;
        renewal.abort();
        if let Err(error) = &result
            && !error.is_passing()
        {
            sqlx::query!(
                "update projection_rebuilds set error = $3, lease_until = '-infinity' where name = $1 and token = $2",
                self.projection.name(),
                self.token,
                error.to_string()
            )
            .execute(self.pool)
            .await?;
        }
        let _ = self.db.close().await;
        result
    }

    async fn fill_and_finish(&mut self, progress: &mut impl FnMut(Progress)) -> Result<Vec<Difference>, RebuildError> {
        let then = self.then;
        let differences = match then {
            Then::Swap => self.fill(progress).await.map(|()| Vec::new())?,
            // Nothing is compared beyond where the live tables are.
            Then::CompareAndSwap | Then::CompareOnly => self.compare(progress).await?,
        };
        match then {
            Then::Swap | Then::CompareAndSwap => self.swap().await?,
            Then::CompareOnly => self.discard().await?,
        }
        progress(Progress { position: self.position, head: self.position });
        Ok(differences)
    }

    /// Fills the next tables until the swap has little left to do.
    async fn fill(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), RebuildError> {
        loop {
            let head = self.feed.store().last_position().await?;
            progress(Progress { position: self.position, head });
            if head - self.position <= SWAP_LAG_MAX {
                return Ok(());
            }
            self.step(i64::MAX).await?;
        }
    }

    /// Applies one page of events up to `until`, in a short transaction.
    async fn step(&mut self, until: i64) -> Result<(), RebuildError> {
        let mut tx = self.db.begin().await?;
        let position = step(&mut tx, self.feed, self.projection.as_ref(), self.position, until).await?;
        keep(&mut tx, self.projection.name(), self.token, position).await?;
        tx.commit().await?;
        self.position = position;
        Ok(())
    }

    /// Brings the next tables to exactly where the live ones are, and compares the two as of that moment.
    async fn compare(&mut self, progress: &mut impl FnMut(Progress)) -> Result<Vec<Difference>, RebuildError> {
        // Most of the way without holding anybody up.
        let mut live = self.live_position().await?;
        while self.position < live {
            progress(Progress { position: self.position, head: live });
            self.step(live).await?;
            live = self.live_position().await?;
        }
        // The live projection waits while we hold its checkpoint; readers do not.
        let mut gate = self.pool.begin().await?;
        let live = lock_checkpoint(&mut gate, self.projection.name()).await?;
        while self.position < live {
            self.step(live).await?;
        }
        let mut snapshot = self.pool.acquire().await?.detach();
        sqlx::query!("select set_config('statement_timeout', '0', false)").fetch_one(&mut snapshot).await?;
        sqlx::query("begin isolation level repeatable read read only").execute(&mut snapshot).await?;
        sqlx::query!("select from projection_checkpoints limit 1").execute(&mut snapshot).await?;
        drop(gate);
        let mut differences = Vec::new();
        for table in self.projection.tables() {
            let rows =
                sqlx::query!(r#"select side as "side!", content as "content!" from rebuild_differences($1, $2)"#, *table, DIFFERENCES_MAX);
            let rows = rows.fetch_all(&mut snapshot).await?;
            differences.extend(rows.into_iter().map(|row| Difference { table: (*table).to_owned(), side: row.side, row: row.content }));
        }
        snapshot.close().await?;
        Ok(differences)
    }

    async fn live_position(&self) -> Result<i64, sqlx::Error> {
        let position = sqlx::query_scalar!("select position from projection_checkpoints where name = $1", self.projection.name());
        Ok(position.fetch_optional(self.pool).await?.unwrap_or(0))
    }

    async fn swap(&mut self) -> Result<(), RebuildError> {
        let tables = self.tables();
        let name = self.projection.name();
        let mut tx = self.db.begin().await?;
        let live = lock_checkpoint(&mut tx, name).await?;
        let mut position = self.position;
        while position < live {
            position = step(&mut tx, self.feed, self.projection.as_ref(), position, live).await?;
        }
        keep(&mut tx, name, self.token, position).await?;
        sqlx::query!("select rebuild_undirect($1)", &tables).execute(&mut *tx).await?;
        sqlx::query!("select rebuild_swap($1)", &tables).execute(&mut *tx).await?;
        sqlx::query!(
            "update projection_checkpoints
                set position = $2, version = $3, error = null, error_position = null, updated_at = clock_timestamp(),
                    token = token + 1, holder = null, lease_until = '-infinity'
              where name = $1",
            name,
            position,
            self.projection.version()
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!("delete from projection_rebuilds where name = $1", name).execute(&mut *tx).await?;
        tx.commit().await?;
        self.position = position;
        Ok(())
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

/// Applies the next page after `position`, but nothing beyond `until`. Answers the new position.
async fn step(
    tx: &mut Transaction<'_, Postgres>,
    feed: &Feed,
    projection: &dyn Projection,
    position: i64,
    until: i64,
) -> Result<i64, RebuildError> {
    let mut events = feed.store().read_page(position, PAGE_EVENTS).await?;
    events.retain(|event| event.position <= until);
    let page = decode(position, events);
    if page.entries.is_empty() && position < until.min(feed.store().last_position().await?) {
        return Err(StoreError::Unreadable { position: position + 1, reason: "it is not in the log".to_owned() }.into());
    }
    let wanted = wanted(&page, projection)?;
    if !wanted.is_empty() {
        apply_caught(projection, tx, &wanted).await?;
    }
    Ok(page.last_position)
}

/// Notes how far the next tables are, under the fencing token.
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

/// Prolongs the rebuild's lease until it is aborted.
async fn renew(pool: PgPool, name: &'static str, token: i64) {
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
    Ok(position.fetch_optional(&mut **tx).await?.unwrap_or(0))
}

/// Asks for a rebuild of every projection whose code is newer than its tables.
pub async fn request_outdated(pool: &PgPool) -> Result<(), sqlx::Error> {
    for projection in crate::all() {
        sqlx::query!(
            "insert into projection_rebuilds (name, version)
             select name, $2 from projection_checkpoints where name = $1 and version < $2
             on conflict (name) do update set error = null, version = excluded.version, position = null, swap = true
                 where projection_rebuilds.error is not null or projection_rebuilds.version < excluded.version",
            projection.name(),
            projection.version()
        )
        .execute(pool)
        .await?;
    }
    Ok(())
}
