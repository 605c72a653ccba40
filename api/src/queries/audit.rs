//! What was done and what was refused.

use axum::extract::State;
use chrono::{DateTime, Utc};
use projections::page::After;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Fresh, PagingParams, analytics::check_period};
use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{Admin, By},
    extract::{Paging, QueryOf},
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditFilter {
    /// Only refusals (true) or only what was done (false)
    refused: Option<bool>,
    /// Of a user or an API key
    actor_id: Option<Uuid>,
    /// The correlation_id of events
    request_id: Option<Uuid>,
    /// At or after
    from: Option<DateTime<Utc>>,
    /// Before
    to: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
struct AuditView {
    id: Uuid,
    at: DateTime<Utc>,
    /// {kind, id, name} as in events; null when nobody has shown who they are
    #[schema(value_type = Option<Object>)]
    actor: Option<Value>,
    /// Method and route
    action: String,
    path: String,
    status: i16,
    /// Why it was refused
    reason: Option<String>,
    /// Equal refusals of one caller within a minute are one entry, with what the first of them was: how many there were. 1 for what was done
    count: i32,
    /// The same as the correlation_id of the events that it brought about
    request_id: Uuid,
    /// Address of the client
    client: Option<String>,
    user_agent: Option<String>,
}

/// Every change that was made over the API and every refusal, newest first: who, from where, when and why.
#[utoipa::path(get, path = "/audit", tag = "identity", security(("bearer" = ["admin"])), params(AuditFilter, Fresh, PagingParams), responses((status = 200, body = Items<AuditView>)))]
async fn list(
    State(app): State<App>,
    by: By<Admin>,
    QueryOf(filter): QueryOf<AuditFilter>,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<AuditView>>, Problem> {
    check_period(filter.from, filter.to)?;
    let position = fresh.of_log(&app).await?;
    let after = paging.after::<After>()?;
    app.audit.flush().await;
    let rows = sqlx::query_as!(
        AuditView,
        r#"select audit_id as id, at, actor, action, path, status, reason, count, request_id, client, user_agent from audit_log
            where company_id = $1 and ($2::boolean is null or (status >= 400) = $2) and ($3::text is null or actor_id = $3)
              and ($4::uuid is null or request_id = $4) and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
              and ($7::timestamptz is null or (at, audit_id) < ($7, $8::uuid))
            order by at desc, audit_id desc limit $9"#,
        by.company_id(),
        filter.refused,
        filter.actor_id.map(|id| id.to_string()),
        filter.request_id,
        filter.from,
        filter.to,
        after.map(|after| after.at),
        after.map(|after| after.id),
        paging.rows_to_read()
    );
    let rows = rows.fetch_all(&mut *app.company(by.company_id()).await?).await?;
    Ok(Answer::ok(position, Items::page(rows, &paging, |row| After { at: row.at, id: row.id }, |row| row)))
}
