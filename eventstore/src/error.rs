//! Errors that occur between a command and the log.

use crate::canonical::NotStorable;

/// Another command appended to a stream first, or the stream holds something else than the command expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("conflict on {stream}: expected version {expected}, found {actual}")]
pub struct Conflict {
    pub stream: String,
    pub expected: i64,
    pub actual: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The stream belongs to another company. External callers learn only that the stream is not theirs.
    #[error("stream {0} belongs to another company")]
    OtherCompany(String),
    /// The caller made the command depend on a version that the stream does not have.
    #[error("expected version {expected}, found {actual}")]
    PreconditionFailed { expected: i64, actual: i64 },
    #[error("an event cannot be stored: {0}")]
    NotStorable(#[from] NotStorable),
    #[error("the event at position {position} cannot be read: {reason}")]
    Unreadable { position: i64, reason: String },
    /// The command was decided on a pending append that did not reach the log: the command must be decided again.
    #[error("conflict: what the command was decided on did not happen")]
    Overtaken,
    #[error("one command writes {0} twice")]
    StreamTwice(String),
    #[error("an event with one of these ids is in the log already, with another content")]
    DuplicateEventId,
    #[error("there is no master key: personal data can neither be written nor read")]
    NoMasterKey,
    #[error("the master key is not the one that the keys of this database are wrapped with")]
    OtherMasterKey,
    /// The row of the key was changed in the database.
    #[error("the key of person {0} was not made for this person and number")]
    ForeignPersonKey(uuid::Uuid),
    #[error("the append queue is full")]
    Overloaded,
    #[error("the log is shutting down")]
    ShuttingDown,
    /// The append may have happened or not: only a command that can be repeated may be retried.
    #[error("the database did not answer: {0}")]
    Database(#[from] sqlx::Error),
    /// The batch did not finish: its events may be in the log or not, and each of its commands gets the reason.
    #[error("the append failed: {0}")]
    AppendFailed(String),
}

/// Why `execute` failed: the rule refused, or the log failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<R: std::error::Error + 'static> {
    #[error(transparent)]
    Refused(R),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An error of a command that may have lost a race.
pub trait CommandError: From<StoreError> {
    /// Whether another command was first: the same command may succeed when it is decided again.
    fn is_conflict(&self) -> bool;
}

impl<R: std::error::Error + 'static> CommandError for ExecuteError<R> {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl CommandError for StoreError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Overtaken)
    }
}
