//! How the projections are.

use axum::extract::State;
use projections::status;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Fresh, PagingParams};
use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{By, Viewer},
    extract::Paging,
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Every projection: its status, position, lag in events and in seconds, and what it stopped at.
#[utoipa::path(get, path = "/projections", tag = "operations", params(Fresh, PagingParams), responses((status = 200, body = Items<Object>)))]
async fn list(State(app): State<App>, _by: By<Viewer>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<Value>>, Problem> {
    let names: Vec<_> = projections::all().iter().map(|p| p.name()).collect();
    // One that has stopped would keep everybody waiting who wants to see that.
    if fresh.min_position.is_some() {
        fresh.of_log(&app).await?;
        let patience = projections::WAIT_MAX;
        let _ = app.positions.reached(&names, fresh.min_position.unwrap_or_default(), patience).await;
    }
    let statuses = status::read(&app.pool).await?;
    let position = statuses.iter().map(|s| s.position).min().unwrap_or(0);
    let after = paging.after::<i64>()?.unwrap_or(0);
    let rows: Vec<_> =
        (1_i64..).zip(statuses).filter(|(n, _)| *n > after).take(usize::try_from(paging.limit).unwrap_or_default()).collect();
    let page = Items::page(rows, paging.limit, |(n, _)| *n, |(_, status)| serde_json::to_value(status));
    let items = page.items.into_iter().collect::<Result<_, _>>().map_err(|e| Problem::internal(&e))?;
    Ok(Answer::ok(position, Items { items, next_cursor: page.next_cursor }))
}
