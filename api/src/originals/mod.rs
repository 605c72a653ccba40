//! Clients of NEW-VOICE. On the unversioned paths (`/api/…`) their requests are accepted, and answers have their fields beside those of
//! `/api/v1`; `docs/moving.md` describes both. The handlers are the same: this module changes a request before its handler, and the answer
//! after it.

mod answers;
pub mod frames;
mod pages;
mod query;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use domain::validation::FieldFault;
use serde_json::{Map, Value};
use services::identity::Identity;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{self, By, Manager},
    campaigns::{self, CampaignView},
    edge,
    extract::{Id, require_json, unread},
    json,
    problem::Problem,
    state::App,
    tables,
};
use query::Query;

/// The operations that only the unversioned paths have.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(stop))
}

/// Finish a campaign early, under the name of NEW-VOICE.
#[utoipa::path(post, path = "/campaigns/{id}/stop", operation_id = "stop_campaign", tag = "campaigns", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn stop(app: State<App>, by: By<Manager>, id: Id) -> Result<Answer<CampaignView>, Problem> {
    campaigns::finish(app, by, id).await
}

/// Changes a request of a client of NEW-VOICE, and its answer.
pub async fn adapt(State(app): State<App>, request: Request, next: Next) -> Response {
    adapted(&app, request, next).await.unwrap_or_else(Problem::into_response)
}

async fn adapted(app: &App, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let action = edge::action(&parts);
    let is_table = tables::is_table(&action, &Request::from_parts(parts.clone(), ()));
    // The handler refuses a caller without a valid credential.
    let caller = auth::identify(&mut parts, app).await.ok();
    let mut query = Query::parse(parts.uri.query());
    query.take_company(caller.as_ref())?;
    let period = query.take_period(&action)?;
    let window = query.take_window(&action)?;
    query.write(&mut parts)?;
    let Some(caller) = caller else { return Ok(next.run(Request::from_parts(parts, body)).await) };
    let body = adapt_body(&action, &caller, &mut parts, body).await?;
    let answer = match &window {
        Some(window) if !is_table => pages::collect(parts.clone(), window, next).await?,
        _ => next.run(Request::from_parts(parts.clone(), body)).await,
    };
    change(answer, async |body: &mut Value| {
        if action == query::CALLS {
            pages::count_calls(app, &caller, parts.clone(), body).await?;
        }
        if let Some(window) = window {
            window.describe(body);
        }
        answers::adapt(app, &caller, &action, parts, &period, body).await
    })
    .await
}

/// Changes the body of a successful answer in JSON.
async fn change(answer: Response, change: impl AsyncFnOnce(&mut Value) -> Result<(), Problem>) -> Result<Response, Problem> {
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !answer.status().is_success() || !is_json {
        return Ok(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|error| Problem::internal(&error))?;
    let mut value = serde_json::from_slice(&bytes).map_err(|error| Problem::internal(&error))?;
    change(&mut value).await?;
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(value.to_string())))
}

/// A body that creates or changes a skillbase or a campaign: the fields that such a body has only in NEW-VOICE are checked and removed.
async fn adapt_body(action: &str, caller: &Identity, parts: &mut Parts, body: Body) -> Result<Body, Problem> {
    let is_adapted = ["POST /skillbases", "PUT /skillbases/{id}", "POST /campaigns", "PUT /campaigns/{id}"].contains(&action);
    if !is_adapted || require_json(&parts.headers).is_err() {
        return Ok(body);
    }
    let too_large = |error: axum::Error| unread(axum::http::StatusCode::PAYLOAD_TOO_LARGE, &error, "the body is too large".to_owned());
    let bytes = axum::body::to_bytes(body, edge::body_max_bytes(action)).await.map_err(too_large)?;
    // What cannot be read is refused by the handler.
    let Ok(Value::Object(mut fields)) = json::read(&bytes) else { return Ok(Body::from(bytes)) };
    remove_own_company(&mut fields, caller.company_id)?;
    // A skillbase of NEW-VOICE may have a knowledge base; the field is sent by clients that use none.
    if fields.get("knowledge_base_id") == Some(&Value::Null) {
        fields.remove("knowledge_base_id");
    }
    // NEW-VOICE counts the attempts after the first one, and makes at least one.
    if let Some(attempts) = fields.get_mut("max_retries").filter(|attempts| attempts.as_f64() == Some(0.0)) {
        *attempts = 1.into();
    }
    let bytes = Value::Object(fields).to_string();
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(Body::from(bytes))
}

fn remove_own_company(fields: &mut Map<String, Value>, own: Uuid) -> Result<(), Problem> {
    match fields.remove("company_id") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(id)) if id.parse() == Ok(own) => Ok(()),
        Some(_) => Err(Problem::invalid("company_id", FieldFault::Unknown { what: "company".to_owned() })),
    }
}
