//! Erasing a person.

use axum::extract::State;
use domain::{
    person::{Person, PersonCommand},
    phone::to_e164,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    app::App,
    auth::{Admin, By},
    extract::Body,
    idempotency,
    problem::Problem,
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
    /// By which events still know that it was somebody; whose number it was nobody can tell any more
    person_id: Uuid,
    /// Calls that were still to be made to them
    cancelled_tasks: usize,
}

/// Erase a person: the key to their number, name, contact data and to all that was said is destroyed, for ever and everywhere. Counts and
/// costs stay. Waiting tasks are cancelled. A number that comes again later is a new person.
#[utoipa::path(post, path = "/persons/erase", tag = "identity", security(("bearer" = ["admin"])), request_body = ErasePerson,
    responses((status = 200, body = ErasedPerson), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn erase(State(app): State<App>, by: By<Admin>, Body(input): Body<ErasePerson>) -> Result<Answer<ErasedPerson>, Problem> {
    let company_id = by.company_id();
    let phone_number = to_e164(&input.phone_number, None).map_err(|error| Problem::invalid("phone_number", error.to_string()))?;
    let person_id = app.store.persons().known_by(company_id, &phone_number).await?;
    let person_id = person_id.ok_or_else(|| Problem::not_found("person"))?;
    // Whatever is to be forgotten besides their key is found by it: all of that comes first, and again if this is cut off.
    let head = app.store.last_position().await?;
    app.caught_up(&["call_tasks"], Some(head)).await?;
    idempotency::forget_answers(&app, company_id).await?;
    let cancelled_tasks = app.desk.cancel_tasks_of(&by.context(), person_id).await?;
    let position = app.store.erase_person::<Person>(&by.context(), person_id, PersonCommand::Erase).await?;
    idempotency::forget_answers(&app, company_id).await?;
    Ok(Answer::ok(position, ErasedPerson { person_id, cancelled_tasks }))
}
