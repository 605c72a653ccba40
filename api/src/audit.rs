//! Changes and refusals.

use axum::extract::State;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use projections::page::After;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    actors::name_users,
    answer::{Answer, Items},
    auth::{Auditor, By},
    event_view::ActorSchema,
    extract::{Paging, PagingParams, QueryOf, read_period},
    freshness::Fresh,
    problem::Problem,
    state::App,
    times::WrittenTime,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AuditFilter {
    /// true: only refusals; false: only changes
    refused: Option<bool>,
    /// Id of a user or an API key
    actor_id: Option<Uuid>,
    /// Only requests to this path and to paths below it, without `/api/v1` and without a query: `/campaigns/{id}` also finds
    /// `/campaigns/{id}/start`. Results of tasks have paths of their own, `/tasks/{id}/complete`
    path: Option<String>,
    /// The correlation_id of events
    request_id: Option<Uuid>,
    /// Only entries at or after this time; a date means the beginning of the day, UTC
    #[param(value_type = Option<String>, example = "2026-11-20")]
    from: Option<WrittenTime>,
    /// Only entries before this time, or before the beginning of this day
    #[param(value_type = Option<String>, example = "2026-11-21T12:00:00Z")]
    to: Option<WrittenTime>,
}

#[derive(Serialize, ToSchema)]
struct AuditView {
    /// Id of the entry
    id: Uuid,
    /// When the request was answered
    at: DateTime<Utc>,
    /// The caller; null when it was not authenticated
    #[schema(value_type = Option<ActorSchema>)]
    actor: Option<Value>,
    /// HTTP method and route
    action: String,
    /// The path of the request, without its query; of `replay-tool export --reveal`, the table
    path: String,
    /// HTTP status of the answer
    status: i16,
    /// Reason of a refusal; of a downloaded table, its format
    reason: Option<String>,
    /// Equal refusals of one caller within a minute share one entry, which has the details of the first one: the number of these refusals.
    /// 1 for changes
    count: i32,
    /// The same as the correlation_id of the events that the request caused
    request_id: Uuid,
    /// IP address of the client
    client: Option<String>,
    /// The client's `User-Agent` header
    user_agent: Option<String>,
}

/// Every change over the API, every download of a whole list and every refusal, newest first: the caller, the address, the time and the reason.
#[utoipa::path(get, path = "/audit", operation_id = "list_audit_entries", tag = "identity", security(("bearer" = ["auditor"])), params(AuditFilter, Fresh, PagingParams), responses((status = 200, body = Items<AuditView>)))]
async fn list(
    State(app): State<App>,
    by: By<Auditor>,
    QueryOf(filter): QueryOf<AuditFilter>,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<AuditView>>, Problem> {
    let [from, to] = read_period(filter.from, filter.to, Tz::UTC)?;
    if filter.path.as_deref().is_some_and(|path| !path.starts_with('/') || path.starts_with("/api/") || path.contains(['?', '%'])) {
        return Err(Problem::bad_request("path must be the path of a request without /api/v1 and without its query, e.g. /campaigns"));
    }
    let position = fresh.of_log(&app).await?;
    let after = paging.after::<After>()?;
    app.audit.flush().await;
    let rows = sqlx::query_as!(
        AuditView,
        r#"select audit_id as id, at, actor, action, path, status, reason, count, request_id, client, user_agent from audit_log
            where company_id = $1 and ($2::boolean is null or (status >= 400) = $2) and ($3::text is null or actor_id = $3)
              and ($4::uuid is null or request_id = $4) and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
              and ($7::timestamptz is null or (at, audit_id) < ($7, $8::uuid)) 
              and ($9::text is null or path collate "C" = $9 or (path collate "C" > $9 || '/' and path collate "C" < $9 || '0'))
            order by at desc, audit_id desc limit $10"#,
        by.company_id(),
        filter.refused,
        filter.actor_id.map(|id| id.to_string()),
        filter.request_id,
        from,
        to,
        after.map(|after| after.at),
        after.map(|after| after.id),
        filter.path.as_deref().map(|path| path.trim_end_matches('/')),
        paging.rows_to_read()
    );
    let mut rows = rows.fetch_all(&mut *app.company(by.company_id()).await?).await?;
    name_users(&app, &by.identity, rows.iter_mut().filter_map(|row| row.actor.as_mut())).await;
    Ok(Answer::ok(position, Items::page(rows, &paging, |row| After { at: row.at, id: row.id }, |row| row)))
}
