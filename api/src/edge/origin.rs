//! Where a request comes from, and under which id it is known in answers, logs, the audit and the events it brings about.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, header},
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
        // The last address is the one that our own proxy saw; those before it anybody can make up.
        let forwarded = request.headers().get_all(&FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
        let forwarded = forwarded.filter(|_| behind_proxy).and_then(|value| value.rsplit(',').next()?.trim().parse().ok());
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
