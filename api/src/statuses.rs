//! Cached states of the projections, and cached metrics: regardless of the number of clients, only one reads them at a time.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use eventstore::Pool;
use projections::status::{self, ProjectionStatus};
use tokio::{sync::Mutex, time::Instant};

/// Timeout for reading the states from the database.
const STATUSES_TIMEOUT: Duration = Duration::from_secs(2);

/// The states of the projections. Clones share them.
#[derive(Clone, Default)]
pub struct Statuses(Arc<Mutex<Option<Reading>>>);

struct Reading {
    at: Instant,
    statuses: Vec<ProjectionStatus>,
}

impl Statuses {
    /// States that are not older than `fresh`.
    pub async fn read(&self, pool: &Pool, fresh: Duration) -> Result<Vec<ProjectionStatus>, sqlx::Error> {
        let read = async {
            let mut last = self.0.lock().await;
            if let Some(reading) = last.as_ref().filter(|reading| reading.at.elapsed() < fresh) {
                return Ok(reading.statuses.clone());
            }
            let statuses = status::read(pool, &projections::all()).await?;
            *last = Some(Reading { at: Instant::now(), statuses: statuses.clone() });
            Ok(statuses)
        };
        tokio::time::timeout(STATUSES_TIMEOUT, read).await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
    }
}

/// The metrics text that was written last.
#[derive(Default)]
pub struct RenderedMetrics(pub Mutex<Option<(Instant, Bytes)>>);
