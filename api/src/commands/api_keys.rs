//! API keys.

use axum::extract::State;
use domain::{
    api_key::{ApiKey, ApiKeyCommand},
    role::Role,
    validation::Invalid,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Done},
    app::App,
    auth::{API_KEY_PREFIX, Admin, By, api_keys, new_secret},
    extract::{Body, Id},
    problem::Problem,
    words::RoleName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(issue)).routes(routes!(revoke))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IssueKey {
    name: String,
    #[schema(value_type = RoleName, example = "agent")]
    role: Role,
}

#[derive(Serialize, ToSchema)]
struct IssuedKey {
    id: Uuid,
    name: String,
    role: String,
    /// Shown only here.
    key: String,
}

/// Issue an API key. The key is shown only in this answer.
#[utoipa::path(post, path = "/api-keys", tag = "identity", security(("bearer" = ["admin"])), request_body = IssueKey,
    responses((status = 201, body = IssuedKey), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn issue(State(app): State<App>, by: By<Admin>, Body(input): Body<IssueKey>) -> Result<Answer<IssuedKey>, Problem> {
    let mut invalid = Invalid::default();
    invalid.name("name", &input.name, 100);
    invalid.into_result()?;
    let (id, key) = (by.ids.make("api_key"), new_secret(API_KEY_PREFIX));
    let command = ApiKeyCommand::Issue { name: input.name.clone(), role: input.role };
    let committed = app.store.execute::<ApiKey>(&by.context(), id, command).await?;
    let revoked = || Problem::conflict("this API key has been revoked meanwhile");
    if committed.state.is_revoked() {
        return Err(revoked());
    }
    // Rights are given once the log has them. If the process dies before, the repeated request stores a key of its own. A key that another
    // admin revokes at this moment is stored as revoked.
    if !api_keys::save(&app.access.identity, &key, id, by.company_id(), &input.name, input.role).await? {
        return Err(revoked());
    }
    Ok(Answer::created(committed.position, IssuedKey { id, name: input.name, role: input.role.to_string(), key }))
}

/// Revoke an API key.
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "identity", security(("bearer" = ["admin"])), params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn revoke(State(app): State<App>, by: By<Admin>, Id(id): Id) -> Result<Done, Problem> {
    let loaded = app.store.load_fresh::<ApiKey>(by.company_id(), id).await?;
    loaded.require(by.if_match)?;
    // Before the log says so: whatever happens in between, a key that is said to be revoked is.
    if loaded.version > 0 {
        api_keys::revoke(&app.access.identity, by.company_id(), id).await?;
    }
    app.callers.forget_all();
    let committed = app.store.execute_if::<ApiKey>(&by.context(), id, by.if_match, ApiKeyCommand::Revoke).await?;
    Ok(Done { position: committed.position })
}
