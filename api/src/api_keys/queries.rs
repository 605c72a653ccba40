//! API keys, without their secrets.

use std::collections::HashMap;

use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::api_key::IssuedKey;
use serde::Serialize;
use services::{Versioned, identity::api_keys};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{Admin, By},
    extract::{Paging, PagingParams},
    freshness::Fresh,
    problem::Problem,
    state::App,
    words::RoleName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Serialize, ToSchema)]
struct ApiKeyView {
    /// Id of the API key
    id: Uuid,
    /// The name that it was issued with
    name: String,
    /// What the key may do
    #[schema(value_type = RoleName)]
    role: String,
    /// When the key was issued
    created_at: DateTime<Utc>,
    /// The first characters of the key
    prefix: Option<String>,
    /// Time of the last use, to the minute
    last_used_at: Option<DateTime<Utc>>,
}

/// The company's API keys, without the revoked ones.
#[utoipa::path(get, path = "/api-keys", operation_id = "list_api_keys", tag = "identity", security(("bearer" = ["admin"])), params(Fresh, PagingParams), responses((status = 200, body = Items<ApiKeyView>)))]
async fn list(State(app): State<App>, by: By<Admin>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<ApiKeyView>>, Problem> {
    let mut read = fresh.read(&app, by.company_id(), &[projections::api_keys::READ_MODEL]).await?;
    let position = read.position;
    let rows = projections::api_keys::list(&mut read, by.company_id(), paging.after()?, paging.rows_to_read()).await?;
    // The connection is returned before the one for credentials is acquired.
    drop(read);
    let keys = rows.into_iter().map(|row| Versioned::of_document(row, position)).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
    let uses = api_keys::uses(&app.services.identity.pool, by.company_id(), &ids).await?;
    let mut uses: HashMap<_, _> = uses.into_iter().map(|known| (known.api_key_id, known)).collect();
    let view = |given: Versioned<IssuedKey>| {
        let Versioned { id, value: IssuedKey { name, role }, created_at, .. } = given;
        let (prefix, last_used_at) = uses.remove(&id).map(|known| (known.prefix, known.last_used_at)).unwrap_or_default();
        ApiKeyView { id, name, role: role.to_string(), created_at, prefix, last_used_at }
    };
    Ok(Answer::ok(position, Items::page(keys, &paging, Versioned::after, view)))
}
