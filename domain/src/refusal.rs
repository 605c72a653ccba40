//! Why rules refuse commands, in the form that every edge needs.

use crate::Coded;

/// What a refusal means to the caller, independent of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The thing does not exist; the word names it: `campaign`.
    NotFound(&'static str),
    /// The state does not allow the command.
    Conflict,
    /// The state contradicts this part of the request: `turns[3]`.
    ConflictAt(String),
    /// This field of the request is wrong: `started_at`.
    Invalid(String),
}

/// A decider's refusal.
pub trait Refusal: Coded + std::error::Error + Send + Sync + 'static {
    fn kind(&self) -> RefusalKind;
}
