//! The state of the projections: for `/projections`, `/readyz` and the metrics.

use std::sync::Arc;

use eventstore::Pool;
use serde::Serialize;
use uuid::Uuid;

pub use crate::engine::checkpoints::retry;
use crate::engine::projection::Projection;

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
    /// During a rebuild: how far the next tables are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildStatus>,
    /// Whether the tables from before the last rebuild exist.
    pub can_restore: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Status {
    Live,
    CatchingUp,
    Rebuilding,
    Failed,
}

#[derive(Clone, Debug, Serialize)]
pub struct StatusError {
    /// Position in the log; null when a rebuild failed.
    pub position: Option<i64>,
    pub message: String,
    /// The event it stopped at; null when a rebuild failed or the event is missing.
    pub event: Option<FailedEvent>,
}

/// The event that a projection cannot apply.
#[derive(Clone, Debug, Serialize)]
pub struct FailedEvent {
    pub event_id: Uuid,
    pub event_type: String,
    pub stream: String,
    pub version: i64,
}

#[derive(Clone, Debug, Serialize)]
pub struct RebuildStatus {
    /// Last position in the next tables.
    pub position: i64,
    /// Events that are still to be applied.
    pub remaining_events: i64,
    pub percent: f64,
    /// Measured since the current process began; null before its first page.
    pub events_per_sec: Option<f64>,
    /// Computed from that rate.
    pub time_left_sec: Option<f64>,
}

/// A projection with less lag than this is live, in seconds: every append causes so much lag for a moment.
const LIVE_LAG_SEC: f64 = 1.0;

impl RebuildStatus {
    #[expect(clippy::cast_precision_loss, reason = "a percentage and a rate")]
    fn new(position: i64, head: i64, done: i64, seconds: Option<f64>) -> Self {
        let remaining_events = (head - position).max(0);
        let events_per_sec = seconds.filter(|seconds| done > 0 && *seconds > 0.0).map(|seconds| done as f64 / seconds);
        Self {
            position,
            remaining_events,
            percent: 100.0 * position as f64 / head.max(1) as f64,
            events_per_sec,
            time_left_sec: events_per_sec.map(|rate| remaining_events as f64 / rate),
        }
    }
}

/// The state of every projection, in the order of the list. One that never ran is at position 0. Its cost does not depend on the
/// length of the log: under row-level security only a position that is known beforehand can be looked up in an index, because `+` is
/// not leakproof.
pub async fn read(pool: &Pool, projections: &[Arc<dyn Projection>]) -> Result<Vec<ProjectionStatus>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select c.name, c.version, c.position, c.error, c.error_position, c.previous_position, h.position as head,
                  extract(epoch from clock_timestamp() - (select recorded_at from events where position = c.next_position))::float8 as lag_sec,
                  e.event_id as "event_id?", e.event_type as "event_type?", e.stream as "stream?", e.version as "event_version?",
                  r.name is not null as "rebuilding!", r.position as "rebuild_position?", r.error as "rebuild_error?",
                  r.began_position as "began_position?", extract(epoch from clock_timestamp() - r.began_at)::float8 as rebuilding_sec
             from log_head h cross join (select *, position + 1 as next_position from projection_checkpoints offset 0) c
                  left join projection_rebuilds r on r.name = c.name
                  left join events e on e.position = c.error_position"#
    )
    .fetch_all(pool)
    .await?;
    let statuses = projections.iter().map(|projection| {
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
                can_restore: false,
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
            error: message.map(|message| StatusError {
                position: row.error_position,
                message,
                event: row.event_id.zip(row.event_version).map(|(event_id, version)| FailedEvent {
                    event_id,
                    event_type: row.event_type.clone().unwrap_or_default(),
                    stream: row.stream.clone().unwrap_or_default(),
                    version,
                }),
            }),
            rebuild: row.rebuilding.then(|| {
                let position = row.rebuild_position.unwrap_or(0);
                RebuildStatus::new(position, row.head, position - row.began_position.unwrap_or(position), row.rebuilding_sec)
            }),
            can_restore: row.previous_position.is_some(),
        }
    });
    Ok(statuses.collect())
}
