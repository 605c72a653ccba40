//! Skillbases.

mod commands;
mod queries;
mod schema;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(queries::router())
}
