use domain::{Absent, Coded, Reason, Refusal, RefusalKind, task::TaskStatus, user::UserStatus, validation::Invalid};
use eventstore::{CommandError, ExecuteError, StoreError};
use projections::{ApplyError, NotReached, UnreadableDocument};
use serde::Serialize;

use crate::UserRef;

/// Why a use case did not come to its end. Each edge maps it once to its own answers.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The object does not exist, or it belongs to another company.
    #[error("there is no such {0}")]
    NotFound(String),
    /// Fields of the request are wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The present state does not allow the command.
    #[error("{0}")]
    Conflict(Reason),
    /// The state contradicts parts of the request.
    #[error("{}", fields_text(.0))]
    ConflictAt(Invalid),
    /// The caller's credentials are not valid.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// There were too many attempts; the next one is possible after so many seconds.
    #[error("{detail}")]
    TooMany { detail: String, wait_sec: u32 },
    /// It cannot be done at the moment.
    #[error("{0}")]
    Unavailable(String),
    /// A failure of ours that no input should cause.
    #[error("{0}")]
    Internal(String),
    /// The log did not take the command.
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Why a use case contradicts the present state, where no single aggregate's rule says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StateConflict {
    #[error("this e-mail address is registered already")]
    AddressRegistered,
    #[error("this registration took too long and gave way to another one; register again")]
    RegistrationGaveWay,
    #[error("this company slug is taken")]
    CompanySlugTaken,
    #[error("another skillbase of this company has this slug")]
    SkillbaseSlugTaken,
    #[error("a running campaign uses this skillbase")]
    SkillbaseInUse,
    #[error("the campaign's skillbase is deleted; give the campaign another one first")]
    SkillbaseDeleted,
    #[error("the campaign's skillbase is not active; activate it, or give the campaign another one")]
    SkillbaseInactive,
    #[error("this is for users; the caller is an API key")]
    CallerIsApiKey,
    #[error("this API key has been revoked meanwhile")]
    ApiKeyRevoked,
    #[error("this call_id cannot be used")]
    CallIdTaken,
    #[error("a company can have at most {max} price lists")]
    TooManyPriceLists { max: i64 },
    #[error("a user of the company has this e-mail address already, or is invited with it")]
    AddressInCompany,
    #[error("this e-mail address belongs to a user of another company; ask for an invitation to another address")]
    AddressOfOtherCompany,
    #[error("this user has joined already")]
    UserHasJoined,
    #[error("this user is {status}")]
    UserIs { status: UserStatus },
    #[error("this task is {status}")]
    TaskIs { status: TaskStatus },
    #[error("this user never joined, and the invitation is no longer valid; invite them again")]
    UserNeverJoined,
    #[error("the company would have no admin left")]
    NoAdminLeft,
    #[error("events that the answer needs are in a detached part of the log; ask an operator to attach it")]
    EventsDetached,
}

impl Coded for StateConflict {
    const AREA: &'static str = "";
}

fn fields_text(fields: &Invalid) -> String {
    fields.0.iter().map(|field| field.reason.sentence.as_str()).collect::<Vec<_>>().join("; ")
}

impl ServiceError {
    pub fn invalid(path: impl Into<String>, reason: impl Into<Reason>) -> Self {
        Self::Invalid(Invalid::one(path, reason))
    }

    pub fn conflict(reason: impl Into<Reason>) -> Self {
        Self::Conflict(reason.into())
    }

    pub fn not_found(what: &str) -> Self {
        Self::NotFound(what.to_owned())
    }

    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::Unauthenticated(detail.into())
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::Forbidden(detail.into())
    }

    pub fn too_many(detail: impl Into<String>, wait_sec: u32) -> Self {
        Self::TooMany { detail: detail.into(), wait_sec }
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable(detail.into())
    }

    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

/// A refusal, and the user whom it is about, for the audit.
#[derive(Debug)]
pub struct Refused {
    pub error: ServiceError,
    pub user: Option<UserRef>,
}

impl<E: Into<ServiceError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self { error: error.into(), user: None }
    }
}

impl CommandError for ServiceError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl From<Absent> for ServiceError {
    fn from(Absent(what): Absent) -> Self {
        Self::not_found(what)
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            // The answer is the same as for an object that does not exist.
            StoreError::OtherCompany(stream) => match stream.split_once('-').map(|(category, _)| category) {
                Some("api_key") => Self::not_found("API key"),
                Some(category) => Self::NotFound(category.replace('_', " ")),
                None => Self::not_found("thing"),
            },
            StoreError::Database(error) => Self::Database(error),
            error => Self::Store(error),
        }
    }
}

impl<R: Refusal> From<ExecuteError<R>> for ServiceError {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Refused(refusal) => Self::refused(refusal),
            ExecuteError::Store(error) => error.into(),
        }
    }
}

impl ServiceError {
    /// Whether a rule or the input is the reason, so that certainly nothing was recorded.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Internal(_) | Self::Database(_) => false,
            Self::Store(error) => {
                error.is_conflict() || matches!(error, StoreError::PreconditionFailed { .. } | StoreError::NotStorable(_))
            }
            _ => true,
        }
    }

    pub fn refused(refusal: impl Refusal) -> Self {
        match refusal.kind() {
            RefusalKind::NotFound(what) => Self::not_found(what),
            RefusalKind::Conflict => Self::conflict(refusal),
            RefusalKind::ConflictAt(path) => Self::ConflictAt(Invalid::one(path, refusal)),
            RefusalKind::Invalid(path) => Self::invalid(path, refusal),
        }
    }
}

impl From<UnreadableDocument> for ServiceError {
    fn from(error: UnreadableDocument) -> Self {
        Self::internal(&error)
    }
}

impl From<ApplyError> for ServiceError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Sql(error) => Self::Database(error),
            ApplyError::Contradiction(_) => Self::internal(&error),
            ApplyError::Detached { .. } => Self::conflict(StateConflict::EventsDetached),
        }
    }
}

impl From<NotReached> for ServiceError {
    fn from(reached: NotReached) -> Self {
        Self::Unavailable(format!("the read model has not reached min_position yet; it is at {}", reached.position))
    }
}
