//! Refuses bodies of operations that have none: without this, a client would not learn that what it sends has no effect.

use std::{collections::HashSet, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use utoipa::openapi::OpenApi;

use super::gate::action;
use crate::{documented::operations, extract::unread, problem::Problem};

/// Longest body that is read.
const READ_MAX_BYTES: usize = 1 << 10;

/// The commands without a body, by method and route, taken from the OpenAPI document.
pub struct WithoutBody(HashSet<String>);

impl WithoutBody {
    pub fn of(document: &OpenApi) -> Self {
        let commands = operations(document).into_iter().filter(|(action, operation)| {
            let is_read = action.starts_with("GET ");
            !is_read && operation["requestBody"].is_null()
        });
        Self(commands.map(|(action, _)| action).collect())
    }
}

pub async fn refuse_needless_body(State(without): State<Arc<WithoutBody>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if !without.0.contains(&action(&parts)) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    match require_empty(body).await {
        Ok(()) => next.run(Request::from_parts(parts, Body::empty())).await,
        Err(problem) => problem.into_response(),
    }
}

/// Many clients send an empty object or null instead of nothing.
async fn require_empty(body: Body) -> Result<(), Problem> {
    let needless = || Problem::bad_request("this operation takes no body");
    let read = axum::body::to_bytes(body, READ_MAX_BYTES).await;
    let bytes = read.map_err(|error| match unread(StatusCode::BAD_REQUEST, &error, String::new()) {
        problem if problem.status == StatusCode::BAD_REQUEST => needless(),
        problem => problem,
    })?;
    let is_empty = [b"".as_slice(), b"{}", b"null"].contains(&bytes.trim_ascii());
    if is_empty { Ok(()) } else { Err(needless()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_without_a_body_are_those_of_the_document() {
        let WithoutBody(commands) = WithoutBody::of(&crate::router::openapi());
        for (command, is_one) in [
            ("POST /campaigns/{id}/start", true),
            ("DELETE /campaigns/{id}", true),
            ("POST /campaigns", false),
            ("POST /campaigns/{id}/clone", false),
            ("GET /campaigns", false),
        ] {
            assert_eq!(commands.contains(command), is_one, "{command}");
        }
    }

    #[tokio::test]
    async fn an_empty_object_is_no_body() {
        for (body, status) in [("", None), (" {}\n", None), ("null", None), ("{\"a\": 1}", Some(400)), ("x", Some(400))] {
            assert_eq!(require_empty(Body::from(body)).await.err().map(|problem| problem.status), status, "{body}");
        }
        assert_eq!(require_empty(Body::from("x".repeat(READ_MAX_BYTES + 1))).await.unwrap_err().status, 400);
    }
}
