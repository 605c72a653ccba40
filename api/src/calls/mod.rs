//! Calls, their turns and their end.

mod commands;
mod queries;
mod view;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub use view::{CallView, TurnView};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(queries::router())
}
