//! Price lists.

mod commands;
mod queries;
mod rates;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub use rates::RateView;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(queries::router())
}
