//! Metrics and costs.

mod bills;
mod overview;
mod queries;
mod view;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

pub use view::{CallMetricsView, CostView, OutcomesView, UnpricedView};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(queries::router()).merge(overview::router())
}
