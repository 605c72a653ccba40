//! The client address of a request, and the request id in answers, logs, the audit and the events that the request causes.

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

use crate::settings::BehindProxy;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const USER_AGENT_MAX_CHARS: usize = 200;

#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's `X-Request-Id` if it is a UUID, else a new id.
    pub request_id: Uuid,
    pub client: Option<IpAddr>,
    pub user_agent: Option<String>,
}

impl Origin {
    fn of(request: &Request, behind_proxy: BehindProxy) -> Self {
        let header = |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let forwarded = behind_proxy.header().and_then(|name| match forwarded_address(request.headers(), &name) {
            Ok(address) => Some(address),
            Err(missing) => {
                missing.warn_once(&name);
                None
            }
        });
        Self {
            request_id: header(&REQUEST_ID).and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(Uuid::now_v7),
            client: forwarded.or(peer),
            user_agent: header(&header::USER_AGENT).map(|text| text.chars().take(USER_AGENT_MAX_CHARS).collect()),
        }
    }

    /// The client's address as text; without an address all clients are the same.
    pub fn client(&self) -> String {
        self.client.map(|address| address.to_string()).unwrap_or_default()
    }

    /// The client's network; limits are per network.
    pub fn network_address(&self) -> Option<IpAddr> {
        self.client.map(network)
    }

    /// The client's network as text.
    pub fn network(&self) -> String {
        self.network_address().map(|address| address.to_string()).unwrap_or_default()
    }
}

/// The client's address as our proxy saw it: the last one in the header that the proxy sets. Earlier addresses in it, and other headers,
/// can be forged by the client.
fn forwarded_address(headers: &HeaderMap, name: &HeaderName) -> Result<IpAddr, MissingAddress> {
    let list = headers.get_all(name).iter().next_back().ok_or(MissingAddress::NoHeader)?;
    let list = list.to_str().unwrap_or("?");
    let last = list.rsplit(',').next().unwrap_or_default();
    let written = if *name == header::FORWARDED { for_parameter(last) } else { Some(last) };
    written.and_then(parse_address).ok_or_else(|| MissingAddress::Unreadable(list.to_owned()))
}

/// Why a request has no client address.
#[derive(Debug, PartialEq, Eq)]
enum MissingAddress {
    NoHeader,
    /// The header has this value, which is not an address.
    Unreadable(String),
}

impl MissingAddress {
    /// Logs each reason once per process, because every request may have it.
    fn warn_once(&self, header: &HeaderName) {
        static NO_HEADER_LOGGED: AtomicBool = AtomicBool::new(false);
        static UNREADABLE_LOGGED: AtomicBool = AtomicBool::new(false);
        match self {
            Self::NoHeader if !NO_HEADER_LOGGED.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    %header,
                    "a request came without the proxy's header: it and others like it count as the proxy's own, as health checks may"
                );
            }
            Self::Unreadable(sent) if !UNREADABLE_LOGGED.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%header, sent, "the proxy's header names no client address that can be read: such requests count as the proxy's own");
            }
            Self::NoHeader | Self::Unreadable(_) => {}
        }
    }
}

/// The `for` of one element of Forwarded: `for="[2001:db8::1]:4711";proto=https`.
fn for_parameter(element: &str) -> Option<&str> {
    let parameters = element.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, value)| value)
}

/// Parses an address in the forms that proxies write: with a port, in brackets, in quotes, with a zone.
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

/// The network that is treated as one client: an IPv4 address, or the first address of an IPv6 network of 56 bits, which providers assign
/// to one customer (RIPE-690).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d & 0xff00, 0, 0, 0, 0])
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Adds the origin to the request, and the request id to the answer.
pub async fn assign_origin(State(behind_proxy): State<BehindProxy>, mut request: Request, next: Next) -> Response {
    let origin = Origin::of(&request, behind_proxy);
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

    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    }

    fn address(name: &HeaderName, values: &[&'static str]) -> Option<String> {
        forwarded_address(&headers(name, values), name).ok().map(|address| address.to_string())
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

    #[test]
    fn one_customer_is_one_client() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:22ff::1"), of("2001:db8:1:2200:5::"));
        assert_ne!(of("2001:db8:1:22ff::1"), of("2001:db8:1:2300::1"));
        assert_eq!(of("::ffff:203.0.113.7"), of("203.0.113.7"));
        assert_ne!(of("203.0.113.7"), of("203.0.113.8"));
    }

    #[test]
    fn only_the_header_that_the_proxy_sets_is_read() {
        let mut both = headers(&FORWARDED_FOR, &["198.51.100.1"]);
        both.append(header::FORWARDED, HeaderValue::from_static("for=203.0.113.7"));
        let read = |name| forwarded_address(&both, name).unwrap().to_string();
        assert_eq!((read(&FORWARDED_FOR).as_str(), read(&header::FORWARDED).as_str()), ("198.51.100.1", "203.0.113.7"));
        let forged = headers(&FORWARDED_FOR, &["198.51.100.1"]);
        assert_eq!(forwarded_address(&forged, &header::FORWARDED), Err(MissingAddress::NoHeader));
        let request = Request::builder().header(FORWARDED_FOR, "198.51.100.1").body(axum::body::Body::empty()).unwrap();
        for behind_proxy in [BehindProxy::No, BehindProxy::Forwarded] {
            assert_eq!(Origin::of(&request, behind_proxy).client, None);
        }
        assert_eq!(Origin::of(&request, BehindProxy::XForwardedFor).client(), "198.51.100.1");
    }

    #[test]
    fn a_header_that_is_absent_is_told_from_one_that_cannot_be_read() {
        let unreadable = headers(&FORWARDED_FOR, &["unknown"]);
        assert_eq!(forwarded_address(&unreadable, &FORWARDED_FOR), Err(MissingAddress::Unreadable("unknown".to_owned())));
        assert_eq!(forwarded_address(&HeaderMap::new(), &FORWARDED_FOR), Err(MissingAddress::NoHeader));
    }
}
