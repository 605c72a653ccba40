//! Clients of NEW-VOICE. On the unversioned paths (`/api/…`) their requests are accepted, and answers have their fields beside those of
//! `/api/v1`; `docs/moving.md` describes both. The handlers are the same: this module changes a request before its handler, and the answer
//! after it.

mod answers;
pub mod frames;
mod pages;
mod query;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts, response},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use domain::validation::FieldFault;
use serde_json::{Map, Value};
use services::identity::Identity;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, EVENT_POSITION},
    auth::{self, By, Manager, RouteNeeds},
    campaigns::{self, CampaignView},
    edge,
    extract::{Id, require_json, unread},
    json,
    problem::Problem,
    state::App,
    tables,
};
use query::Query;

/// The operations whose bodies may have fields of NEW-VOICE.
const BODIES: [&str; 4] = ["POST /skillbases", "PUT /skillbases/{id}", "POST /campaigns", "PUT /campaigns/{id}"];

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

/// What the layer knows.
pub struct Originals {
    app: App,
    needs: RouteNeeds,
    /// Position of the last command of each company on these paths. Clients of NEW-VOICE expect to read what they have written, and send no
    /// `min_position`.
    written: Mutex<HashMap<Uuid, i64>>,
}

impl Originals {
    pub fn new(app: App, needs: RouteNeeds) -> Self {
        Self { app, needs, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Uuid, i64>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the position of a command.
    fn note(&self, company_id: Uuid, answer: &Response) {
        let position = answer.headers().get(EVENT_POSITION).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
        if let Some(position) = position {
            self.written().entry(company_id).and_modify(|last| *last = position.max(*last)).or_insert(position);
        }
    }
}

/// Changes a request of a client of NEW-VOICE, and its answer.
pub async fn adapt(State(originals): State<Arc<Originals>>, request: Request, next: Next) -> Response {
    run(&originals, request, next).await.unwrap_or_else(Problem::into_response)
}

async fn run(originals: &Originals, request: Request, next: Next) -> Result<Response, Problem> {
    let Originals { app, needs, .. } = originals;
    let (mut parts, body) = request.into_parts();
    let is_read = parts.method.is_safe();
    let action = edge::action(&parts);
    // HEAD is answered as GET, without the body.
    let action = action.strip_prefix("HEAD ").map_or_else(|| action.clone(), |route| format!("{} {route}", Method::GET));
    let caller = match auth::identify(&mut parts, app).await {
        Ok(caller) => Some(caller),
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => None,
        Err(problem) => return Err(problem),
    };
    let mut query = Query::parse(parts.uri.query());
    query.take_company(caller.as_ref())?;
    query.take_period(&action)?;
    query.adapt_flags(&action);
    let written = caller.as_ref().filter(|_| is_read).and_then(|caller| originals.written().get(&caller.company_id).copied());
    if let Some(position) = written.filter(|_| query.get("min_position").is_none()) {
        query.put("min_position", position.to_string());
    }
    let window = query.take_window(&action)?;
    query.write(&mut parts)?;
    let Some(caller) = caller.filter(|caller| !needs.refuse(&action, caller)) else {
        // The handler refuses it without reading its body.
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let body = if BODIES.contains(&action.as_str()) { adapt_body(&action, &caller, &mut parts, body).await? } else { body };
    let is_table = tables::is_table(&action, &parts.uri, &parts.headers);
    let answer = match &window {
        Some(window) if is_table && window.is_named => {
            return Err(Problem::bad_request("a table has all rows: leave out skip, page and page_size"));
        }
        Some(window) if !is_table => pages::read(app, &caller, parts.clone(), window, next).await?,
        _ => {
            let answer = next.run(Request::from_parts(parts.clone(), body)).await;
            if !is_read {
                originals.note(caller.company_id, &answer);
            }
            parse(&action, answer).await?
        }
    };
    let Parsed::Json(head, mut body) = answer else { return Ok(answer.into_response()) };
    answers::adapt(app, &caller, &action, parts, &mut body).await?;
    Ok(Parsed::Json(head, body).into_response())
}

/// An answer whose body can be changed, or any other one.
enum Parsed {
    Json(response::Parts, Value),
    Other(Response),
}

impl Parsed {
    fn into_response(self) -> Response {
        match self {
            Self::Json(mut head, body) => {
                head.headers.remove(header::CONTENT_LENGTH);
                Response::from_parts(head, Body::from(body.to_string()))
            }
            Self::Other(answer) => answer,
        }
    }
}

/// Parses the body of an answer that [`answers::adapt`] changes.
async fn parse(action: &str, answer: Response) -> Result<Parsed, Problem> {
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !answers::ADAPTED.contains(&action) || !answer.status().is_success() || !is_json {
        return Ok(Parsed::Other(answer));
    }
    let (head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|error| Problem::internal(&error))?;
    Ok(Parsed::Json(head, serde_json::from_slice(&bytes).map_err(|error| Problem::internal(&error))?))
}

/// Checks and removes the fields that a body has only in NEW-VOICE.
async fn adapt_body(action: &str, caller: &Identity, parts: &mut Parts, body: Body) -> Result<Body, Problem> {
    if require_json(&parts.headers).is_err() {
        return Ok(body);
    }
    let too_large = |error: axum::Error| unread(StatusCode::PAYLOAD_TOO_LARGE, &error, "the body is too large".to_owned());
    let bytes = axum::body::to_bytes(body, edge::body_max_bytes(action)).await.map_err(too_large)?;
    // What cannot be read is refused by the handler.
    let Ok(Value::Object(mut fields)) = json::read(&bytes) else { return Ok(Body::from(bytes)) };
    remove_own_company(&mut fields, caller.company_id)?;
    // Clients that use no knowledge base send the field all the same.
    if fields.remove("knowledge_base_id").is_some_and(|id| !id.is_null()) {
        let detail = "there are no knowledge bases: send null, or leave the field out".to_owned();
        return Err(Problem::invalid("knowledge_base_id", FieldFault::Malformed { detail }));
    }
    // In NEW-VOICE, null leaves a field of a skillbase as it is.
    if action == "PUT /skillbases/{id}" {
        fields.retain(|_, value| !value.is_null());
    }
    // NEW-VOICE accepts 0, and makes one attempt.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// If a route is renamed, its adaptation must be renamed too.
    #[test]
    fn what_is_adapted_are_operations_of_the_document() {
        let document = serde_json::to_value(crate::router::openapi()).unwrap();
        for action in [BODIES.as_slice(), answers::ADAPTED, query::LISTS].concat() {
            let (method, route) = action.split_once(' ').unwrap();
            assert!(document["paths"][route][method.to_lowercase()].is_object(), "{action}");
        }
    }
}
