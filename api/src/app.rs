//! What handlers share, and how the routes come together.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::HttpBody,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use dialer::{ClaimsUnderWay, Desk};
use eventstore::{Database, EventStore, MasterKey, Pool, database::Access};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::{Positions, WAIT_MAX};
use sqlx::{Postgres, Transaction};
use tokio::sync::watch;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, DefaultPredicate, Predicate},
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};
use tracing::Instrument as _;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use crate::{
    auth::{Callers, RouteNeeds, Sessions, SlowAttempts, credentials, tokens::Tokens},
    commands,
    edge::{self, Audit, BodyMemory, Guesses, Limits, Shares},
    idempotency::{self, KeyedRequests},
    live::{self, LiveFeed},
    openapi::complete,
    operations::{self, Rendered, Statuses},
    problem::Problem,
    queries,
    settings::Settings,
    uploads::Uploads,
};

/// Largest body that is no upload, in bytes: 500 long turns fit.
pub const BODY_MAX_BYTES: usize = 32 << 20;
/// A request that takes longer is answered 503; streams are not cut.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for one that only reads.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams that one company may have open: one of so many connections.
const STREAMS_SHARE: u32 = 5;
/// How long a browser need not ask again whether it may call.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

/// What handlers share. Clones share everything and cost nothing: every layer of the router has one.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

pub struct Shared {
    pub settings: Settings,
    /// Connections by what they are for.
    pub access: Access,
    /// As the owner of the schema.
    pub owner: Pool,
    pub store: EventStore,
    pub positions: Positions,
    pub desk: Desk,
    pub tokens: Tokens,
    pub callers: Callers,
    pub limits: Limits,
    pub guesses: Guesses,
    pub slow_attempts: SlowAttempts,
    pub shares: Shares,
    /// Memory for request bodies.
    pub body_memory: BodyMemory,
    pub feed: LiveFeed,
    pub audit: Audit,
    pub master: MasterKey,
    pub prometheus: PrometheusHandle,
    pub statuses: Statuses,
    pub rendered: Rendered,
    /// Memory for the call lists that are received and parsed.
    pub uploads: Uploads,
    pub keyed_requests: KeyedRequests,
    /// True once the process is about to stop: `/readyz` says no.
    pub draining: watch::Receiver<bool>,
    /// True once the process is to stop: streams end.
    pub shutdown: watch::Receiver<bool>,
}

impl App {
    pub async fn new(
        settings: Settings,
        database: &Database,
        prometheus: PrometheusHandle,
        draining: watch::Receiver<bool>,
        shutdown: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let master = database.master_key.clone().context("the platform needs a master key")?;
        let (access, owner) = (database.access.clone(), database.pool.clone());
        let store = EventStore::open(database);
        let brought_back = store.persons().destroy_erased().await?;
        if brought_back > 0 {
            tracing::warn!(persons = brought_back, "keys of erased persons were there and have been destroyed");
        }
        credentials::conceal_addresses(&access.identity, &master).await?;
        let positions = Positions::default();
        Ok(Self(Arc::new(Shared {
            desk: Desk {
                store: store.clone(),
                pool: access.claims.clone(),
                positions: positions.clone(),
                claiming: ClaimsUnderWay::default(),
            },
            tokens: Tokens::load(&access.identity, &master, settings.token_minutes).await?,
            callers: Callers::new(access.identity.clone()),
            limits: Limits::new(settings.rate_per_caller, settings.rate_per_company),
            guesses: Guesses::new(settings.rate_of_guesses),
            slow_attempts: SlowAttempts::default(),
            shares: Shares::new(access.reads_max() as usize, settings.connections_max.div_ceil(STREAMS_SHARE) as usize),
            body_memory: BodyMemory::default(),
            feed: LiveFeed::start(store.clone()),
            audit: Audit::start(access.identity.clone()),
            uploads: Uploads::new(settings.upload_max_bytes),
            settings,
            access,
            owner,
            store,
            positions,
            master,
            prometheus,
            statuses: Statuses::default(),
            rendered: Rendered::default(),
            keyed_requests: KeyedRequests::default(),
            draining,
            shutdown,
        })))
    }

    /// A transaction that sees this company's rows and nobody else's.
    pub async fn company(&self, company_id: Uuid) -> Result<Transaction<'static, Postgres>, Problem> {
        Ok(self.access.company(company_id).await?)
    }

    pub fn sessions(&self) -> Sessions<'_> {
        Sessions { pool: &self.access.identity, tokens: &self.tokens, callers: &self.callers }
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
                       Errors are RFC 9457 problems. A POST that lists an `Idempotency-Key` can be sent again under it."
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

/// Compresses what the API answers. The documentation's own files, which clients without a credential read, are sent as they are.
#[derive(Clone, Copy)]
struct IsData;

impl Predicate for IsData {
    fn should_compress<B: HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        !["text/html", "text/css", "text/javascript", "application/javascript"].iter().any(|kind| content_type.starts_with(kind))
    }
}

/// The whole application.
pub fn router(app: App) -> Router {
    let (api, document) = api().split_for_parts();
    let api = api
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state((app.clone(), Arc::new(RouteNeeds::of(&document))), idempotency::middleware))
        .layer(middleware::from_fn_with_state(app.clone(), edge::gate))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES));
    let cors = cors(&app.settings.cors_origins);
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
        .layer(middleware::from_fn(edge::limit_head))
        .layer(middleware::from_fn(edge::patience))
        .layer(middleware::from_fn(edge::linger))
        .layer(middleware::from_fn(limit_time))
        .layer(middleware::from_fn(operations::count))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Problem::internal(&"a handler panicked").into_response()))
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(IsData)))
        .layer(cors)
        .layer(middleware::from_fn(edge::secure))
        .layer(middleware::from_fn_with_state(app.clone(), edge::assign_origin))
        .with_state(app)
}

/// Which pages may call from a browser, and what they may see. Credentials are headers, never cookies.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| origin.parse().ok());
    let seen = ["event-position", "etag", "retry-after", "idempotent-replayed", "reason", "x-request-id", "ratelimit", "ratelimit-policy"];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        // A wildcard would not cover Authorization (Fetch Standard, CORS non-wildcard request-header name).
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(seen.map(HeaderName::from_static))
        .max_age(CORS_MAX_AGE)
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
    match tokio::spawn(answered.in_current_span()).await {
        Ok(response) => response,
        Err(error) => Problem::internal(&error).into_response(),
    }
}
