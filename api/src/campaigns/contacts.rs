//! Contacts that a program adds to a campaign.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use services::{ImportReport, call_list};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    auth::{By, Manager},
    campaigns::call_list::RowErrorView,
    extract::{Body, Id},
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(add))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"contacts": [
    {"phone_number": "+12025550143", "contact_name": "Ada", "contact_data": {"order": "A-17"}, "priority": 1}, {"phone_number": "+12025550144"}]}))]
#[serde(deny_unknown_fields)]
struct NewContacts {
    /// 1 to 1,000 persons to call
    contacts: Vec<NewContact>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewContact {
    /// E.164, or the national form of the campaign's `default_region`
    #[schema(example = "+12025550143")]
    phone_number: String,
    /// The person's name
    contact_name: Option<String>,
    /// Any other data of the contact, which the agent gets with the task
    #[serde(default)]
    #[schema(value_type = Option<HashMap<String, Value>>)]
    contact_data: Map<String, Value>,
    /// Tasks with a higher priority are called first; 0 by default
    #[serde(default)]
    priority: i32,
}

impl From<NewContact> for call_list::NewContact {
    fn from(given: NewContact) -> Self {
        let NewContact { phone_number, contact_name, contact_data, priority } = given;
        Self { phone_number, contact_name, contact_data, priority }
    }
}

/// What came of the contacts.
#[derive(Serialize, ToSchema)]
struct AddedContacts {
    /// Number of contacts in the request
    total: u64,
    /// Number of tasks that were created
    created: u64,
    /// Why contacts became no tasks: `Contact 2: …`, where the first contact is 1
    errors: Vec<String>,
    /// The same errors, for programs
    row_errors: Vec<RowErrorView>,
    /// Values that were read in another way than they are written, or set aside: `Contact 2: …`
    notes: Vec<String>,
}

impl From<ImportReport> for AddedContacts {
    fn from(report: ImportReport) -> Self {
        let ImportReport { total, created, errors, row_errors, notes, .. } = report;
        Self { total, created, errors, row_errors: row_errors.into_iter().map(RowErrorView::from).collect(), notes }
    }
}

/// Add contacts. Those that cannot be called are reported and the others become tasks.
///
/// A number that the campaign has already is an error of its contact, however it is written. With an `Idempotency-Key`, a repeated request
/// creates no task twice and reports the same.
#[utoipa::path(post, path = "/campaigns/{id}/tasks", operation_id = "add_contacts", tag = "tasks", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    request_body = NewContacts,
    responses((status = 200, body = AddedContacts), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn add(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    Body(NewContacts { contacts }): Body<NewContacts>,
) -> Result<Answer<AddedContacts>, Problem> {
    let contacts = contacts.into_iter().map(call_list::NewContact::from).collect();
    let (report, position) = app.services.add_contacts(&by.op(), id, by.ids.make("import"), contacts).await?;
    Ok(Answer::ok(position, report.into()))
}
