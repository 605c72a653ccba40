//! What happens, as it happens: the company's events as a stream, one call's over a WebSocket.

mod sse;
mod ws;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(sse::router()).merge(ws::router())
}
