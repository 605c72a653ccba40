//! Campaigns.

mod call_list;
mod commands;
mod contacts;
mod queries;
mod view;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub(crate) use commands::finish;
pub use view::{CampaignView, PacingView};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(call_list::router()).merge(contacts::router()).merge(queries::router())
}
