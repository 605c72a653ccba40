//! The layers that every request passes before its handler, and every answer after it.

pub mod audit;
mod body_limits;
mod body_memory;
mod body_timeout;
pub mod company_places;
pub mod connection_limiter;
mod drain;
mod failed_credentials;
mod gate;
mod head;
mod limits;
mod no_body;
mod origin;
mod processor_time;
mod query_parameters;
mod repeats;
pub mod server;
mod shares;

pub use audit::{Audit, AuditSubject, Unchanged};
pub use body_limits::body_max_bytes;
pub use body_memory::{BodyMemory, NoMemory};
pub use body_timeout::{BodyTimeout, limit_body_time};
pub use company_places::CompanyPlaces;
pub use drain::drain_refused_body;
pub use failed_credentials::FailedCredentialLimiter;
pub use gate::{action, gate};
pub use head::limit_head;
pub use limits::Limits;
pub use no_body::{WithoutBody, refuse_needless_body};
pub use origin::{Origin, assign_origin};
pub use processor_time::{Bill, Payer, ProcessorTime, share_processor};
pub use query_parameters::{QueryParameters, refuse_unknown_parameters};
pub use shares::{Share, Shares, spawn_apart};

use std::time::Duration;

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

/// A request that takes longer is answered with 503; streams are not limited.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Sets the security headers of every answer (OWASP Secure Headers). Answers are for the caller only, and none of them is a page, except
/// the documentation, for which its own files and styles are allowed. The page of the documentation has no inline script.
pub async fn secure(request: Request, next: Next) -> Response {
    let is_page = request.uri().path().starts_with("/docs");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = if is_page {
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    let all: [(HeaderName, &'static str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=63072000; includeSubDomains"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !is_page {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}
