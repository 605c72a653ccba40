//! Errors as RFC 9457 `application/problem+json`. The one place that knows which refusal is which HTTP status.

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use dialer::{CallError, TaskError};
use domain::{
    api_key::ApiKeyRefusal, call::CallRefusal, campaign::CampaignRefusal, company::CompanyRefusal, person::PersonRefusal,
    price_list::PriceListRefusal, reserved_name::NameTaken, skillbase::SkillbaseRefusal, task::TaskRefusal, user::UserRefusal,
    validation::Invalid,
};
use eventstore::{ExecuteError, StoreError};
use projections::{ApplyError, NotReached, rebuild::RebuildError};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::edge::AuditSubject;

/// After how many seconds a client should try again when the platform is overloaded or its database away.
const RETRY_AFTER_SEC: u32 = 1;

/// `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem, as a relative reference.
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    #[serde(skip)]
    retry_after_sec: Option<u32>,
    #[serde(skip)]
    race: Option<Race>,
    /// Whom a refusal is about, for the audit.
    #[serde(skip)]
    subject: Option<Box<AuditSubject>>,
}

/// Why a request was refused, for the audit: travels with the answer.
#[derive(Clone, Debug)]
pub struct Refusal(pub String);

/// Somebody else was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Race {
    Conflict,
    Precondition,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// `config.flow.states[1].name`
    pub path: String,
    pub message: String,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        let r#type = format!("/problems/{}", title.to_lowercase().replace(' ', "-"));
        Self {
            r#type,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_sec: None,
            race: None,
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

    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Invalid::one(path, message).into()
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after_sec: Some(RETRY_AFTER_SEC), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    pub fn too_many(detail: impl Into<String>, wait_sec: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait_sec)
    }

    /// The same, noted in the audit as this user's.
    pub fn about(self, company_id: Uuid, user_id: Uuid) -> Self {
        Self { subject: Some(Box::new(AuditSubject::user(company_id, user_id))), ..self }
    }

    /// The same with a `Retry-After`, in seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_sec: Some(seconds), ..self }
    }

    /// Whether the command may succeed when it is decided anew: somebody else was first, and the caller did not insist on a version.
    pub fn lost_race(&self, if_match: Option<i64>) -> bool {
        self.race == Some(Race::Conflict) || (self.race == Some(Race::Precondition) && if_match.is_none())
    }

    /// A failure of ours that no input should bring about; what it was is for the log only.
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

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let detail = invalid.to_string();
        let errors = invalid.0.into_iter().map(|e| FieldProblem { path: e.path, message: e.message }).collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// Classes of SQLSTATE that say nothing of the request: connections, transactions cut off or rolled back, no room, not in this state,
/// an operator's doing, input and output (PostgreSQL, appendix A).
const PASSING: [&str; 7] = ["08", "25", "40", "53", "55", "57", "58"];

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.code().is_some_and(|c| c.starts_with("22")) => {
                // A value that PostgreSQL cannot hold got past our own checks: still the caller's.
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

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(conflict) => Self { race: Some(Race::Conflict), ..Self::conflict(conflict.to_string()) },
            error @ StoreError::Overtaken => Self { race: Some(Race::Conflict), ..Self::conflict(error.to_string()) },
            // As if it were not there: the same words as for what is nobody's.
            StoreError::OtherCompany(stream) => match stream.split_once('-').map(|(category, _)| category) {
                Some("api_key") => Self::not_found("API key"),
                Some(category) => Self::not_found(&category.replace('_', " ")),
                None => Self::not_found("thing"),
            },
            StoreError::PreconditionFailed { expected, actual } => {
                let detail = format!("If-Match names version {expected}, the resource has version {actual}");
                Self { race: Some(Race::Precondition), ..Self::new(StatusCode::PRECONDITION_FAILED, detail) }
            }
            StoreError::NotStorable(reason) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason.to_string()),
            error @ StoreError::DuplicateEventId => Self::conflict(error.to_string()),
            error @ (StoreError::NoMasterKey | StoreError::OtherMasterKey | StoreError::ForeignPersonKey(_)) => Self::internal(&error),
            StoreError::Overloaded => Self::unavailable("too many commands are waiting"),
            StoreError::ShuttingDown => Self::unavailable("the platform is shutting down"),
            StoreError::AppendFailed(error) => {
                tracing::warn!(error, "a command could not be appended");
                Self::unavailable("the database does not answer at the moment; whether the command was recorded is not known")
            }
            StoreError::Database(error) => error.into(),
            error @ (StoreError::Unreadable { .. } | StoreError::StreamTwice(_)) => Self::internal(&error),
        }
    }
}

impl From<NotReached> for Problem {
    fn from(reached: NotReached) -> Self {
        Self::unavailable(format!("the read model has not reached min_position yet; it is at {}", reached.position))
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Sql(error) => error.into(),
            ApplyError::Contradiction(_) => Self::internal(&error),
        }
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

impl<R> From<ExecuteError<R>> for Problem
where
    R: std::error::Error + 'static,
    Self: From<R>,
{
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Refused(refusal) => refusal.into(),
            ExecuteError::Store(error) => error.into(),
        }
    }
}

impl From<CompanyRefusal> for Problem {
    fn from(refusal: CompanyRefusal) -> Self {
        match refusal {
            CompanyRefusal::Unknown => Self::not_found("company"),
            CompanyRefusal::RegisteredAlready => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<UserRefusal> for Problem {
    fn from(refusal: UserRefusal) -> Self {
        match refusal {
            UserRefusal::Unknown => Self::not_found("user"),
            UserRefusal::RegisteredAlready | UserRefusal::Disabled => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<PersonRefusal> for Problem {
    fn from(refusal: PersonRefusal) -> Self {
        match refusal {}
    }
}

impl From<NameTaken> for Problem {
    fn from(refusal: NameTaken) -> Self {
        Self::conflict(refusal.to_string())
    }
}

impl From<ApiKeyRefusal> for Problem {
    fn from(refusal: ApiKeyRefusal) -> Self {
        match refusal {
            ApiKeyRefusal::Unknown => Self::not_found("API key"),
            ApiKeyRefusal::IssuedAlready => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<SkillbaseRefusal> for Problem {
    fn from(refusal: SkillbaseRefusal) -> Self {
        match refusal {
            SkillbaseRefusal::Unknown => Self::not_found("skillbase"),
            SkillbaseRefusal::CreatedAlready => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<CampaignRefusal> for Problem {
    fn from(refusal: CampaignRefusal) -> Self {
        match refusal {
            CampaignRefusal::Unknown => Self::not_found("campaign"),
            _ => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<TaskRefusal> for Problem {
    fn from(refusal: TaskRefusal) -> Self {
        match refusal {
            TaskRefusal::Unknown => Self::not_found("task"),
            _ => Self::conflict(refusal.to_string()),
        }
    }
}

impl From<CallRefusal> for Problem {
    fn from(refusal: CallRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            CallRefusal::Unknown => Self::not_found("call"),
            CallRefusal::TurnDiffers { position_in_request, .. } => {
                let errors = vec![FieldProblem { path: format!("turns[{position_in_request}]"), message: message.clone() }];
                Self { errors, ..Self::conflict(message) }
            }
            CallRefusal::TurnTooLate { position_in_request } => Self::invalid(format!("turns[{position_in_request}].occurred_at"), message),
            CallRefusal::TooMuchText { position_in_request } => Self::invalid(format!("turns[{position_in_request}]"), message),
            CallRefusal::OtherNumber => Self::invalid("phone_number", message),
            CallRefusal::StartsInFuture | CallRefusal::StartsAfterEnd | CallRefusal::StartsTooEarly => Self::invalid("started_at", message),
            CallRefusal::EndsBeforeStart | CallRefusal::EndsInFuture => Self::invalid("ended_at", message),
            CallRefusal::LastsTooLong => Self::invalid("duration_sec", message),
            CallRefusal::OtherSubject | CallRefusal::StartedAlready | CallRefusal::EndedAlready => Self::conflict(message),
        }
    }
}

impl From<PriceListRefusal> for Problem {
    fn from(refusal: PriceListRefusal) -> Self {
        Self::conflict(refusal.to_string())
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => refusal.into(),
            CallError::Store(error) => error.into(),
        }
    }
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Refused(refusal) => refusal.into(),
            TaskError::Store(error) => error.into(),
            TaskError::Sql(error) => error.into(),
        }
    }
}

impl From<dialer::ClaimError> for Problem {
    fn from(error: dialer::ClaimError) -> Self {
        match error {
            dialer::ClaimError::UnknownCampaign => Self::not_found("campaign"),
            dialer::ClaimError::Behind => Self::unavailable(error.to_string()),
            dialer::ClaimError::Store(error) => error.into(),
            dialer::ClaimError::Sql(error) => error.into(),
        }
    }
}
