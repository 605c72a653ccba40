//! `Idempotency-Key`: a repeated request with the same key, query and body gets the same answer, without a second effect.
//!
//! Two mechanisms work together. First, the answer is stored for at least a day and returned again. Second, every id that a command with a
//! key creates is derived from the key. If the answer was lost (the process died between effect and answer), the command runs again, uses
//! the same streams and finds its effect there. This is as good as one transaction for effect and answer, which is not possible because the
//! log commits many commands in one batch.

mod fingerprint;
mod runs;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use eventstore::{CommandIdentity, Pool, database::process_name, persons::CompanyKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use services::{Ids, KeyedCommand, stored_answers::ABOUT_PERSONS};
use sqlx::PgConnection;
use uuid::Uuid;

pub use runs::KeyedRequests;
use runs::KeyedRun;

use crate::{
    auth::{self, RouteNeeds},
    edge,
    extract::unread,
    problem::Problem,
    state::App,
};

pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Maximum length of a stored path, in characters.
const PATH_MAX_CHARS: usize = 300;
pub const KEY_MAX_CHARS: usize = 255;
/// How long the first of two equal requests may be silent before the second takes over, in seconds, and how often the first renews its
/// lock. The second takes over at once if the process of the first has ended. If the first continues nevertheless, each of the two finds
/// the effect of the other.
const LOCK_SEC: f64 = 4.0;
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// How often, and how many times, the second of two simultaneous requests checks for the answer of the first.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 100;
/// Age after which keys are deleted, in hours.
const KEEP_HOURS: i32 = 48;
/// The last part of the path for uploads of call lists.
const CALL_LIST: &str = "/call-list";
/// A user who registers belongs to no company yet.
const REGISTER: &str = "/auth/register";
/// Paths whose answers are not stored: most of them issue credentials, and a client that lost its credentials logs in again. A logout is
/// bound to the session that is sent with it.
pub const WITHOUT: &[&str] = &["/auth/login", "/auth/refresh", "/auth/ticket", "/auth/accept-invitation", "/auth/logout"];
/// Headers that are stored with an answer.
const KEPT_HEADERS: [&str; 5] = ["content-type", "event-position", "etag", "location", "reason"];

/// The identification of a request with a key: by keyed hashes, because a request may contain personal data.
struct KeyedRequest {
    company_id: Uuid,
    method: String,
    path: String,
    key_hash: String,
    body_hash: Vec<u8>,
    company_key: Arc<CompanyKey>,
}

/// Runs the request once per key; a request without a key runs directly.
pub async fn middleware(State((app, needs)): State<(App, Arc<RouteNeeds>)>, request: Request, next: Next) -> Result<Response, Problem> {
    match request.headers().get(KEY) {
        Some(key) if request.method() == Method::POST => {
            let key = parse(key)?;
            keyed(&app, &needs, key, request, next).await
        }
        _ => Ok(next.run(request).await),
    }
}

fn parse(key: &HeaderValue) -> Result<String, Problem> {
    let key = key.to_str().ok().filter(|key| (1..=KEY_MAX_CHARS).contains(&key.len()) && !key.contains('\t'));
    key.map(str::to_owned)
        .ok_or_else(|| Problem::bad_request(format!("Idempotency-Key must have 1 to {KEY_MAX_CHARS} printable ASCII characters")))
}

async fn keyed(app: &App, needs: &RouteNeeds, key: String, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let path = axum::extract::OriginalUri::from_request_parts(&mut parts, app)
        .await
        .map_or_else(|_| parts.uri.path().to_owned(), |uri| uri.path().to_owned());
    // The unversioned paths are aliases of the same operations.
    let path = path.strip_prefix("/api/v1").or_else(|| path.strip_prefix("/api")).unwrap_or(&path).to_owned();
    if WITHOUT.contains(&path.as_str()) {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let identity = match auth::identify(&mut parts, app).await {
        Ok(identity) => Some(identity),
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED && path == REGISTER => None,
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => return Ok(next.run(Request::from_parts(parts, body)).await),
        Err(problem) => return Err(problem),
    };
    if identity.as_ref().is_some_and(|identity| needs.refuse(&edge::action(&parts), identity)) {
        // The handler refuses it without reading its body.
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let bytes = if path.ends_with(CALL_LIST)
        && let Some(caller) = &identity
    {
        let (received, permit) = app.uploads.receive(caller.company_id, body, app.settings.uploads.max_bytes).await?;
        parts.extensions.insert(permit);
        received
    } else {
        let limit = edge::body_max_bytes(&edge::action(&parts));
        let unread = |e: axum::Error| unread(StatusCode::PAYLOAD_TOO_LARGE, &e, "the body is too large".to_owned());
        axum::body::to_bytes(body, limit).await.map_err(unread)?
    };
    let company_id = identity.as_ref().map_or(Uuid::nil(), |identity| identity.company_id);
    let company_key = app.store.persons().company(company_id).await?;
    let body_hash = fingerprint::body_hash(&company_key, identity.as_ref(), parts.uri.query(), &parts.headers, &bytes).await;
    let caller = identity.as_ref().map_or(Uuid::nil(), |identity| identity.id());
    let mut named = format!("{} {path} {caller} {key}", parts.method).into_bytes();
    if identity.is_none() {
        // Callers without a credential may choose the same key: the body distinguishes their requests.
        named.extend_from_slice(&body_hash);
    }
    let key_hash = hex::encode(company_key.request_hash(&named));
    // The hash distinguishes paths; the index cannot hold a path of any length.
    let path = path.chars().take(PATH_MAX_CHARS).collect();
    let keyed = KeyedRequest { company_id, method: parts.method.to_string(), path, key_hash, body_hash, company_key };
    let epoch = app.store.persons().epoch(company_id);
    for _ in 0..LOOKS_MAX {
        // Callers without a credential lock their keys one after the other, because these use the connections for reads.
        let place = if identity.is_none() { Some(app.shares.of_stranger().await?) } else { None };
        let begun = begin(app, &keyed).await?;
        drop(place);
        match begun {
            Begun::Run { first_at, comes_again, run: _run } => {
                let identity = keyed.identity(first_at, comes_again);
                parts.extensions.insert(Ids::keyed(KeyedCommand { identity, key: keyed.key_hash.clone() }));
                let response = tokio::select! {
                    response = next.run(Request::from_parts(parts, Body::from(bytes))) => response,
                    never = keep_locked(app, &keyed) => match never {},
                };
                return finish(app, &keyed, comes_again, response, epoch).await;
            }
            Begun::Answered(response) => return Ok(response),
            Begun::OtherBody => {
                return Err(Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "this Idempotency-Key was used for another request: with another query or body",
                ));
            }
            Begun::UnderWay => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    let conflict = Problem::conflict("a request with this Idempotency-Key is still running");
    Err(conflict.retry_after(1))
}

impl KeyedRequest {
    /// A key that was deleted and is used later stands for a new command.
    fn identity(&self, begun_at: DateTime<Utc>, comes_again: bool) -> CommandIdentity {
        let name = format!("{} {}", self.key_hash, begun_at.timestamp_micros());
        CommandIdentity { id: Uuid::new_v5(&self.company_id, name.as_bytes()), begun_at, comes_again }
    }
}

enum Begun {
    /// `first_at`: when the key was first used, in this run or an earlier one.
    Run {
        first_at: DateTime<Utc>,
        comes_again: bool,
        run: KeyedRun,
    },
    Answered(Response),
    OtherBody,
    UnderWay,
}

/// Locks the key, unless an equal request is in progress or answered. If this process already runs the request, that run answers it; the
/// lock in the database is for other processes.
async fn begin(app: &App, request: &KeyedRequest) -> Result<Begun, Problem> {
    let mut tx = app.company(request.company_id).await?;
    let Some(run) = app.keyed_requests.begin(&request.key_hash) else { return look(&mut tx, request).await };
    // A lock of this process belongs to a request that ended without an answer: no other one runs under the key.
    let locked = sqlx::query!(
        r#"insert into idempotency_keys as k (company_id, method, path, key_hash, body_hash, locked_until, locked_by)
         values ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6), $7)
         on conflict (company_id, method, path, key_hash) do update
            set locked_until = excluded.locked_until, locked_by = excluded.locked_by
          where k.status is null and k.body_hash = excluded.body_hash
            and (k.locked_until < clock_timestamp() or k.locked_by = excluded.locked_by or is_process_gone(k.locked_by))
         returning created_at, created_at < now() as "comes_again!""#,
        request.company_id,
        request.method,
        request.path,
        request.key_hash,
        request.body_hash,
        LOCK_SEC,
        process_name()
    );
    if let Some(row) = locked.fetch_optional(&mut *tx).await? {
        tx.commit().await?;
        return Ok(Begun::Run { first_at: row.created_at, comes_again: row.comes_again, run });
    }
    look(&mut tx, request).await
}

/// The state of an equal request: its answer, or that it is in progress.
async fn look(db: &mut PgConnection, request: &KeyedRequest) -> Result<Begun, Problem> {
    let row = sqlx::query!(
        "select body_hash, status, sealed_answer from idempotency_keys where company_id = $1 and method = $2 and path = $3 and key_hash = $4",
        request.company_id,
        request.method,
        request.path,
        request.key_hash
    );
    let Some(row) = row.fetch_optional(db).await? else { return Ok(Begun::UnderWay) };
    if row.body_hash != request.body_hash {
        return Ok(Begun::OtherBody);
    }
    let Some((status, sealed)) = row.status.zip(row.sealed_answer) else { return Ok(Begun::UnderWay) };
    let opened = request.company_key.answers().decrypt(request.key_hash.as_bytes(), &sealed);
    let answer = opened.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let answer: Answer = answer.ok_or_else(|| Problem::internal(&"a kept answer cannot be decrypted"))?;
    Ok(Begun::Answered(answer.replay(status)?))
}

/// Renews the lock periodically while the request runs.
async fn keep_locked(app: &App, request: &KeyedRequest) -> Infallible {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let renewed = async {
            let mut tx = app.company(request.company_id).await?;
            sqlx::query!(
                "update idempotency_keys set locked_until = clock_timestamp() + make_interval(secs => $5)
                  where company_id = $1 and method = $2 and path = $3 and key_hash = $4 and status is null",
                request.company_id,
                request.method,
                request.path,
                request.key_hash,
                LOCK_SEC
            )
            .execute(&mut *tx)
            .await?;
            Ok::<_, Problem>(tx.commit().await?)
        };
        if let Err(problem) = renewed.await {
            tracing::debug!(problem.detail, "the lock of a keyed request could not be renewed");
        }
    }
}

/// A stored answer.
#[derive(Serialize, Deserialize)]
struct Answer {
    headers: Map<String, Value>,
    #[serde(with = "hex")]
    body: Vec<u8>,
}

impl Answer {
    fn replay(self, status: i16) -> Result<Response, Problem> {
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.ok_or_else(|| Problem::internal(&"a stored answer has no status"))?;
        let mut response = (status, self.body).into_response();
        response.headers_mut().remove(header::CONTENT_TYPE);
        for (name, value) in &self.headers {
            if let (Ok(name), Some(Ok(value))) = (name.parse::<HeaderName>(), value.as_str().map(HeaderValue::from_str)) {
                response.headers_mut().insert(name, value);
            }
        }
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    }
}

/// Stores the answer, or lets the request be repeated: 401, 403, 429 and 5xx are not final. After 403 and 429 nothing was done, and a key
/// that was used for the first time is deleted. After a 5xx, and after a 401 because the credential was revoked meanwhile, events may have
/// been appended: the key is kept.
async fn finish(app: &App, request: &KeyedRequest, comes_again: bool, response: Response, epoch: u64) -> Result<Response, Problem> {
    let status = response.status();
    // A person was erased meanwhile: the answer may contain their data.
    let outdated =
        app.store.persons().epoch(request.company_id) != epoch && ABOUT_PERSONS.iter().any(|start| request.path.starts_with(start));
    // This includes refusals of callers without a credential: their keys would fill the disk.
    let nothing_done = [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&status)
        || (request.company_id.is_nil() && status.is_client_error());
    let mut tx = app.company(request.company_id).await?;
    if nothing_done && !outdated && !comes_again {
        // The key is not deleted if another process has taken over the request meanwhile.
        sqlx::query!(
            "delete from idempotency_keys
              where company_id = $1 and method = $2 and path = $3 and key_hash = $4 and status is null and locked_by = $5",
            request.company_id,
            request.method,
            request.path,
            request.key_hash,
            process_name()
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        return Ok(response);
    }
    if outdated || nothing_done || status == StatusCode::UNAUTHORIZED || status.is_server_error() {
        sqlx::query!(
            "update idempotency_keys set locked_until = '-infinity' where company_id = $1 and method = $2 and path = $3 and key_hash = $4",
            request.company_id,
            request.method,
            request.path,
            request.key_hash
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|e| Problem::internal(&e))?;
    let headers =
        KEPT_HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), Value::from(parts.headers.get(*name)?.to_str().ok()?)))).collect();
    let answer = serde_json::to_vec(&Answer { headers, body: bytes.to_vec() }).map_err(|e| Problem::internal(&e))?;
    sqlx::query!(
        "update idempotency_keys set status = $5, sealed_answer = $6 where company_id = $1 and method = $2 and path = $3 and key_hash = $4",
        request.company_id,
        request.method,
        request.path,
        request.key_hash,
        status.as_u16().cast_signed(),
        request.company_key.answers().encrypt(request.key_hash.as_bytes(), &answer)
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// Deletes old keys.
pub async fn purge(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from idempotency_keys where created_at < now() - make_interval(hours => $1)", KEEP_HOURS).execute(pool).await?;
    Ok(())
}
