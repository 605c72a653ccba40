//! API keys, without the keys.

use std::collections::HashMap;

use axum::extract::State;
use chrono::{DateTime, Utc};
use projections::{api_keys::ApiKeyRow, page::After};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Fresh, PagingParams};
use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{Admin, By, api_keys},
    extract::Paging,
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Serialize, ToSchema)]
struct ApiKeyView {
    id: Uuid,
    name: String,
    role: String,
    created_at: DateTime<Utc>,
    /// What the key begins with
    prefix: Option<String>,
    /// To the minute
    last_used_at: Option<DateTime<Utc>>,
}

/// The company's API keys that are not revoked.
#[utoipa::path(get, path = "/api-keys", tag = "identity", security(("bearer" = ["admin"])), params(Fresh, PagingParams), responses((status = 200, body = Items<ApiKeyView>)))]
async fn list(State(app): State<App>, by: By<Admin>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<ApiKeyView>>, Problem> {
    let position = fresh.wait(&app, &["api_keys"]).await?;
    let rows =
        projections::api_keys::list(&mut *app.company(by.company_id()).await?, by.company_id(), paging.after()?, paging.rows_to_read())
            .await?;
    let cursor = |row: &ApiKeyRow| After { at: row.created_at, id: row.api_key_id };
    let ids: Vec<_> = rows.iter().map(|row| row.api_key_id).collect();
    let uses = api_keys::uses(&app.access.identity, by.company_id(), &ids).await?;
    let mut uses: HashMap<_, _> = uses.into_iter().map(|known| (known.api_key_id, known)).collect();
    let view = |row: ApiKeyRow| {
        let (prefix, last_used_at) = uses.remove(&row.api_key_id).map(|known| (known.prefix, known.last_used_at)).unwrap_or_default();
        ApiKeyView { id: row.api_key_id, name: row.name, role: row.role, created_at: row.created_at, prefix, last_used_at }
    };
    Ok(Answer::ok(position, Items::page(rows, &paging, cursor, view)))
}
