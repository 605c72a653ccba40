//! Erasing a person.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{Admin, By},
    extract::Body,
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(erase))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ErasePerson {
    /// E.164
    #[schema(example = "+12025550100")]
    phone_number: String,
}

#[derive(Serialize, ToSchema)]
struct ErasedPerson {
    /// Pseudonym that remains in the events; it can no longer be linked to the number
    person_id: Uuid,
    /// Waiting tasks that were cancelled
    cancelled_tasks: usize,
}

/// Erase a person.
///
/// The key to their number, name, contact data and everything that was said is destroyed permanently, in all copies of the data. Counts and
/// costs are kept. Waiting tasks are cancelled. If the number is used later, it belongs to a new person.
#[utoipa::path(post, path = "/persons/erase", operation_id = "erase_person", tag = "identity", security(("bearer" = ["admin"])), request_body = ErasePerson,
    responses((status = 200, body = ErasedPerson), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn erase(State(app): State<App>, by: By<Admin>, Body(input): Body<ErasePerson>) -> Result<Answer<ErasedPerson>, Problem> {
    let erased = app.services.erase_person(&by.op(), &input.phone_number).await?;
    Ok(Answer::ok(erased.position, ErasedPerson { person_id: erased.person_id, cancelled_tasks: erased.cancelled_tasks }))
}
