//! How the projections are.

use std::time::Duration;

use axum::extract::State;
use projections::status::{FailedEvent, ProjectionStatus, Status};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Fresh, PagingParams};
use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{By, Viewer},
    extract::Paging,
    operations::FRESH_FOR_CALLERS,
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A projection's state.
#[derive(Serialize, ToSchema)]
struct ProjectionView {
    name: String,
    version: i32,
    /// live, catching_up, rebuilding or failed
    #[schema(value_type = String)]
    status: Status,
    /// Last position in its tables
    position: i64,
    /// Events in the log that it has not applied
    lag_events: i64,
    /// How long the next of them has been waiting
    lag_sec: f64,
    #[serde(flatten)]
    operation: OperationView,
}

/// What only operators see, since it may name another company's event; nothing for others.
#[derive(Default, Serialize, ToSchema)]
struct OperationView {
    /// For operators: what it, or its rebuild, stopped at
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
    /// For operators: while it is rebuilt
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuild: Option<RebuildView>,
    /// For operators: whether the tables from before the last rebuild are there to be restored
    #[serde(skip_serializing_if = "Option::is_none")]
    can_restore: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct ErrorView {
    /// Where in the log; null when a rebuild failed
    position: Option<i64>,
    message: String,
    event: Option<FailedEventView>,
}

#[derive(Serialize, ToSchema)]
struct FailedEventView {
    event_id: Uuid,
    event_type: String,
    stream: String,
    version: i64,
}

#[derive(Serialize, ToSchema)]
struct RebuildView {
    /// Last position in the next tables
    position: i64,
    remaining_events: i64,
    percent: f64,
    events_per_sec: Option<f64>,
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

/// Every projection: its status, position, lag in events and in seconds. Operators also see what it stopped at, its rebuild, and whether
/// the tables from before can be restored.
#[utoipa::path(get, path = "/projections", tag = "operations", security(("bearer" = ["viewer"])), params(Fresh, PagingParams), responses((status = 200, body = Items<ProjectionView>)))]
async fn list(State(app): State<App>, by: By<Viewer>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<ProjectionView>>, Problem> {
    let names: Vec<_> = projections::all().iter().map(|p| p.name()).collect();
    // One that has stopped would keep everybody waiting who wants to see that.
    if fresh.min_position.is_some() {
        fresh.of_log(&app).await?;
        let patience = projections::WAIT_MAX;
        let _ = app.positions.reached(&names, fresh.min_position.unwrap_or_default(), patience).await;
    }
    // An older reading may not have the position that was waited for.
    let fresh = if fresh.min_position.is_some() { Duration::ZERO } else { FRESH_FOR_CALLERS };
    let statuses = app.statuses.read(&app.access.work, fresh).await?;
    let position = statuses.iter().map(|s| s.position).min().unwrap_or(0);
    let after = paging.after::<i64>()?.unwrap_or(0);
    let rows: Vec<_> = (1_i64..).zip(statuses).filter(|(n, _)| *n > after).take(usize::from(paging.limit) + 1).collect();
    Ok(Answer::ok(position, Items::page(rows, &paging, |(n, _)| *n, |(_, status)| ProjectionView::new(status, by.identity.is_operator))))
}
