//! Errors as RFC 9457 `application/problem+json`. Only this module maps refusals to HTTP statuses.

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    Reason,
    validation::{FieldError, Invalid},
};
use eventstore::{ExecuteError, StoreError};
use projections::{ApplyError, rebuild::RebuildError};
use serde::Serialize;
use serde_json::{Map, Value};
use services::{Refused, ServiceError, UserRef};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::edge::AuditSubject;

/// The `Retry-After` in seconds when the platform is overloaded or its database is not available.
const RETRY_AFTER_SEC: u32 = 1;

/// Most invalid fields that an answer names.
const ERRORS_MAX: usize = 100;

/// `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem, as a relative reference.
    pub r#type: String,
    /// Name of the HTTP status
    pub title: &'static str,
    /// HTTP status of the answer
    pub status: u16,
    /// What is wrong, a sentence in English
    pub detail: String,
    /// Only if the present state does not allow a command (409)
    #[serde(flatten)]
    #[schema(value_type = CodeIfAny)]
    pub code: Option<Box<Code>>,
    /// The invalid fields and their errors; of more than 100, the first 100
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    #[serde(skip)]
    retry_after_sec: Option<u32>,
    /// The user or API key that a refusal is about, for the audit.
    #[serde(skip)]
    subject: Option<Box<AuditSubject>>,
}

/// The reason of a refusal, for the audit; it is attached to the answer.
#[derive(Clone, Debug)]
pub struct Refusal(pub String);

#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// `config.flow.states[1].name`
    pub path: String,
    /// A sentence in English
    pub message: String,
    #[serde(flatten)]
    pub code: Code,
}

/// A reason for programs, beside the sentence.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Code {
    /// `too_long`; it does not change
    pub code: String,
    /// The arguments of the code: `{"max": 200}`; absent if it has none
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Option<HashMap<String, Value>>)]
    pub args: Map<String, Value>,
}

/// The code of a problem in the OpenAPI document: most problems have none.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the answer")]
struct CodeIfAny {
    /// `campaign_no_tasks`; it does not change
    code: Option<String>,
    /// The arguments of the code: `{"max": 200}`; absent if it has none
    #[schema(value_type = Option<HashMap<String, Value>>)]
    args: Option<Map<String, Value>>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let r#type = format!("/problems/{}", title.to_lowercase().replace(' ', "-"));
        Self {
            r#type,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code: None,
            errors: Vec::new(),
            retry_after_sec: None,
            subject: None,
        }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub fn invalid(path: impl Into<String>, reason: impl Into<Reason>) -> Self {
        Invalid::one(path, reason).into()
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after_sec: Some(RETRY_AFTER_SEC), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    pub fn too_many(detail: impl Into<String>, wait_sec: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait_sec)
    }

    /// The same problem; the audit attributes it to this user.
    pub fn about(self, company_id: Uuid, user_id: Uuid) -> Self {
        Self { subject: Some(Box::new(AuditSubject::user(company_id, user_id))), ..self }
    }

    /// The same problem with a `Retry-After`, in seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_sec: Some(seconds), ..self }
    }

    /// An internal failure that no input should cause; its details are only logged.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong on our side")
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let (subject, reason) = (self.subject.take(), self.detail.clone());
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after_sec;
        let mut response = (status, Json(self)).into_response();
        response.extensions_mut().insert(Refusal(reason));
        if let Some(subject) = subject {
            response.extensions_mut().insert(*subject);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn field_problems(invalid: Invalid) -> Vec<FieldProblem> {
    let problem =
        |FieldError { path, reason: Reason { code, args, sentence } }| FieldProblem { path, message: sentence, code: Code { code, args } };
    invalid.0.into_iter().map(problem).collect()
}

impl From<Invalid> for Problem {
    fn from(mut invalid: Invalid) -> Self {
        let further = invalid.0.len().saturating_sub(ERRORS_MAX);
        invalid.0.truncate(ERRORS_MAX);
        let detail = if further == 0 { invalid.to_string() } else { format!("{invalid}; and {further} more") };
        Self { errors: field_problems(invalid), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        // What follows names the parameter.
        let text = rejection.body_text();
        Self::bad_request(text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text))
    }
}

/// Classes of SQLSTATE that do not depend on the request: connection, aborted or rolled back transaction, insufficient resources, wrong
/// object state, operator intervention, input and output (PostgreSQL, appendix A).
const PASSING: [&str; 7] = ["08", "25", "40", "53", "55", "57", "58"];

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.code().is_some_and(|c| c.starts_with("22")) => {
                // A value that PostgreSQL cannot store passed our own checks: it is still an error of the caller.
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "a value cannot be stored")
            }
            sqlx::Error::Database(database) if !database.code().is_some_and(|c| PASSING.iter().any(|k| c.starts_with(k))) => {
                Self::internal(&error)
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => Self::internal(&error),
            _ => {
                tracing::warn!(%error, "the database did not answer");
                Self::unavailable("the database does not answer at the moment")
            }
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NotFound(what) => Self::not_found(&what),
            ServiceError::Invalid(invalid) => invalid.into(),
            ServiceError::Conflict(Reason { code, args, sentence }) => {
                Self { code: Some(Box::new(Code { code, args })), ..Self::conflict(sentence) }
            }
            error @ ServiceError::ConflictAt(_) => {
                let detail = error.to_string();
                let ServiceError::ConflictAt(fields) = error else { return Self::conflict(detail) };
                let errors = field_problems(fields);
                let code = errors.first().map(|error| Box::new(error.code.clone()));
                Self { errors, code, ..Self::conflict(detail) }
            }
            ServiceError::Unauthenticated(detail) => Self::unauthorized(detail),
            ServiceError::Forbidden(detail) => Self::forbidden(detail),
            ServiceError::TooMany { detail, wait_sec } => Self::too_many(detail, wait_sec),
            ServiceError::Unavailable(detail) => Self::unavailable(detail),
            ServiceError::Internal(error) => Self::internal(&error),
            ServiceError::Store(error) => error.into(),
            ServiceError::Database(error) => error.into(),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let problem = Self::from(refused.error);
        match refused.user {
            Some(UserRef { company_id, user_id }) => problem.about(company_id, user_id),
            None => problem,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            error @ (StoreError::Conflict(_) | StoreError::Overtaken | StoreError::DuplicateEventId) => Self::conflict(error.to_string()),
            StoreError::PreconditionFailed { expected, actual } => {
                let detail = match expected {
                    ..0 => format!("If-Match has no ETag of the platform; the resource has version {actual}"),
                    _ => format!("If-Match names version {expected}, the resource has version {actual}"),
                };
                Self::new(StatusCode::PRECONDITION_FAILED, detail)
            }
            StoreError::NotStorable(reason) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason.to_string()),
            StoreError::Overloaded => Self::unavailable("too many commands are waiting"),
            StoreError::ShuttingDown => Self::unavailable("the platform is shutting down"),
            StoreError::AppendFailed(error) => {
                tracing::warn!(error, "a command could not be appended");
                Self::unavailable("the database does not answer at the moment; whether the command was recorded is not known")
            }
            error @ (StoreError::OtherCompany(_) | StoreError::Database(_)) => ServiceError::from(error).into(),
            error @ (StoreError::NoMasterKey
            | StoreError::OtherMasterKey
            | StoreError::ForeignPersonKey(_)
            | StoreError::Unreadable { .. }
            | StoreError::StreamTwice(_)) => Self::internal(&error),
        }
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<RebuildError> for Problem {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::UnderWay | RebuildError::NothingToRestore(_) => Self::conflict(error.to_string()),
            RebuildError::Sql(error) => error.into(),
            RebuildError::Store(error) => error.into(),
            RebuildError::Apply(error) => error.into(),
            RebuildError::TakenOver => Self::internal(&error),
        }
    }
}

impl<R: domain::Refusal> From<ExecuteError<R>> for Problem {
    fn from(error: ExecuteError<R>) -> Self {
        ServiceError::from(error).into()
    }
}
