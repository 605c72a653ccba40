//! Campaigns.

mod call_list;
mod commands;
mod queries;
mod view;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub use view::CampaignView;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(commands::router()).merge(call_list::router()).merge(queries::router())
}
