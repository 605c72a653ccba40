//! Every request to the API passes this layer: it authenticates the sender, applies the rate limits, waits for the sender's share of the
//! processor and writes the audit.

use axum::{
    body::HttpBody as _,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{Extensions, HeaderName, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    Origin,
    audit::{AuditEntry, AuditSubject, Unchanged},
    body_limits::body_max_bytes,
    failed_credentials::FAILED_CREDENTIALS_WINDOW_SEC,
    limits::Allowance,
    processor_time::{Bill, Payer},
    shares::answer_apart,
};
use services::identity::{API_KEY_PREFIX, Identity, secret_hash};

use crate::{
    auth::{self, Credential},
    idempotency::REPLAYED,
    problem::{Problem, Refusal},
    state::App,
    tables::{Exported, is_table},
};

const REASON: HeaderName = HeaderName::from_static("reason");
/// Queries with a body: they change nothing.
const QUESTIONS: &[&str] = &["/price-lists/what-if"];
/// A request with a longer body is answered on separate threads.
const LONG_BODY_BYTES: u64 = 16 << 10;
const UPLOAD: &str = "POST /campaigns/{id}/call-list";

pub async fn gate(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (action, origin) = (action(&parts), parts.extensions.get::<Origin>().cloned());
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let mut allowances: Vec<Allowance> = app.limits.take_of_caller(&caller(&parts, origin.as_ref())).into_iter().collect();
    let mut identity = None;
    let admitted = admit(&app, &mut parts, &mut allowances).await;
    let payer = match &admitted {
        Ok(Some(known)) => Payer::Company(known.company_id),
        Ok(None) | Err(_) => Payer::stranger(origin.as_ref()),
    };
    let waited = app.processor_time.wait(payer).await;
    let ready = admitted.and_then(|known| {
        identity = known;
        waited
    });
    let mut response = match ready {
        Ok(bill) => {
            let mut request = Request::from_parts(parts, body);
            DefaultBodyLimit::max(body_max_bytes(&action)).apply(&mut request);
            run(&app, identity.as_ref(), bill, &action, request, next).await
        }
        Err(problem) => problem.into_response(),
    };
    allowances.iter().for_each(|allowance| allowance.write(response.headers_mut()));
    let status = response.status();
    let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    // A claim without a task has a reason header.
    let nothing_done = [&REPLAYED, &REASON].iter().any(|name| response.headers().contains_key(*name))
        || response.extensions().get::<Unchanged>().is_some();
    let changed = !method.is_safe() && status.is_success() && !nothing_done && !QUESTIONS.iter().any(|question| action.ends_with(question));
    let exported = response.extensions().get::<Exported>().map(|exported| format!("exported as {}", exported.0));
    if refused || changed || exported.is_some() {
        let subject = response.extensions().get::<AuditSubject>().cloned().or_else(|| identity.map(AuditSubject::from));
        let reason = response.extensions().get::<Refusal>().map(|refusal| refusal.0.clone()).or(exported);
        app.audit.note(AuditEntry::new(subject, action, path, status, reason, origin.as_ref()));
    }
    response
}

/// Runs the request when the company has a free share for it.
async fn run(app: &App, identity: Option<&Identity>, bill: Bill, action: &str, request: Request, next: Next) -> Response {
    let Some(identity) = identity else { return bill.answer(next.run(request)).await };
    let body_bytes = request.body().size_hint().upper();
    let has_long_body = body_bytes.is_none_or(|bytes| bytes > LONG_BODY_BYTES);
    // Uploads of call lists have their own limits.
    let (request, bill, _memory) = if action == UPLOAD {
        (request, bill, None)
    } else {
        let (request, memory) = app.body_memory.bound(identity.company_id, request);
        (request, bill.stores(body_bytes.unwrap_or_default()), Some(memory))
    };
    // A table takes a share for each of its pages.
    let is_table = is_table(action, request.uri(), request.headers());
    let share = if is_table { Ok(None) } else { app.shares.of_request(identity.company_id, action, request.uri().query()).await };
    match share {
        Ok(Some(share)) => share.answer(bill.answer(next.run(request))).await,
        Ok(None) if has_long_body => answer_apart(bill.answer(next.run(request))).await,
        Ok(None) => bill.answer(next.run(request)).await,
        Err(problem) => problem.into_response(),
    }
}

/// Authenticates the sender if the request has a valid credential. It refuses only requests that exceed a limit, or whose sender cannot be
/// looked up. The handler refuses a credential that is not valid, because some handlers need no credential.
async fn admit(app: &App, parts: &mut Parts, allowances: &mut Vec<Allowance>) -> Result<Option<Identity>, Problem> {
    require_allowance(allowances)?;
    let network = parts.extensions.get::<Origin>().map(Origin::network).unwrap_or_default();
    // The signature of a token proves that it is genuine; the other credentials need a look-up.
    let looked_up = match Credential::of(parts) {
        Credential::Bearer(secret) => secret.starts_with(API_KEY_PREFIX) && !app.services.identity.callers.knows_key(secret),
        Credential::Ticket(_) => true,
        Credential::Unknown | Credential::None => return Ok(None),
    };
    if looked_up && app.failed_credentials.is_exceeded(&network) {
        return Err(Problem::too_many("too many credentials that are not valid", FAILED_CREDENTIALS_WINDOW_SEC));
    }
    let identity = match auth::identify(parts, app).await {
        Ok(identity) => identity,
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
            if looked_up {
                app.failed_credentials.record_failure(&network);
            }
            // A client that invents credentials is one caller, regardless of their number.
            *allowances = app.limits.take_of_caller(&network.into_bytes()).into_iter().collect();
            require_allowance(allowances)?;
            return Ok(None);
        }
        Err(problem) => return Err(problem),
    };
    allowances.extend(app.limits.take_of_company(identity.company_id));
    require_allowance(allowances)?;
    Ok(Some(identity))
}

fn require_allowance(allowances: &[Allowance]) -> Result<(), Problem> {
    match allowances.iter().find(|allowance| allowance.is_exceeded()) {
        Some(exceeded) => Err(Problem::too_many("too many requests", exceeded.reset_sec())),
        None => Ok(()),
    }
}

/// A hash of the credential, or the client's network if there is no credential.
fn caller(parts: &Parts, origin: Option<&Origin>) -> Vec<u8> {
    match Credential::of(parts) {
        Credential::Bearer(secret) | Credential::Ticket(secret) => secret_hash(secret),
        Credential::Unknown | Credential::None => origin.map(Origin::network).unwrap_or_default().into_bytes(),
    }
}

/// Method and route, as in the OpenAPI document.
pub fn action(parts: &Parts) -> String {
    format!("{} {}", parts.method, route(&parts.extensions))
}

/// The route of a request, as in the OpenAPI document.
pub(super) fn route(extensions: &Extensions) -> &str {
    let route = extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    route.strip_prefix("/api/v1").or_else(|| route.strip_prefix("/api")).unwrap_or(route)
}
