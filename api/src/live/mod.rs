//! Live events: the company's events as a stream, and the events of one call over a WebSocket.

mod feed;
mod follower;
mod sse;
mod ws;

use std::time::{Duration, Instant};

use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use services::identity::Identity;

use crate::state::App;

pub use feed::{LiveEvent, LiveFeed};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(sse::router()).merge(ws::router())
}

/// How often the caller's rights are checked.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Checks the caller's rights as long as a stream is open.
pub struct Watch {
    identity: Identity,
    looked_at: Instant,
}

impl Watch {
    pub fn new(identity: Identity) -> Self {
        Self { identity, looked_at: Instant::now() }
    }

    pub const fn company_id(&self) -> Uuid {
        self.identity.company_id
    }

    /// Whether the caller has the same rights as when the stream began. If the database does not answer, the stream continues.
    pub async fn may_go_on(&mut self, app: &App) -> bool {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return true;
        }
        self.looked_at = Instant::now();
        app.services.identity.callers.again(&self.identity).await.map_or(true, |now| now.as_ref() == Some(&self.identity))
    }
}
