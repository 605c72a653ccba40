//! The state of the projections.

use std::time::Duration;

use axum::extract::State;
use projections::status::{FailedEvent, ProjectionStatus, Status};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{By, Viewer},
    extract::{Paging, PagingParams},
    freshness::Fresh,
    problem::Problem,
    state::App,
    words::ProjectionStatusName,
};

/// Maximum age of the projections' states for authenticated callers.
const FRESH_FOR_CALLERS: Duration = Duration::from_millis(100);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A projection's state.
#[derive(Serialize, ToSchema)]
struct ProjectionView {
    /// Name of the read model
    name: String,
    /// Version of its shape and rules
    version: i32,
    /// `live`: it has all events up to now; `failed`: an event could not be applied, and it stopped there
    #[schema(value_type = ProjectionStatusName)]
    status: Status,
    /// Position of the last event in its tables
    position: i64,
    /// Number of events in the log that it has not applied
    lag_events: i64,
    /// How long the next event has been waiting, in seconds
    lag_sec: f64,
    #[serde(flatten)]
    operation: OperationView,
}

/// Details that only operators see, because they may name an event of another company; absent for other callers.
#[derive(Default, Serialize, ToSchema)]
struct OperationView {
    /// Only for operators: the error that stopped the projection or its rebuild
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
    /// Only for operators: the progress of a rebuild
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuild: Option<RebuildView>,
    /// Only for operators: whether the tables from before the last rebuild exist and can be restored
    #[serde(skip_serializing_if = "Option::is_none")]
    can_restore: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct ErrorView {
    /// Position in the log; null when a rebuild failed
    position: Option<i64>,
    /// What went wrong
    message: String,
    /// The event that could not be applied
    event: Option<FailedEventView>,
}

#[derive(Serialize, ToSchema)]
struct FailedEventView {
    /// Id of the event
    event_id: Uuid,
    /// Its type
    event_type: String,
    /// Its stream
    stream: String,
    /// Its place in the stream
    version: i64,
}

#[derive(Serialize, ToSchema)]
struct RebuildView {
    /// Position of the last event in the next tables
    position: i64,
    /// Events that are not yet applied
    remaining_events: i64,
    /// Share of the log that is done, 0 to 100
    percent: f64,
    /// Events applied in a second
    events_per_sec: Option<f64>,
    /// Estimated time to the end in seconds
    time_left_sec: Option<f64>,
}

impl ProjectionView {
    fn new(status: ProjectionStatus, for_operator: bool) -> Self {
        Self {
            name: status.name.clone(),
            version: status.version,
            status: status.status,
            position: status.position,
            lag_events: status.lag_events,
            lag_sec: status.lag_sec,
            operation: if for_operator { status.into() } else { OperationView::default() },
        }
    }
}

impl From<ProjectionStatus> for OperationView {
    fn from(status: ProjectionStatus) -> Self {
        let event =
            |e: FailedEvent| FailedEventView { event_id: e.event_id, event_type: e.event_type, stream: e.stream, version: e.version };
        Self {
            error: status.error.map(|e| ErrorView { position: e.position, message: e.message, event: e.event.map(event) }),
            rebuild: status.rebuild.map(|r| RebuildView {
                position: r.position,
                remaining_events: r.remaining_events,
                percent: r.percent,
                events_per_sec: r.events_per_sec,
                time_left_sec: r.time_left_sec,
            }),
            can_restore: Some(status.can_restore),
        }
    }
}

/// Every projection: its status, position, and lag in events and seconds.
///
/// Operators also see the error that stopped it, its rebuild, and whether the earlier tables can be restored.
#[utoipa::path(get, path = "/projections", operation_id = "list_projections", tag = "operations", security(("bearer" = ["viewer"])), params(Fresh, PagingParams), responses((status = 200, body = Items<ProjectionView>)))]
async fn list(State(app): State<App>, by: By<Viewer>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<ProjectionView>>, Problem> {
    let models: Vec<_> = projections::all().iter().map(|projection| projection.read_model()).collect();
    // The answer is sent even if a projection does not reach the position: a stopped one would block every client that wants to see its
    // state.
    if fresh.min_position.is_some() {
        fresh.of_log(&app).await?;
        let wait_max = projections::WAIT_MAX;
        let _ = app.services.positions.reached(&models, fresh.min_position.unwrap_or_default(), wait_max).await;
    }
    // A cached state may be older than the requested position.
    let fresh = if fresh.min_position.is_some() { Duration::ZERO } else { FRESH_FOR_CALLERS };
    let statuses = app.statuses.read(&app.access.work, fresh).await?;
    let position = statuses.iter().map(|s| s.position).min().unwrap_or(0);
    let after = paging.after::<i64>()?.unwrap_or(0);
    let rows: Vec<_> = (1_i64..).zip(statuses).filter(|(n, _)| *n > after).take(usize::from(paging.limit) + 1).collect();
    Ok(Answer::ok(position, Items::page(rows, &paging, |(n, _)| *n, |(_, status)| ProjectionView::new(status, by.identity.is_operator))))
}
