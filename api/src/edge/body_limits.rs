//! How long the body of a request may be.

/// Maximum size of a body of a route that is not listed below, in bytes.
const BODY_MAX_BYTES: usize = 256 << 10;
/// Maximum size of a body with a credential or a password, in bytes.
const AUTH_BODY_MAX_BYTES: usize = 16 << 10;
/// Maximum size of the turns of one request, in bytes: 500 long turns fit.
const TURNS_BODY_MAX_BYTES: usize = 32 << 20;
/// Maximum size of a skillbase with its configuration, in bytes.
const SKILLBASE_BODY_MAX_BYTES: usize = 4 << 20;
/// Maximum size of a list of rates, in bytes.
const RATES_BODY_MAX_BYTES: usize = 1 << 20;

/// Maximum size of the contacts of one request, in bytes.
const CONTACTS_BODY_MAX_BYTES: usize = 1 << 20;

/// The longest body of a route, in bytes; `action` is the method and the route as in the OpenAPI document. Call lists have a setting
/// instead.
pub fn body_max_bytes(action: &str) -> usize {
    let (method, route) = action.split_once(' ').unwrap_or(("", action));
    match (method, route) {
        ("POST", "/calls/{id}/turns") => TURNS_BODY_MAX_BYTES,
        ("POST", "/skillbases") | ("PUT", "/skillbases/{id}") => SKILLBASE_BODY_MAX_BYTES,
        ("POST", "/campaigns/{id}/tasks") => CONTACTS_BODY_MAX_BYTES,
        ("POST", "/price-lists" | "/price-lists/what-if") => RATES_BODY_MAX_BYTES,
        _ if route.starts_with("/auth/") || route.starts_with("/users") => AUTH_BODY_MAX_BYTES,
        _ => BODY_MAX_BYTES,
    }
}
