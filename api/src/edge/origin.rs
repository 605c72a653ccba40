//! Where a request comes from, and under which id it is known in answers, logs, the audit and the events it brings about.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::app::App;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const USER_AGENT_MAX_CHARS: usize = 200;

#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's own `X-Request-Id`, if it is a UUID.
    pub request_id: Uuid,
    pub client: Option<IpAddr>,
    pub user_agent: Option<String>,
}

impl Origin {
    fn of(request: &Request, behind_proxy: bool) -> Self {
        let header = |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let forwarded = if behind_proxy { forwarded_address(request.headers()) } else { None };
        Self {
            request_id: header(&REQUEST_ID).and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(Uuid::now_v7),
            client: forwarded.or(peer),
            user_agent: header(&header::USER_AGENT).map(|text| text.chars().take(USER_AGENT_MAX_CHARS).collect()),
        }
    }

    /// The client's address as text; without one all clients are the same.
    pub fn client(&self) -> String {
        self.client.map(|address| address.to_string()).unwrap_or_default()
    }

    /// What counts as one client, as text.
    pub fn network(&self) -> String {
        self.client.map(|address| network(address).to_string()).unwrap_or_default()
    }
}

/// The client's address as our own proxy saw it: the last one in X-Forwarded-For, else in Forwarded (RFC 7239). Those before it can be made
/// up by anybody.
fn forwarded_address(headers: &HeaderMap) -> Option<IpAddr> {
    let last = |name: &HeaderName| headers.get_all(name).iter().next_back().map(|value| value.to_str().unwrap_or("?"));
    let written = match (last(&FORWARDED_FOR), last(&header::FORWARDED)) {
        (Some(list), _) => list.rsplit(',').next(),
        (None, Some(list)) => list.rsplit(',').next().and_then(for_parameter),
        (None, None) => None,
    };
    let address = written.and_then(parse_address);
    if address.is_none() && !UNREADABLE_SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            forwarded = written,
            "the proxy names no client address that can be read, in X-Forwarded-For or Forwarded: requests count as the proxy's own"
        );
    }
    address
}

/// Whether the warning about addresses that cannot be read has been logged: once is enough.
static UNREADABLE_SAID: AtomicBool = AtomicBool::new(false);

/// The `for` of one element of Forwarded: `for="[2001:db8::1]:4711";proto=https`.
fn for_parameter(element: &str) -> Option<&str> {
    let parameters = element.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, value)| value)
}

/// An address in the forms that proxies write: with a port, in brackets, in quotes, with a zone.
fn parse_address(written: &str) -> Option<IpAddr> {
    let text = written.trim().trim_matches('"').trim();
    let without_zone = |text: &str| text.split_once('%').map_or_else(|| text.to_owned(), |(address, _)| address.to_owned());
    if let Some(rest) = text.strip_prefix('[') {
        return without_zone(rest.split_once(']')?.0).parse().ok();
    }
    if let Ok(address) = without_zone(text).parse() {
        return Some(address);
    }
    // An IPv4 address with a port; an IPv6 address with one is in brackets.
    let (address, port) = text.split_once(':')?;
    port.parse::<u16>().ok()?;
    address.parse().ok()
}

/// What counts as one client: an address, or in IPv6 the first of the network of 64 bits that one client has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Gives the request its origin, and its answer the request's id.
pub async fn assign_origin(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let origin = Origin::of(&request, app.settings.behind_proxy);
    let id = origin.request_id;
    let span = tracing::info_span!("request", method = %request.method(), path = request.uri().path(), request_id = %id);
    request.extensions_mut().insert(origin);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &HeaderName, values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        forwarded_address(&headers).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_read_in_the_forms_that_proxies_write() {
        let cases = [
            ("203.0.113.7", "203.0.113.7"),
            ("10.0.0.1, 203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:51234", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("::ffff:203.0.113.7", "::ffff:203.0.113.7"),
        ];
        for (written, read) in cases {
            assert_eq!(address(&FORWARDED_FOR, &[written]).as_deref(), Some(read), "{written}");
        }
        assert_eq!(address(&FORWARDED_FOR, &["1.1.1.1", "203.0.113.7"]).as_deref(), Some("203.0.113.7"), "the last header");
        let forwarded = "for=10.0.0.1, For=\"[2001:db8::1]:4711\";proto=https;by=203.0.113.43";
        assert_eq!(address(&header::FORWARDED, &[forwarded]).as_deref(), Some("2001:db8::1"));
        for unreadable in ["unknown", "_hidden", "", "203.0.113.7:port", "203.0.113", "[2001:db8::1"] {
            assert_eq!(address(&FORWARDED_FOR, &[unreadable]), None, "{unreadable}");
        }
        assert_eq!(address(&header::FORWARDED, &["proto=https"]), None);
    }
}
