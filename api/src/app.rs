//! What handlers share, and how the routes come together.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use dialer::Desk;
use eventstore::{Database, EventStore};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::{Positions, WAIT_MAX};
use sqlx::PgPool;
use tokio::sync::watch;
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    auth::tokens::Tokens, commands, idempotency, live, openapi::complete, operations, problem::Problem, queries, settings::Settings,
};

/// Largest body that is no upload, in bytes: 500 long turns fit.
const BODY_MAX_BYTES: usize = 32 << 20;
/// A request that takes longer is answered 503; streams are not cut.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for one that only reads.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// What handlers share. Clones share everything.
#[derive(Clone)]
pub struct App {
    pub settings: Arc<Settings>,
    pub pool: PgPool,
    pub store: EventStore,
    pub positions: Positions,
    pub desk: Desk,
    pub tokens: Arc<Tokens>,
    pub prometheus: PrometheusHandle,
    /// True once the process is to stop: streams end, `/readyz` says no.
    pub shutdown: watch::Receiver<bool>,
}

impl App {
    pub async fn new(
        settings: Settings,
        database: &Database,
        prometheus: PrometheusHandle,
        shutdown: watch::Receiver<bool>,
    ) -> Result<Self, sqlx::Error> {
        let store = EventStore::open(database);
        let positions = Positions::default();
        let desk = Desk { store: store.clone(), pool: database.pool.clone(), positions: positions.clone() };
        let tokens = Arc::new(Tokens::load(&database.pool).await?);
        Ok(Self { settings: Arc::new(settings), pool: database.pool.clone(), store, positions, desk, tokens, prometheus, shutdown })
    }

    /// Waits until the projections have reached `min_position`; answers how far the slowest is. A position beyond the log
    /// is refused at once.
    pub async fn caught_up(&self, projections: &[&str], min_position: Option<i64>) -> Result<i64, Problem> {
        let Some(position) = min_position else { return Ok(self.positions.lowest(projections)) };
        if position > self.store.head().position() && position > self.store.last_position().await? {
            let last = self.store.head().position();
            return Err(Problem::unavailable(format!("min_position {position} is beyond the log, which ends at {last}")));
        }
        Ok(self.positions.reached(projections, position, WAIT_MAX).await?)
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "newvoice",
        version = env!("CARGO_PKG_VERSION"),
        description = "Campaigns of AI voice calls on an event log. Every command answers `Event-Position`; every GET takes `?min_position=` and waits for it. \
                       Errors are RFC 9457 problems. Any POST takes an `Idempotency-Key`."
    ),
    servers((url = "/api/v1")),
    modifiers(&Bearer),
    security(("bearer" = [])),
    components(schemas(Problem))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token from /auth/login, or an API key")).build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// All routes below `/api/v1` with their description.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi()).merge(commands::router()).merge(queries::router()).merge(live::router())
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    complete(api().split_for_parts().1)
}

/// The whole application.
pub fn router(app: App) -> Router {
    let (api, document) = api().split_for_parts();
    let api = api
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::middleware))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES));
    Router::new()
        .nest("/api/v1", api.clone())
        // The original systems' unversioned paths.
        .nest("/api", api)
        .merge(utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", complete(document)))
        .route("/", get(|| async { axum::response::Redirect::temporary("/docs/") }))
        .merge(operations::router())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { Problem::not_found("path") })
        .layer(middleware::from_fn_with_state(app.clone(), detach))
        .layer(middleware::from_fn(limit_time))
        .layer(middleware::from_fn(operations::count))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Problem::internal(&"a handler panicked").into_response()))
        .layer(
            TraceLayer::new_for_http().on_failure(()).make_span_with(
                |request: &Request| tracing::debug_span!("request", method = %request.method(), path = request.uri().path()),
            ),
        )
        .with_state(app)
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
}

/// Nobody waits for ever. A command that takes longer still runs to its end.
async fn limit_time(request: Request, next: Next) -> Response {
    let (limit, detail) = if request.method().is_safe() {
        (READ_TIMEOUT, "the request took too long")
    } else {
        (REQUEST_TIMEOUT, "the request took too long; whether it had an effect is not known")
    };
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| Problem::unavailable(detail).into_response())
}

/// A command, once accepted, runs to its end even if the client goes away; but it does not wait for a database that has fallen
/// silent, since that would keep its connection from others.
async fn detach(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_safe = request.method().is_safe();
    let answered = async move {
        let answered = app.store.head().silence().unless(next.run(request)).await;
        answered.unwrap_or_else(|silent| Problem::from(silent).into_response())
    };
    if is_safe {
        return answered.await;
    }
    match tokio::spawn(answered).await {
        Ok(response) => response,
        Err(error) => Problem::internal(&error).into_response(),
    }
}
