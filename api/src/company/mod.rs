//! The company of the caller.

mod commands;
mod queries;
mod view;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub use view::{CompanyView, RegisteredUser};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(queries::router())
}
