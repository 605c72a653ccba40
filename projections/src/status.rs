//! How the projections are: for `/projections`, `/readyz` and the metrics.

use serde::Serialize;
use sqlx::PgPool;

pub use crate::projector::retry;

/// One projection's state.
#[derive(Clone, Debug, Serialize)]
pub struct ProjectionStatus {
    pub name: String,
    pub version: i32,
    /// `live`, `catching_up`, `rebuilding` or `failed`.
    pub status: Status,
    pub position: i64,
    /// Events in the log that it has not applied.
    pub lag_events: i64,
    /// How long the next of them has been waiting, in seconds.
    pub lag_sec: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<StatusError>,
    /// While it is rebuilt: how far the next tables are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Live,
    CatchingUp,
    Rebuilding,
    Failed,
}

#[derive(Clone, Debug, Serialize)]
pub struct StatusError {
    /// Where in the log; null when a rebuild failed.
    pub position: Option<i64>,
    pub message: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct RebuildStatus {
    pub position: i64,
    pub percent: f64,
}

/// Lag below which a projection counts as live, in seconds: what every append brings about for a moment.
const LIVE_LAG_SEC: f64 = 1.0;

/// The state of every projection, in the order of [`crate::all`]. One that never ran is at position 0.
#[expect(clippy::cast_precision_loss, reason = "a percentage")]
pub async fn read(pool: &PgPool) -> Result<Vec<ProjectionStatus>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select c.name, c.version, c.position, c.error, c.error_position, h.position as head,
                  extract(epoch from clock_timestamp() - (select recorded_at from events e where e.position = c.position + 1))::float8 as lag_sec,
                  r.name is not null as "rebuilding!", r.position as "rebuild_position?", r.error as "rebuild_error?"
             from log_head h cross join projection_checkpoints c left join projection_rebuilds r on r.name = c.name"#
    )
    .fetch_all(pool)
    .await?;
    let statuses = crate::all().into_iter().map(|projection| {
        let row = rows.iter().find(|row| row.name == projection.name());
        let Some(row) = row else {
            return ProjectionStatus {
                name: projection.name().to_owned(),
                version: projection.version(),
                status: Status::CatchingUp,
                position: 0,
                lag_events: 0,
                lag_sec: 0.0,
                error: None,
                rebuild: None,
            };
        };
        let lag_sec = row.lag_sec.unwrap_or_default().max(0.0);
        let status = match (&row.error, row.rebuilding && row.rebuild_error.is_none()) {
            (Some(_), _) => Status::Failed,
            (None, true) => Status::Rebuilding,
            (None, false) if lag_sec > LIVE_LAG_SEC => Status::CatchingUp,
            (None, false) => Status::Live,
        };
        let message = row.error.clone().or_else(|| row.rebuild_error.as_ref().map(|e| format!("the rebuild failed: {e}")));
        ProjectionStatus {
            name: row.name.clone(),
            version: row.version,
            status,
            position: row.position,
            lag_events: (row.head - row.position).max(0),
            lag_sec,
            error: message.map(|message| StatusError { position: row.error_position, message }),
            rebuild: row.rebuilding.then(|| {
                let position = row.rebuild_position.unwrap_or(0);
                RebuildStatus { position, percent: 100.0 * position as f64 / (row.head.max(1)) as f64 }
            }),
        }
    });
    Ok(statuses.collect())
}
