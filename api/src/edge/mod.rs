//! What every request passes before it reaches its handler, and every answer on its way back.

pub mod audit;
mod body_memory;
pub mod company_places;
mod gate;
mod guesses;
mod head;
mod limits;
mod linger;
mod origin;
mod patience;
pub mod places;
mod repeats;
pub mod server;
mod shares;

pub use audit::{Audit, AuditSubject};
pub use body_memory::{BodyMemory, NoMemory};
pub use company_places::CompanyPlaces;
pub use gate::{action, gate};
pub use guesses::Guesses;
pub use head::limit_head;
pub use limits::Limits;
pub use linger::linger;
pub use origin::{Origin, assign_origin};
pub use patience::{TooSlow, patience};
pub use shares::Shares;

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

/// Headers of every answer (OWASP Secure Headers). What is answered is for the caller alone, and none of it is a page, but for the
/// documentation, whose own files and styles are let in. Its page has no inline script.
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
