//! Metrics and costs.

mod bills;
mod overview;
mod queries;
mod view;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

#[cfg(test)]
pub use view::CallMetricsView;
pub use view::{CostView, OutcomesView, UnpricedView};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().merge(queries::router()).merge(overview::router())
}
