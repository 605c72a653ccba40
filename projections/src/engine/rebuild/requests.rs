//! Requested rebuilds: over the API, by a newer release at its start, or left by a process that died.

use std::{sync::Arc, time::Duration};

use eventstore::{EventStore, Pool};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Purpose, Rebuild, RebuildError};
use crate::engine::projection::Projection;

/// How often to check for requests of other processes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Requests a rebuild or a restore; a process that runs projectors will do it.
pub async fn request(pool: &Pool, projection: &dyn Projection, purpose: Purpose) -> Result<(), RebuildError> {
    if purpose == Purpose::Restore {
        let previous = sqlx::query_scalar!("select previous_position from projection_checkpoints where name = $1", projection.name());
        previous
            .fetch_optional(pool)
            .await?
            .flatten()
            .ok_or_else(|| RebuildError::NothingToRestore("there are no tables from before a rebuild".to_owned()))?;
    }
    let asked = sqlx::query!(
        "insert into projection_rebuilds as r (name, version, purpose) values ($1, $2, $3)
         on conflict (name) do update
            set error = null, version = $2, purpose = $3, requested_at = now(),
                position = case when r.purpose = 'restore' and $3 = 'restore' then r.position end
          where r.error is not null or (r.purpose = 'comparison' and r.lease_until < clock_timestamp())",
        projection.name(),
        projection.version(),
        purpose.stored()
    );
    if asked.execute(pool).await?.rows_affected() == 0 { Err(RebuildError::UnderWay) } else { Ok(()) }
}

/// Does the rebuilds that were asked for, or left over by a process that died, until told to stop.
pub(crate) async fn serve_requests(
    projections: Vec<Arc<dyn Projection>>,
    pool: Pool,
    store: EventStore,
    holder: Uuid,
    mut shutdown: watch::Receiver<bool>,
) {
    let work = async {
        loop {
            let requests = sqlx::query!(
                "select name, version, purpose from projection_rebuilds
                  where purpose <> 'comparison' and error is null and lease_until < clock_timestamp()"
            );
            match store.head().health().or_unavailable(requests.fetch_all(&pool)).await.flatten() {
                Ok(rows) => {
                    for row in rows {
                        let purpose = if row.purpose == Purpose::Restore.stored() { Purpose::Restore } else { Purpose::Rebuild };
                        // What a newer release asked for is for a process that has it.
                        let known = projections.iter().find(|projection| projection.name() == row.name);
                        if let Some(projection) = known.filter(|known| row.version <= known.version()) {
                            serve(&pool, &store, Arc::clone(projection), holder, purpose).await;
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "rebuild requests could not be read"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! { () = work => {}, _ = shutdown.wait_for(|stop| *stop) => {} }
}

async fn serve(pool: &Pool, store: &EventStore, projection: Arc<dyn Projection>, holder: Uuid, purpose: Purpose) {
    let name = projection.name();
    tracing::info!(projection = name, "rebuilding");
    match Rebuild::begin(pool, store, projection, holder, purpose).await {
        Ok(rebuild) => match rebuild.run(|_| ()).await {
            Ok(_) => tracing::info!(projection = name, "rebuilt and swapped"),
            Err(error) => tracing::error!(projection = name, %error, "the rebuild failed"),
        },
        Err(RebuildError::UnderWay) => {}
        Err(error) => tracing::warn!(projection = name, %error, "the rebuild could not begin"),
    }
}

/// Asks for a rebuild of every projection whose code is newer than its tables.
pub async fn request_outdated(pool: &Pool, projections: &[Arc<dyn Projection>]) -> Result<(), sqlx::Error> {
    for projection in projections {
        sqlx::query!(
            "insert into projection_rebuilds (name, version)
             select name, $2 from projection_checkpoints where name = $1 and version < $2
             on conflict (name) do update set error = null, version = excluded.version, position = null, purpose = 'rebuild',
                 token = projection_rebuilds.token + 1, lease_until = '-infinity'
                 where projection_rebuilds.error is not null or projection_rebuilds.version < excluded.version
                    or (projection_rebuilds.purpose = 'comparison' and projection_rebuilds.lease_until < clock_timestamp())",
            projection.name(),
            projection.version()
        )
        .execute(pool)
        .await?;
    }
    Ok(())
}
