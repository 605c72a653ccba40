//! What only asks: each resource has its file and router.

mod analytics;
mod api_keys;
mod audit;
mod calls;
pub mod campaigns;
mod company;
mod events;
mod overview;
pub mod price_lists;
mod projections;
pub mod skillbases;
mod tasks;
pub mod users;

use axum::{extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

pub use events::EventFilter;

use crate::{app::App, extract::QueryOf, problem::Problem};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(company::router())
        .merge(api_keys::router())
        .merge(users::router())
        .merge(audit::router())
        .merge(skillbases::router())
        .merge(campaigns::router())
        .merge(tasks::router())
        .merge(calls::router())
        .merge(analytics::router())
        .merge(overview::router())
        .merge(price_lists::router())
        .merge(projections::router())
        .merge(events::router())
}

/// `?min_position=`: how far the read model must be.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Fresh {
    /// Wait until the read model has this log position, at most 5 s.
    pub min_position: Option<i64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Fresh {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let QueryOf(fresh) = QueryOf::<Self>::from_request_parts(parts, state).await?;
        Ok(fresh)
    }
}

impl Fresh {
    /// For what is read from the log itself: its end. A position beyond it is refused.
    pub async fn of_log(&self, app: &App) -> Result<i64, Problem> {
        let position = app.store.last_position().await?;
        match self.min_position.filter(|wanted| *wanted > position) {
            Some(wanted) => Err(Problem::unavailable(format!("min_position {wanted} is beyond the log, which ends at {position}"))),
            None => Ok(position),
        }
    }

    /// Waits for the projections; answers how far the slowest of them is.
    pub async fn wait(&self, app: &App, projections: &[&str]) -> Result<i64, Problem> {
        app.caught_up(projections, self.min_position).await
    }
}

/// `?as_of=`: the state at a moment, by what the platform knew then.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AsOf {
    /// The state at this moment, by recorded_at.
    pub as_of: Option<DateTime<Utc>>,
}

impl<S: Send + Sync> FromRequestParts<S> for AsOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let QueryOf(as_of) = QueryOf::<Self>::from_request_parts(parts, state).await?;
        Ok(as_of)
    }
}

/// `limit` and `cursor`, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that `Paging` reads")]
pub struct PagingParams {
    /// 1 to 200
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

/// The same of a history, which comes whole without a limit.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes parameters that `HistoryPaging` reads")]
pub struct HistoryParams {
    /// 1 to 200; without it up to 5,000 events, fewer if they are long
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}
