//! API keys.

mod commands;
mod queries;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(queries::router())
}
