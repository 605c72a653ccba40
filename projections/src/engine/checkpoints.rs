//! The table of checkpoints: how far each projection is, and which process may move it.

use std::{sync::Arc, time::Duration};

use eventstore::{Pool, database::process_name};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::engine::projection::{ApplyError, Projection};

/// How long a process may be silent before another process takes its projections over, in seconds.
pub const LEASE_SEC: f64 = 5.0;

/// A projection whose checkpoint this process may move. If another process takes the lease, the token is no longer valid: the former
/// holder can then write nothing more, even if it is still running.
#[derive(Clone)]
pub(super) struct Leased {
    pub projection: Arc<dyn Projection>,
    pub token: i64,
    pub position: i64,
    /// How long it took to fold the last page that had events for it.
    pub took: Duration,
}

impl Leased {
    pub fn name(&self) -> &'static str {
        self.projection.name()
    }
}

/// The answer to a request for a lease.
pub(super) enum Lease {
    Granted(Leased),
    /// This process has the lease, but the projection has stopped at an event that it cannot apply.
    Stopped,
    /// Another process holds the projection, or a rebuild holds its checkpoint at this moment.
    Refused,
}

/// Creates the projections' checkpoints at the beginning of the log, unless they exist; returns whether it created one. All code that moves a
/// checkpoint relies on its row.
pub(crate) async fn ensure(db: &mut PgConnection, projections: &[Arc<dyn Projection>]) -> Result<bool, sqlx::Error> {
    let (names, versions) = columns(projections);
    let created = sqlx::query!(
        "insert into projection_checkpoints (name, version, position) select name, version, 0
           from unnest($1::text[], $2::int[]) as known (name, version) on conflict (name) do nothing",
        &names,
        &versions
    );
    Ok(created.execute(db).await?.rows_affected() > 0)
}

fn columns(projections: &[Arc<dyn Projection>]) -> (Vec<String>, Vec<i32>) {
    projections.iter().map(|projection| (projection.name().to_owned(), projection.version())).unzip()
}

/// Acquires or renews the leases of projections; the answers are in their order. A new holder gets a higher token.
pub(super) async fn lease(db: &mut PgConnection, projections: &[Arc<dyn Projection>], holder: Uuid) -> Result<Vec<Lease>, sqlx::Error> {
    let (names, versions) = columns(projections);
    let rows = sqlx::query!(
        r#"with free as (
               select c.name from projection_checkpoints c join unnest($1::text[], $2::int[]) as known (name, version) on c.name = known.name
                where c.version <= known.version
                  and (c.holder = $3 or c.lease_until < clock_timestamp() or is_process_gone(c.holder_process))
                  for update of c skip locked)
           update projection_checkpoints c
              set token = case when holder = $3 then token else token + 1 end, holder = $3, holder_process = $5,
                  lease_until = clock_timestamp() + make_interval(secs => $4)
             from free where c.name = free.name
           returning c.name, c.token, c.position, c.error is not null as "stopped!""#,
        &names,
        &versions,
        holder,
        LEASE_SEC,
        process_name()
    )
    .fetch_all(db)
    .await?;
    let answer = |projection: &Arc<dyn Projection>| match rows.iter().find(|row| row.name == projection.name()) {
        None => Lease::Refused,
        Some(row) if row.stopped => Lease::Stopped,
        Some(row) => {
            Lease::Granted(Leased { projection: Arc::clone(projection), token: row.token, position: row.position, took: Duration::ZERO })
        }
    };
    Ok(projections.iter().map(answer).collect())
}

/// Moves checkpoints from one position to another and renews their leases; in a transaction, it also locks them. Returns the names of
/// those that moved. A projection that is not among them has lost its lease or has stopped, or a rebuild has locked its checkpoint.
pub(super) async fn advance(
    db: &mut PgConnection,
    members: &[&mut Leased],
    holder: Uuid,
    (from, to): (i64, i64),
) -> Result<Vec<String>, sqlx::Error> {
    let (names, tokens): (Vec<String>, Vec<i64>) = members.iter().map(|member| (member.name().to_owned(), member.token)).unzip();
    sqlx::query_scalar!(
        "with held as (
             select c.name from projection_checkpoints c join unnest($1::text[], $2::bigint[]) as own (name, token)
                    on c.name = own.name and c.token = own.token
              where c.holder = $3 and c.position = $4 and c.error is null
                for update of c skip locked)
         update projection_checkpoints c
            set position = $5, updated_at = clock_timestamp(), lease_until = clock_timestamp() + make_interval(secs => $6)
           from held where c.name = held.name
         returning c.name",
        &names,
        &tokens,
        holder,
        from,
        to,
        LEASE_SEC
    )
    .fetch_all(db)
    .await
}

/// Records the event at which a projection stopped.
pub(super) async fn stop_at(db: &mut PgConnection, stopped: &Leased, position: i64, error: &ApplyError) -> Result<(), sqlx::Error> {
    tracing::error!(projection = stopped.name(), position, %error, "a projection stopped at an event that it cannot apply");
    sqlx::query!(
        "update projection_checkpoints set error_position = $3, error = $4 where name = $1 and token = $2",
        stopped.name(),
        stopped.token,
        position,
        error.to_string()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Releases the leases of a holder, so that another process can continue at once.
pub(super) async fn release(pool: &Pool, holder: Uuid) {
    // Those that no transaction has locked do not wait for the others.
    let unlocked = sqlx::query!(
        "update projection_checkpoints set holder = null, lease_until = '-infinity'
          where name in (select name from projection_checkpoints where holder = $1 for update skip locked)",
        holder
    );
    let others = sqlx::query!("update projection_checkpoints set holder = null, lease_until = '-infinity' where holder = $1", holder);
    for released in [unlocked.execute(pool).await, others.execute(pool).await] {
        if let Err(error) = released {
            tracing::debug!(%error, "leases could not be released; they will run out");
        }
    }
}

/// Lets a stopped projection retry its event. Returns whether it was stopped.
pub async fn retry(db: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let retried =
        sqlx::query!("update projection_checkpoints set error = null, error_position = null where name = $1 and error is not null", name);
    Ok(retried.execute(db).await?.rows_affected() > 0)
}
