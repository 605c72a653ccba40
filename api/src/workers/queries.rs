use ::workers::engine::status::{self, FailureRow, WorkerStatus};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{By, Operator},
    extract::{Paging, PagingParams, Params},
    problem::Problem,
    state::App,
    words::WorkerStatusName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(failures))
}

/// A worker's state.
#[derive(Serialize, ToSchema)]
struct WorkerView {
    /// Name of the worker
    name: String,
    /// How it is
    #[schema(value_type = WorkerStatusName)]
    status: &'static str,
    /// Position of the last event that it has handled, if it follows the log
    position: Option<i64>,
    /// Number of events behind the end of the log, if it follows the log
    lag_events: Option<i64>,
    /// When its last round ended; at most one second old while it runs
    last_round_at: Option<DateTime<Utc>>,
    /// When its next round is due
    next_due_at: Option<DateTime<Utc>>,
    /// The error of its last round, if the round failed
    error: Option<String>,
    /// When a round last failed
    last_failed_at: Option<DateTime<Utc>>,
    /// Work that failed
    failures: FailureCounts,
}

#[derive(Serialize, ToSchema)]
struct FailureCounts {
    /// Work that failed and will be tried again
    retrying: i64,
    /// Work that failed too often and waits for an operator
    dead: i64,
}

impl From<WorkerStatus> for WorkerView {
    fn from(worker: WorkerStatus) -> Self {
        let status = match &worker {
            WorkerStatus { round_at: None, .. } => "waiting",
            WorkerStatus { dead: 1.., .. } => "stuck",
            WorkerStatus { error: Some(_), .. } | WorkerStatus { retrying: 1.., .. } => "failing",
            _ => "ok",
        };
        Self {
            name: worker.name,
            status,
            position: worker.position,
            lag_events: worker.lag_events,
            next_due_at: worker.due_at,
            last_round_at: worker.round_at,
            error: worker.error,
            last_failed_at: worker.error_at,
            failures: FailureCounts { retrying: worker.retrying, dead: worker.dead },
        }
    }
}

/// Workers: dialing, housekeeping, and everything else that acts without a request.
#[utoipa::path(get, path = "/workers", operation_id = "list_workers", tag = "operations", security(("bearer" = ["operator"])), responses((status = 200, body = Items<WorkerView>), (status = 403, body = Problem)))]
async fn list(State(app): State<App>, _by: By<Operator>) -> Result<Answer<Items<WorkerView>>, Problem> {
    let workers = status::read(&app.access.work).await?;
    let items = Items { items: workers.into_iter().map(WorkerView::from).collect(), next_cursor: None, total: None };
    Ok(Answer::ok(app.store.head().position(), items))
}

/// A piece of work that a worker failed to do.
#[derive(Serialize, ToSchema)]
struct FailureView {
    /// Identifies the work: the id of a call or campaign, or the position of an event
    item: String,
    /// The company that the work belongs to
    company_id: Option<Uuid>,
    /// How often it was tried
    attempts: i32,
    /// The error of the last attempt
    error: String,
    /// When the last attempt failed
    failed_at: DateTime<Utc>,
    /// When it is tried again; null if the worker has given it up
    retry_at: Option<DateTime<Utc>>,
}

impl From<FailureRow> for FailureView {
    fn from(row: FailureRow) -> Self {
        let FailureRow { item, company_id, attempts, error, failed_at, retry_at } = row;
        Self { item, company_id, attempts, error, failed_at, retry_at }
    }
}

/// What a worker failed to do.
#[utoipa::path(get, path = "/workers/{name}/failures", operation_id = "list_worker_failures", tag = "operations", security(("bearer" = ["operator"])), params(("name" = String, Path), PagingParams),
    responses((status = 200, body = Items<FailureView>), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn failures(
    State(app): State<App>,
    _by: By<Operator>,
    Params(name): Params<String>,
    paging: Paging,
) -> Result<Answer<Items<FailureView>>, Problem> {
    super::require(&app, &name).await?;
    let after = paging.after::<String>()?;
    let rows = status::failures(&app.access.work, &name, after.as_deref(), paging.rows_to_read()).await?;
    let items = Items::page(rows, &paging, |row| row.item.clone(), FailureView::from);
    Ok(Answer::ok(app.store.head().position(), items))
}
