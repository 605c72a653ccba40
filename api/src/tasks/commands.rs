//! Results of attempts, and cancelled tasks.

use axum::extract::State;
use domain::{
    outcome::Outcome,
    task::{AttemptFailure, CreatedTask, ERROR_MESSAGE_MAX, FailureCause},
    validation::Invalid,
};
use serde::Deserialize;
use services::Versioned;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{Agent, By, Manager},
    extract::{Body, Id},
    problem::Problem,
    state::App,
    tasks::TaskView,
    words::OutcomeName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(complete)).routes(routes!(fail)).routes(routes!(cancel))
}

/// The answer to a command on a task.
async fn answer(app: &App, company_id: Uuid, task: Versioned<CreatedTask>) -> Result<Answer<TaskView>, Problem> {
    let max_attempts = app.services.max_attempts(company_id, task.value.contact.campaign_id, None).await?;
    Ok(Answer::of(task, |task| TaskView::new(task, max_attempts)))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"call_id": "01934f5e-1111-7000-8000-000000000001", "outcome": "success"}))]
#[serde(deny_unknown_fields)]
struct CompleteTask {
    /// The call id that the claim gave
    call_id: Uuid,
    /// How the call ended
    #[schema(value_type = OutcomeName, example = "success")]
    outcome: Outcome,
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"call_id": "01934f5e-1111-7000-8000-000000000001", "error_message": "it rang for 30 s", "outcome": "no_answer"}))]
#[serde(deny_unknown_fields)]
struct FailTask {
    /// The call id that the claim gave
    call_id: Uuid,
    /// Why the attempt failed
    error_message: String,
    /// How the call ended, if there was one
    #[schema(value_type = Option<OutcomeName>, example = "no_answer")]
    outcome: Option<Outcome>,
}

/// Complete the current attempt successfully; no further attempt follows.
#[utoipa::path(post, path = "/tasks/{id}/complete", operation_id = "complete_task", tag = "tasks", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)), request_body = CompleteTask,
    responses((status = 200, body = TaskView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn complete(State(app): State<App>, by: By<Agent>, Id(id): Id, Body(input): Body<CompleteTask>) -> Result<Answer<TaskView>, Problem> {
    answer(&app, by.company_id(), app.services.complete_task(&by.op(), id, input.call_id, input.outcome).await?).await
}

/// Report that the current attempt failed.
///
/// A further attempt follows the campaign's retry policy; if it allows none, the task has failed.
#[utoipa::path(post, path = "/tasks/{id}/fail", operation_id = "fail_task", tag = "tasks", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)), request_body = FailTask,
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
    answer(&app, by.company_id(), app.services.fail_task(&by.op(), id, failure).await?).await
}

/// Cancel a waiting task: its person is not called again.
///
/// A task whose attempt is in progress, or that is completed or failed, is answered with 409.
#[utoipa::path(post, path = "/tasks/{id}/cancel", operation_id = "cancel_task", tag = "tasks", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = TaskView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn cancel(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Answer<TaskView>, Problem> {
    answer(&app, by.company_id(), app.services.cancel_task(&by.op(), id).await?).await
}
