//! Health, readiness, metrics.

use std::time::Duration;

use ::workers::engine::status::{self, WorkerStatus};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use projections::status::{ProjectionStatus, Status};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::state::App;

pub fn router() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// Maximum age of the projections' states for clients without a credential.
const FRESH_FOR_STRANGERS: Duration = Duration::from_secs(1);

/// Timeout for reading the workers' states from the database.
const WORKERS_TIMEOUT: Duration = Duration::from_secs(2);

async fn healthz() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// 200 when the database answers, its migrations are in place and no projection has stopped at an event; else 503 with the parts that are
/// not ready. It needs no credential, so it only shows projections and positions; operators see the rest in `GET /projections`.
async fn readyz(State(app): State<App>) -> Response {
    let mut not_ready = Vec::new();
    if *app.draining.borrow() {
        not_ready.push(json!({"part": "process", "reason": "shutting down"}));
    }
    match app.statuses.read(&app.access.work, FRESH_FOR_STRANGERS).await {
        Ok(projections) => not_ready.extend(projections.iter().filter(|p| p.status == Status::Failed).map(|p| {
            let position = p.error.as_ref().and_then(|e| e.position);
            json!({"part": "projection", "name": p.name, "reason": "stopped at an event", "position": position})
        })),
        Err(error) => {
            tracing::warn!(%error, "not ready: the database does not answer");
            not_ready.push(json!({"part": "database", "reason": "does not answer"}));
        }
    }
    let (status, word) = if not_ready.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    let mut response = (status, Json(json!({"status": word, "not_ready": not_ready}))).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

/// Metrics in Prometheus text format, updated at most once per second.
async fn metrics(State(app): State<App>) -> Response {
    let mut last = app.rendered.0.lock().await;
    let text = match last.as_ref().filter(|(at, _)| at.elapsed() < FRESH_FOR_STRANGERS) {
        Some((_, text)) => text.clone(),
        None => last.insert((Instant::now(), render(&app).await)).1.clone(),
    };
    drop(last);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[expect(clippy::cast_precision_loss, reason = "gauges are doubles")]
async fn render(app: &App) -> Bytes {
    ::metrics::gauge!("newvoice_log_position").set(app.store.head().position() as f64);
    for (purpose, open, idle) in app.access.connections() {
        let labels = [("purpose", purpose.to_string())];
        ::metrics::gauge!("newvoice_pool_connections", &labels).set(f64::from(open));
        ::metrics::gauge!("newvoice_pool_idle_connections", &labels).set(idle as f64);
    }
    ::metrics::gauge!("newvoice_append_queue_commands").set(app.store.waiting_commands() as f64);
    let mut failures = String::new();
    let projections = app.statuses.read(&app.access.work, FRESH_FOR_STRANGERS).await;
    // The gauges of the projections keep their last values while their states cannot be read: an alarm needs this one.
    ::metrics::gauge!("newvoice_projections_readable").set(f64::from(u8::from(projections.is_ok())));
    for projection in projections.into_iter().flatten() {
        let labels = [("projection", projection.name.clone())];
        let failed = projection.status == Status::Failed;
        ::metrics::gauge!("newvoice_projection_position", &labels).set(projection.position as f64);
        ::metrics::gauge!("newvoice_projection_lag_events", &labels).set(projection.lag_events as f64);
        ::metrics::gauge!("newvoice_projection_lag_seconds", &labels).set(projection.lag_sec);
        ::metrics::gauge!("newvoice_projection_failed", &labels).set(f64::from(u8::from(failed)));
        let rebuilt = projection.rebuild.as_ref().map_or(0.0, |rebuild| rebuild.percent / 100.0);
        ::metrics::gauge!("newvoice_projection_rebuilt_ratio", &labels).set(rebuilt);
        if failed {
            failures.push_str(&failure(&projection));
        }
    }
    if let Ok(workers) = read_workers(app).await {
        for worker in workers {
            let labels = [("worker", worker.name)];
            ::metrics::gauge!("newvoice_worker_round_failed", &labels).set(f64::from(u8::from(worker.error.is_some())));
            ::metrics::gauge!("newvoice_worker_retrying", &labels).set(worker.retrying as f64);
            ::metrics::gauge!("newvoice_worker_dead_letters", &labels).set(worker.dead as f64);
            let overdue = worker.due_at.filter(|_| !worker.is_held).map_or(0.0, |due| (eventstore::now() - due).as_seconds_f64().max(0.0));
            ::metrics::gauge!("newvoice_worker_overdue_seconds", &labels).set(overdue);
            if let Some(lag) = worker.lag_events {
                ::metrics::gauge!("newvoice_worker_lag_events", &labels).set(lag as f64);
            }
        }
    }
    (app.prometheus.render() + &failures).into()
}

/// The states of the workers, unless the database does not answer.
async fn read_workers(app: &App) -> Result<Vec<WorkerStatus>, sqlx::Error> {
    let read = app.store.head().health().or_unavailable(status::read(&app.access.work));
    tokio::time::timeout(WORKERS_TIMEOUT, read).await.map_err(|_| sqlx::Error::PoolTimedOut)?.flatten()
}

/// The position of the event at which a projection stopped; empty if it has not stopped.
fn failure(projection: &ProjectionStatus) -> String {
    let position = projection.error.as_ref().and_then(|e| e.position);
    position.map_or_else(String::new, |at| format!("newvoice_projection_stopped_at{{projection=\"{}\"}} {at}\n", projection.name))
}

/// Counts requests and measures their duration, by route.
pub async fn count(request: Request, next: Next) -> Response {
    let began = Instant::now();
    // Methods that clients invent are counted together.
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
    let method = if known.contains(request.method()) { request.method().to_string() } else { "other".to_owned() };
    let path = request.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let labels = [("method", method), ("path", path), ("status", response.status().as_u16().to_string())];
    ::metrics::counter!("newvoice_http_requests_total", &labels).increment(1);
    ::metrics::histogram!("newvoice_http_request_duration_seconds", &labels).record(began.elapsed().as_secs_f64());
    response
}
