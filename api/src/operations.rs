//! Health, readiness, metrics.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use eventstore::Pool;
use projections::status::{self, ProjectionStatus, Status};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use crate::app::App;

pub fn router() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// How old a reading of the projections may be for clients without a credential, and for callers of the API.
const FRESH_FOR_STRANGERS: Duration = Duration::from_secs(1);
pub const FRESH_FOR_CALLERS: Duration = Duration::from_millis(100);
/// Longer than this the database is not waited for.
const STATUSES_TIMEOUT: Duration = Duration::from_secs(2);

/// How the projections stand, as was just read: however many ask, one at a time reads. Clones share it.
#[derive(Clone, Default)]
pub struct Statuses(Arc<Mutex<Option<Reading>>>);

struct Reading {
    at: Instant,
    statuses: Vec<ProjectionStatus>,
}

impl Statuses {
    /// A reading that is no older than `fresh`.
    pub async fn read(&self, pool: &Pool, fresh: Duration) -> Result<Vec<ProjectionStatus>, sqlx::Error> {
        let read = async {
            let mut last = self.0.lock().await;
            if let Some(reading) = last.as_ref().filter(|reading| reading.at.elapsed() < fresh) {
                return Ok(reading.statuses.clone());
            }
            let statuses = status::read(pool).await?;
            *last = Some(Reading { at: Instant::now(), statuses: statuses.clone() });
            Ok(statuses)
        };
        tokio::time::timeout(STATUSES_TIMEOUT, read).await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
    }
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// 200 when the database answers with its migrations in place and no projection has stopped at an event; else 503 with what
/// is not ready. It asks for no credential, so it names projections and positions only; operators see the rest in `GET /projections`.
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

/// Prometheus text format. Written at most once a second.
async fn metrics(State(app): State<App>) -> Response {
    let mut last = app.rendered.0.lock().await;
    let text = match last.as_ref().filter(|(at, _)| at.elapsed() < FRESH_FOR_STRANGERS) {
        Some((_, text)) => text.clone(),
        None => last.insert((Instant::now(), render(&app).await)).1.clone(),
    };
    drop(last);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The metrics as they were just written.
#[derive(Default)]
pub struct Rendered(Mutex<Option<(Instant, Bytes)>>);

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
    if let Ok(projections) = app.statuses.read(&app.access.work, FRESH_FOR_STRANGERS).await {
        for projection in projections {
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
    }
    (app.prometheus.render() + &failures).into()
}

/// The position of the event that a projection stopped at: there only while it stands still.
fn failure(projection: &ProjectionStatus) -> String {
    let position = projection.error.as_ref().and_then(|e| e.position);
    position.map_or_else(String::new, |at| format!("newvoice_projection_stopped_at{{projection=\"{}\"}} {at}\n", projection.name))
}

/// Counts and times requests by route.
pub async fn count(request: Request, next: Next) -> Response {
    let began = Instant::now();
    // What anybody makes up is no method of its own.
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
    let method = if known.contains(request.method()) { request.method().to_string() } else { "other".to_owned() };
    let path = request.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let labels = [("method", method), ("path", path), ("status", response.status().as_u16().to_string())];
    ::metrics::counter!("newvoice_http_requests_total", &labels).increment(1);
    ::metrics::histogram!("newvoice_http_request_duration_seconds", &labels).record(began.elapsed().as_secs_f64());
    response
}
