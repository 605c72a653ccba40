//! API keys.

use axum::extract::State;
use domain::role::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Done},
    auth::{Admin, By},
    extract::{Body, Id},
    problem::Problem,
    state::App,
    words::RoleName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(issue)).routes(routes!(revoke))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"name": "voice agent", "role": "agent"}))]
#[serde(deny_unknown_fields)]
struct IssueKey {
    /// A name to recognize the key by
    name: String,
    /// What the key may do
    #[schema(value_type = RoleName, example = "agent")]
    role: Role,
}

#[derive(Serialize, ToSchema)]
struct IssuedKey {
    /// Id of the API key
    id: Uuid,
    /// The given name
    name: String,
    /// What the key may do
    #[schema(value_type = RoleName)]
    role: String,
    /// The API key. No other answer shows it.
    key: String,
}

/// Issue an API key. Only this answer shows the key.
#[utoipa::path(post, path = "/api-keys", operation_id = "issue_api_key", tag = "identity", security(("bearer" = ["admin"])), request_body = IssueKey,
    responses((status = 201, body = IssuedKey), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn issue(State(app): State<App>, by: By<Admin>, Body(input): Body<IssueKey>) -> Result<Answer<IssuedKey>, Problem> {
    let issued = app.services.issue_api_key(&by.op(), &input.name, input.role).await?;
    Ok(Answer::created(issued.position, IssuedKey { id: issued.id, name: input.name, role: input.role.to_string(), key: issued.key }))
}

/// Revoke an API key.
#[utoipa::path(delete, path = "/api-keys/{id}", operation_id = "revoke_api_key", tag = "identity", security(("bearer" = ["admin"])), params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn revoke(State(app): State<App>, by: By<Admin>, Id(id): Id) -> Result<Done, Problem> {
    Ok(Done { position: app.services.revoke_api_key(&by.op(), id).await? })
}
