use domain::{Refusal, RefusalKind, validation::Invalid};
use eventstore::{CommandError, ExecuteError, StoreError};
use projections::NotReached;

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
    Conflict(String),
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

fn fields_text(fields: &Invalid) -> String {
    fields.0.iter().map(|field| field.message.as_str()).collect::<Vec<_>>().join("; ")
}

impl ServiceError {
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(Invalid::one(path, message))
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::Conflict(detail.into())
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
            ExecuteError::Refused(refusal) => Self::refused(&refusal),
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

    pub fn refused(refusal: &impl Refusal) -> Self {
        match refusal.kind() {
            RefusalKind::NotFound(what) => Self::not_found(what),
            RefusalKind::Conflict => Self::Conflict(refusal.to_string()),
            RefusalKind::ConflictAt(path) => Self::ConflictAt(Invalid::one(path, refusal.to_string())),
            RefusalKind::Invalid(path) => Self::invalid(path, refusal.to_string()),
        }
    }
}

impl From<NotReached> for ServiceError {
    fn from(reached: NotReached) -> Self {
        Self::Unavailable(format!("the read model has not reached min_position yet; it is at {}", reached.position))
    }
}
