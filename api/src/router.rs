//! The router of the whole application, and its layers.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::HttpBody,
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, DefaultPredicate, Predicate},
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};
use tracing::Instrument as _;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    auth::RouteNeeds,
    edge::{self, QueryParameters, REQUEST_TIMEOUT, WithoutBody},
    idempotency,
    openapi::{Document, complete},
    operations,
    originals::{self, Originals},
    problem::Problem,
    state::App,
};

/// A read that takes longer is answered with 503; see [`REQUEST_TIMEOUT`].
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a browser may cache the answer to a CORS preflight.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

/// All routes below `/api/v1`, with their OpenAPI description.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(crate::analytics::router())
        .merge(crate::api_keys::router())
        .merge(crate::audit::router())
        .merge(crate::auth::routes::router())
        .merge(crate::calls::router())
        .merge(crate::campaigns::router())
        .merge(crate::company::router())
        .merge(crate::events::router())
        .merge(crate::live::router())
        .merge(crate::persons::router())
        .merge(crate::price_lists::router())
        .merge(crate::projections::router())
        .merge(crate::skillbases::router())
        .merge(crate::tasks::router())
        .merge(crate::users::router())
        .merge(crate::workers::router())
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    complete(api().split_for_parts().1)
}

/// Compresses the answers of the API. The documentation's own files, which clients without a credential can read, are sent uncompressed.
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
    let (unversioned, unversioned_document) = self::api().merge(originals::router()).split_for_parts();
    let gate = middleware::from_fn_with_state(app.clone(), edge::gate);
    let originals = Originals::new(app.clone(), RouteNeeds::of(&unversioned_document));
    let adapt = middleware::from_fn_with_state(Arc::new(originals), originals::adapt);
    let cors = cors(&app.settings.http.cors_origins);
    Router::new()
        .nest("/api/v1", checked(&app, api, &document).layer(gate.clone()))
        .nest("/api", checked(&app, unversioned, &unversioned_document).layer(adapt).layer(gate))
        .merge(utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", complete(document)))
        .route("/", get(|| async { axum::response::Redirect::temporary("/docs/") }))
        .merge(operations::router())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { Problem::not_found("path") })
        .layer(middleware::from_fn_with_state(app.clone(), edge::share_processor))
        .layer(middleware::from_fn_with_state(app.clone(), detach))
        .layer(middleware::from_fn(edge::limit_head))
        .layer(middleware::from_fn(edge::limit_body_time))
        .layer(middleware::from_fn(edge::drain_refused_body))
        .layer(middleware::from_fn(limit_time))
        .layer(middleware::from_fn(operations::count))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Problem::internal(&"a handler panicked").into_response()))
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(IsData)))
        .layer(cors)
        .layer(middleware::from_fn(edge::secure))
        .layer(middleware::from_fn_with_state(app.settings.http.behind_proxy, edge::assign_origin))
        .with_state(app)
}

/// Routes with what the document says of them: their parameters, whether they take a body, and who may repeat a request under its key.
fn checked(app: &App, routes: Router<App>, document: &utoipa::openapi::OpenApi) -> Router<App> {
    routes
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::new(WithoutBody::of(document)), edge::refuse_needless_body))
        .layer(middleware::from_fn_with_state((app.clone(), Arc::new(RouteNeeds::of(document))), idempotency::middleware))
        .layer(middleware::from_fn_with_state(Arc::new(QueryParameters::of(document)), edge::refuse_unknown_parameters))
}

/// The origins whose pages may call the API from a browser, and the headers that they may see. Credentials are in headers, never in
/// cookies.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| origin.parse().ok());
    let seen = [
        "event-position",
        "etag",
        "retry-after",
        "idempotent-replayed",
        "reason",
        "x-request-id",
        "ratelimit",
        "ratelimit-policy",
        "content-disposition",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        // A wildcard would not include Authorization (Fetch Standard, CORS non-wildcard request-header name).
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(seen.map(HeaderName::from_static))
        .max_age(CORS_MAX_AGE)
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
}

/// Limits the time that a client waits. A command that takes longer still runs to its end.
async fn limit_time(request: Request, next: Next) -> Response {
    let (limit, detail) = if request.method().is_safe() {
        (READ_TIMEOUT, "the request took too long")
    } else {
        (REQUEST_TIMEOUT, "the request took too long; whether it had an effect is not known")
    };
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| Problem::unavailable(detail).into_response())
}

/// An accepted command runs to its end even if the client disconnects. It does not wait for a database that has stopped answering, because
/// it would keep its connection from other requests.
async fn detach(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_safe = request.method().is_safe();
    let answered = async move {
        let answered = app.store.head().health().or_unavailable(next.run(request)).await;
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
