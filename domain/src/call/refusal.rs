//! Why a command on a call is refused.

use serde::Serialize;

use super::{CALL_TEXT_MAX_BYTES, DURATION_MAX_SEC, LATE_TURNS_MAX_HOURS, PROVIDERS_MAX, STARTED_AHEAD_MAX_MIN, clock::Contradiction};
use crate::{Coded, Refusal, RefusalKind};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CallRefusal {
    #[error("there is no such call")]
    Unknown,
    #[error("this call belongs to another campaign, task, skillbase or direction")]
    OtherSubject,
    #[error("this is not the number of the call's task")]
    OtherNumber,
    #[error("this call has started already, with other content")]
    StartedAlready,
    #[error("this call has ended already, with other content")]
    EndedAlready,
    #[error("turn {turn_index} is recorded already, with other content")]
    TurnDiffers { position_in_request: usize, turn_index: u32 },
    #[error("turn {turn_index} is in the request twice, with different content")]
    TurnTwice { position_in_request: usize, turn_index: u32 },
    #[error("the call's turns would have more than {} MiB of text together", CALL_TEXT_MAX_BYTES >> 20)]
    TooMuchText { position_in_request: usize },
    #[error("the call's turns would name more than {PROVIDERS_MAX} different providers and models together")]
    TooManyProviders { position_in_request: usize },
    #[error("turn came more than {LATE_TURNS_MAX_HOURS} hours after the call's end")]
    TurnTooLate { position_in_request: usize },
    #[error("must not be more than {STARTED_AHEAD_MAX_MIN} minutes ahead of the server's clock")]
    StartsInFuture,
    #[error("must not be more than {STARTED_AHEAD_MAX_MIN} minutes ahead of the server's clock")]
    TurnInFuture { position_in_request: usize },
    #[error("the call cannot start after it ended")]
    StartsAfterEnd,
    #[error("the call cannot end before it started")]
    EndsBeforeStart,
    #[error("must not be more than {DURATION_MAX_SEC} seconds ahead of the server's clock")]
    EndsInFuture,
    #[error(
        "the call would have lasted longer than {DURATION_MAX_SEC} seconds: correct ended_at, or give duration_sec; without ended_at the \
         call ends now"
    )]
    LastsTooLong,
    #[error(
        "the call would have lasted longer than {DURATION_MAX_SEC} seconds: give a started_at closer to its end, or none if it is not known"
    )]
    StartsTooEarly,
}

impl Coded for CallRefusal {
    const AREA: &'static str = "call";
}

impl Refusal for CallRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound("call"),
            Self::OtherSubject | Self::StartedAlready | Self::EndedAlready => RefusalKind::Conflict,
            Self::TurnDiffers { position_in_request, .. } | Self::TurnTwice { position_in_request, .. } => {
                RefusalKind::ConflictAt(format!("turns[{position_in_request}]"))
            }
            Self::TurnTooLate { position_in_request } | Self::TurnInFuture { position_in_request } => {
                RefusalKind::Invalid(format!("turns[{position_in_request}].occurred_at"))
            }
            Self::TooMuchText { position_in_request } | Self::TooManyProviders { position_in_request } => {
                RefusalKind::Invalid(format!("turns[{position_in_request}]"))
            }
            Self::OtherNumber => RefusalKind::Invalid("phone_number".to_owned()),
            Self::StartsInFuture | Self::StartsAfterEnd | Self::StartsTooEarly => RefusalKind::Invalid("started_at".to_owned()),
            Self::EndsBeforeStart | Self::EndsInFuture => RefusalKind::Invalid("ended_at".to_owned()),
            Self::LastsTooLong => RefusalKind::Invalid("duration_sec".to_owned()),
        }
    }
}

impl CallRefusal {
    /// The refusal of a start that contradicts an end reported earlier: it names `started_at`, which the client can correct.
    pub(super) const fn of_start(contradiction: Contradiction) -> Self {
        match contradiction {
            Contradiction::EndsBeforeStart => Self::StartsAfterEnd,
            Contradiction::LastsTooLong => Self::StartsTooEarly,
        }
    }

    /// The refusal of an end that contradicts a start reported earlier.
    pub(super) const fn of_end(contradiction: Contradiction) -> Self {
        match contradiction {
            Contradiction::EndsBeforeStart => Self::EndsBeforeStart,
            Contradiction::LastsTooLong => Self::LastsTooLong,
        }
    }
}
