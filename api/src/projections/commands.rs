//! Rebuilding projections, and retrying stopped ones. Only operators may do this, because read models hold the rows of all companies.

use axum::{extract::State, http::StatusCode};
use projections::{
    by_name,
    rebuild::{self, Purpose},
    status,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::EVENT_POSITION,
    auth::{By, Operator},
    extract::Params,
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(request_rebuild)).routes(routes!(restore)).routes(routes!(retry))
}

type Accepted = (StatusCode, [(axum::http::HeaderName, String); 1]);

fn accepted(app: &App) -> Accepted {
    (StatusCode::ACCEPTED, [(EVENT_POSITION, app.store.head().position().to_string())])
}

/// Rebuild a projection from the whole log.
///
/// The new tables are filled beside the live ones, which serve requests until the swap.
#[utoipa::path(post, path = "/projections/{name}/rebuild", operation_id = "rebuild_projection", tag = "operations", security(("bearer" = ["operator"])), params(("name" = String, Path)),
    responses((status = 202), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn request_rebuild(State(app): State<App>, _by: By<Operator>, Params(name): Params<String>) -> Result<Accepted, Problem> {
    let projection = by_name(&name).ok_or_else(|| Problem::not_found("projection"))?;
    rebuild::request(&app.access.work, projection.as_ref(), Purpose::Rebuild).await?;
    Ok(accepted(&app))
}

/// Restore the tables from before the last rebuild.
///
/// They are brought up to date first; the tables that are live now are kept in their place.
#[utoipa::path(post, path = "/projections/{name}/restore", operation_id = "restore_projection", tag = "operations", security(("bearer" = ["operator"])), params(("name" = String, Path)),
    responses((status = 202), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn restore(State(app): State<App>, _by: By<Operator>, Params(name): Params<String>) -> Result<Accepted, Problem> {
    let projection = by_name(&name).ok_or_else(|| Problem::not_found("projection"))?;
    rebuild::request(&app.access.work, projection.as_ref(), Purpose::Restore).await?;
    Ok(accepted(&app))
}

/// Let a projection that stopped at an event retry it.
#[utoipa::path(post, path = "/projections/{name}/retry", operation_id = "retry_projection", tag = "operations", security(("bearer" = ["operator"])), params(("name" = String, Path)),
    responses((status = 202), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn retry(State(app): State<App>, _by: By<Operator>, Params(name): Params<String>) -> Result<Accepted, Problem> {
    by_name(&name).ok_or_else(|| Problem::not_found("projection"))?;
    let mut db = app.access.work.acquire().await?;
    if status::retry(&mut db, &name).await? { Ok(accepted(&app)) } else { Err(Problem::conflict("the projection has not stopped")) }
}
