use ::workers::engine::status;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    auth::{By, Operator},
    extract::Params,
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(retry))
}

#[derive(Serialize, ToSchema)]
struct RetriedView {
    /// Number of pieces of work that are tried again
    retried: u64,
}

/// Have a worker try everything again that it failed to do.
///
/// Work that it had given up counts as if it had never been tried.
#[utoipa::path(post, path = "/workers/{name}/retry", operation_id = "retry_worker", tag = "operations", security(("bearer" = ["operator"])), params(("name" = String, Path)),
    responses((status = 200, body = RetriedView), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn retry(State(app): State<App>, _by: By<Operator>, Params(name): Params<String>) -> Result<Answer<RetriedView>, Problem> {
    super::require(&app, &name).await?;
    let retried = status::retry(&app.access.work, &name).await?;
    Ok(Answer::ok(app.store.head().position(), RetriedView { retried }))
}
