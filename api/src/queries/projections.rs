//! How the projections are.

use axum::extract::State;
use projections::status;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{By, Viewer},
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Every projection: its status, position, lag in events and in seconds, and what it stopped at.
#[utoipa::path(get, path = "/projections", tag = "operations", responses((status = 200, body = Items<Object>)))]
async fn list(State(app): State<App>, _by: By<Viewer>) -> Result<Answer<Items<Value>>, Problem> {
    let statuses = status::read(&app.pool).await?;
    let position = statuses.iter().map(|s| s.position).min().unwrap_or(0);
    let items = statuses.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(|e| Problem::internal(&e))?;
    Ok(Answer::ok(position, Items { items, next_cursor: None }))
}
