//! Workers: what acts without a request.

mod commands;
mod queries;

use ::workers::engine::status;
use utoipa_axum::router::OpenApiRouter;

use crate::{problem::Problem, state::App};

pub fn router() -> OpenApiRouter<App> {
    queries::router().merge(commands::router())
}

/// Answers 404 unless a worker of this name has run in this installation.
async fn require(app: &App, name: &str) -> Result<(), Problem> {
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name && status::exists(&app.access.work, name).await? { Ok(()) } else { Err(Problem::not_found("worker")) }
}
