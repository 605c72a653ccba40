//! The loop that runs any one projection: read a page, fold it, move the checkpoint in the same transaction.

use std::{num::NonZeroUsize, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use eventstore::{Pool, StoreError, database::process_name};
use futures::FutureExt as _;
use sqlx::PgConnection;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::engine::{
    feed::{Feed, Page},
    positions::Positions,
    projection::{ApplyError, Projection, Recorded},
    rebuild,
};

/// How long a process may be silent before another process takes its projections over, in seconds.
pub const LEASE_SEC: f64 = 5.0;
/// How often a lease is renewed at least; also how often a stopped projection checks whether it may continue.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Wait after a failed transaction before it is tried again; doubled each time, up to the second of these.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// How long a projection may skip pages that have nothing for it before its checkpoint reports the new position to other processes.
const SAVE_AFTER: Duration = Duration::from_millis(50);
/// If one transaction takes longer, its connection is dead; a price list for the past may price millions of calls again.
const WORK_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Tables grow from nothing: a plan that was made for an empty table must not be reused.
const BEGIN: &str = "begin; set local plan_cache_mode = force_custom_plan";
/// Why a page was rolled back: another process has the projection now.
const LEASE_LOST: &str = "the lease was lost";

/// Runs projections until shutdown.
pub struct Projectors {
    /// All of them, in a platform.
    pub projections: Vec<Arc<dyn Projection>>,
    pub pool: Pool,
    /// Connections as the owner of the tables: rebuilds create and swap tables.
    pub owner: Pool,
    pub feed: Feed,
    pub positions: Positions,
}

impl Projectors {
    /// Runs until `shutdown` is true, then releases the leases.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let holder = Uuid::now_v7();
        let mut tasks = JoinSet::new();
        for projection in &self.projections {
            let projector = Projector {
                pool: self.pool.clone(),
                feed: self.feed.clone(),
                positions: self.positions.clone(),
                projection: Arc::clone(projection),
                holder,
            };
            let mut stop = shutdown.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = projector.run() => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
                projector.release().await;
            });
        }
        tasks.spawn(rebuild::serve_requests(self.projections.clone(), self.owner, self.feed.store().clone(), holder, shutdown));
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a projector ended unexpectedly");
            }
        }
    }
}

/// Creates the projection's checkpoint at the beginning of the log, unless it exists. All code that moves a checkpoint relies on its row.
pub(crate) async fn ensure_checkpoint(pool: &Pool, projection: &dyn Projection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into projection_checkpoints (name, version, position) values ($1, $2, 0) on conflict (name) do nothing",
        projection.name(),
        projection.version()
    )
    .execute(pool)
    .await?;
    Ok(())
}

struct Projector {
    pool: Pool,
    feed: Feed,
    positions: Positions,
    projection: Arc<dyn Projection>,
    holder: Uuid,
}

/// The position of a projection, and the position in its checkpoint.
struct Place {
    position: i64,
    saved: i64,
    /// When the two were last the same.
    saved_at: Instant,
}

impl Place {
    const fn is_saved(&self) -> bool {
        self.position == self.saved
    }
}

/// A lease that was acquired: where to continue, and with which token.
struct Lease {
    token: i64,
    position: i64,
    failed: bool,
}

impl Projector {
    async fn run(&self) {
        let name = self.projection.name();
        let (mut wait, mut had_failed) = (RETRY_AFTER.0, false);
        loop {
            let health = self.feed.store().head().health();
            match health.or_unavailable(self.lease()).await.flatten() {
                Ok(Some(lease)) if !lease.failed => {
                    if std::mem::take(&mut had_failed) {
                        // The event that it stopped at may have been repaired since it was read.
                        self.feed.forget_all();
                    }
                    let worked = health.or_unavailable(tokio::time::timeout(WORK_TIMEOUT, self.work(lease))).await;
                    let worked = worked.and_then(|worked| worked.map_err(|_| sqlx::Error::PoolTimedOut));
                    match worked.unwrap_or_else(|silent| Err(silent.into())) {
                        Ok(()) => wait = RETRY_AFTER.0,
                        Err(error) => {
                            tracing::warn!(projection = name, %error, "a projection was interrupted");
                            tokio::time::sleep(wait).await;
                            wait = RETRY_AFTER.1.min(wait * 2);
                        }
                    }
                }
                Ok(lease) => {
                    had_failed = lease.is_some();
                    tokio::time::sleep(RENEW_EVERY).await;
                }
                Err(error) => {
                    tracing::warn!(projection = name, %error, "the lease of a projection could not be had");
                    tokio::time::sleep(wait).await;
                    wait = RETRY_AFTER.1.min(wait * 2);
                }
            }
        }
    }

    /// Acquires or renews the lease; `None` while another process holds it, unless that process has ended. A new holder gets a higher
    /// token. The previous holder can then write nothing more with its own token, even if it is still running.
    async fn lease(&self) -> Result<Option<Lease>, sqlx::Error> {
        let (name, version) = (self.projection.name(), self.projection.version());
        ensure_checkpoint(&self.pool, self.projection.as_ref()).await?;
        let row = sqlx::query!(
            r#"update projection_checkpoints
                  set token = case when holder = $2 then token else token + 1 end, holder = $2, holder_process = $5,
                      lease_until = clock_timestamp() + make_interval(secs => $3)
                where name = $1 and version <= $4
                  and (holder = $2 or lease_until < clock_timestamp() or is_process_gone(holder_process))
               returning token, position, error is not null as "failed!""#,
            name,
            self.holder,
            LEASE_SEC,
            version,
            process_name()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| Lease { token: row.token, position: row.position, failed: row.failed }))
    }

    /// Releases the lease, so that another process can continue at once.
    async fn release(&self) {
        let released = sqlx::query!(
            "update projection_checkpoints set holder = null, lease_until = '-infinity' where name = $1 and holder = $2",
            self.projection.name(),
            self.holder
        );
        if let Err(error) = released.execute(&self.pool).await {
            tracing::debug!(%error, "a lease could not be given back; it will run out");
        }
    }

    /// Applies page after page for as long as one renewal of the lease covers. A page that fails is halved until the one
    /// event that cannot be applied is found; there the projection stops.
    async fn work(&self, lease: Lease) -> Result<(), ApplyError> {
        let name = self.projection.name();
        let began = Instant::now();
        let mut place = Place { position: lease.position, saved: lease.position, saved_at: began };
        let mut limit: Option<NonZeroUsize> = None;
        self.positions.advance(name, place.position);
        while limit.is_some() || began.elapsed() < RENEW_EVERY {
            let Some(page) = self.next(&mut place, limit, lease.token).await? else { return Ok(()) };
            if page.is_empty() {
                break;
            }
            match self.apply(&page, &mut place, lease.token).await {
                Ok(()) => {
                    self.positions.advance(name, place.position);
                    limit = None;
                }
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => match NonZeroUsize::new(page.len() / 2) {
                    Some(half) => limit = Some(half),
                    None => {
                        self.save(&mut place, lease.token).await?;
                        return self.stop_at(page.last_position, &error, lease.token).await;
                    }
                },
            }
        }
        self.save(&mut place, lease.token).await
    }

    /// The next page; `None` when the projection has stopped because an event is missing: to continue as if the event had never existed
    /// would make the tables wrong permanently.
    async fn next(&self, place: &mut Place, limit: Option<NonZeroUsize>, token: i64) -> Result<Option<Arc<Page>>, ApplyError> {
        if place.saved_at.elapsed() >= SAVE_AFTER {
            self.save(place, token).await?;
        }
        let soon = tokio::time::timeout_at(place.saved_at + SAVE_AFTER, self.feed.page(place.position, limit));
        let page = if place.is_saved() { None } else { soon.await.ok() };
        let page = match page {
            Some(page) => page,
            None => {
                self.save(place, token).await?;
                self.feed.page(place.position, limit).await
            }
        };
        match page {
            Ok(page) => Ok(Some(page)),
            Err(StoreError::Unreadable { position, reason }) => {
                self.save(place, token).await?;
                self.stop_at(position, &ApplyError::Contradiction(reason), token).await?;
                Ok(None)
            }
            Err(error) => Err(sqlx::Error::Protocol(error.to_string()).into()),
        }
    }

    /// Folds the page and moves the checkpoint in one transaction. A page without events for this projection only moves its position in
    /// memory; the checkpoint follows, see [`SAVE_AFTER`].
    async fn apply(&self, page: &Page, place: &mut Place, token: i64) -> Result<(), ApplyError> {
        let events = wanted(page, self.projection.as_ref())?;
        if events.is_empty() {
            if place.is_saved() {
                place.saved_at = Instant::now();
            }
            place.position = page.last_position;
            return Ok(());
        }
        let mut tx = self.pool.begin_with(BEGIN).await?;
        let held = sqlx::query_scalar!(
            "select position from projection_checkpoints where name = $1 and token = $2 and holder = $3 for update",
            self.projection.name(),
            token,
            self.holder
        );
        if held.fetch_optional(&mut *tx).await? != Some(place.saved) {
            return Err(sqlx::Error::Protocol(LEASE_LOST.into()).into());
        }
        apply_caught(self.projection.as_ref(), &mut tx, &events).await?;
        sqlx::query!(
            "update projection_checkpoints set position = $2, updated_at = clock_timestamp() where name = $1",
            self.projection.name(),
            page.last_position
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        *place = Place { position: page.last_position, saved: page.last_position, saved_at: Instant::now() };
        Ok(())
    }

    /// Moves the checkpoint over pages without events for this projection.
    async fn save(&self, place: &mut Place, token: i64) -> Result<(), ApplyError> {
        if place.is_saved() {
            return Ok(());
        }
        let saved = sqlx::query!(
            "update projection_checkpoints set position = $5, updated_at = clock_timestamp()
              where name = $1 and token = $2 and holder = $3 and position = $4",
            self.projection.name(),
            token,
            self.holder,
            place.saved,
            place.position
        );
        if saved.execute(&self.pool).await?.rows_affected() == 0 {
            return Err(sqlx::Error::Protocol(LEASE_LOST.into()).into());
        }
        (place.saved, place.saved_at) = (place.position, Instant::now());
        Ok(())
    }

    async fn stop_at(&self, position: i64, error: &ApplyError, token: i64) -> Result<(), ApplyError> {
        let name = self.projection.name();
        tracing::error!(projection = name, position, %error, "a projection stopped at an event that it cannot apply");
        sqlx::query!(
            "update projection_checkpoints set error_position = $3, error = $4 where name = $1 and token = $2",
            name,
            token,
            position,
            error.to_string()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

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
        ApplyError::Contradiction(_) => false,
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

/// Lets a stopped projection retry its event. Returns whether it was stopped.
pub async fn retry(db: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let retried =
        sqlx::query!("update projection_checkpoints set error = null, error_position = null where name = $1 and error is not null", name);
    Ok(retried.execute(db).await?.rows_affected() > 0)
}
