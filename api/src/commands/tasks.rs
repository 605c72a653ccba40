//! Results of attempts.

use axum::extract::State;
use domain::{
    outcome::Outcome,
    task::{AttemptFailure, ERROR_MESSAGE_MAX, FailureCause, Task},
    validation::Invalid,
};
use eventstore::{Committed, Loaded};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    app::App,
    auth::{Agent, By},
    extract::{Body, Id},
    problem::Problem,
    views::TaskView,
    words::OutcomeName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(complete)).routes(routes!(fail))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CompleteTask {
    call_id: Uuid,
    #[schema(value_type = OutcomeName, example = "success")]
    outcome: Outcome,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FailTask {
    call_id: Uuid,
    error_message: String,
    #[schema(value_type = Option<OutcomeName>, example = "no_answer")]
    outcome: Option<Outcome>,
}

async fn answer(app: &App, company_id: Uuid, id: Uuid, committed: Committed<Task>) -> Result<Answer<TaskView>, Problem> {
    let loaded: Loaded<Task> = app.store.load(company_id, id).await?;
    let task = committed.state.created().ok_or_else(|| Problem::not_found("task"))?;
    let view = TaskView::from_state(id, task, (loaded.created_at, loaded.updated_at));
    Ok(Answer::ok(committed.position, view).version(committed.version))
}

/// The current attempt ended and no other is needed.
#[utoipa::path(post, path = "/tasks/{id}/complete", tag = "tasks", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)), request_body = CompleteTask,
    responses((status = 200, body = TaskView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn complete(State(app): State<App>, by: By<Agent>, Id(id): Id, Body(input): Body<CompleteTask>) -> Result<Answer<TaskView>, Problem> {
    let committed = app.desk.complete(&by.context(), id, input.call_id, input.outcome).await?;
    answer(&app, by.company_id(), id, committed).await
}

/// The current attempt failed: it is tried again as the campaign's retry policy says, or the task has failed.
#[utoipa::path(post, path = "/tasks/{id}/fail", tag = "tasks", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)), request_body = FailTask,
    responses((status = 200, body = TaskView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn fail(State(app): State<App>, by: By<Agent>, Id(id): Id, Body(input): Body<FailTask>) -> Result<Answer<TaskView>, Problem> {
    let mut invalid = Invalid::default();
    invalid.text("error_message", &input.error_message, ERROR_MESSAGE_MAX);
    invalid.into_result()?;
    let failure = AttemptFailure {
        call_id: input.call_id,
        error_message: input.error_message.into(),
        outcome: input.outcome,
        cause: FailureCause::Reported,
    };
    let committed = app.desk.fail(&by.context(), id, failure).await?;
    answer(&app, by.company_id(), id, committed).await
}
