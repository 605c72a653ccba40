//! Calls, their turns and their end.

mod commands;
mod filter;
mod queries;
mod turns;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub use commands::CallView;
pub use filter::CallParams;
pub use turns::TurnView;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(turns::router()).merge(queries::router())
}
