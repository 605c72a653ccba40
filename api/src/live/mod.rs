//! What happens, as it happens: the company's events as a stream, one call's over a WebSocket.

mod feed;
mod follower;
mod sse;
mod ws;

use std::time::{Duration, Instant};

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, auth::Identity};

pub use feed::LiveFeed;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(sse::router()).merge(ws::router())
}

/// How often to look whether the caller may still see what happens.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Keeps an eye on who a stream is for, as long as it lasts.
struct Watch {
    identity: Identity,
    looked_at: Instant,
}

impl Watch {
    fn new(identity: Identity) -> Self {
        Self { identity, looked_at: Instant::now() }
    }

    /// Whether the caller is still who they were when the stream began. That the database does not answer says nothing of them.
    async fn may_go_on(&mut self, app: &App) -> bool {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return true;
        }
        self.looked_at = Instant::now();
        app.callers.again(&self.identity).await.map_or(true, |now| now.as_ref() == Some(&self.identity))
    }
}
