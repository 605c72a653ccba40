//! The end of a call, as a client reports it and as the log stores it.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::clock::{CallTimes, given, is_given};
use crate::{outcome::Outcome, validation::Invalid};

/// Longest call, in seconds (ten days).
pub const DURATION_MAX_SEC: i64 = 864_000;
/// Longest `final_state` and `hangup_by`, in characters.
pub const END_TEXT_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallEnd {
    pub ended_at: DateTime<Utc>,
    /// Whether the client gave `ended_at`; otherwise the server's clock set it. Ends that were stored before this field existed are treated
    /// as given.
    #[serde(default = "given", skip_serializing_if = "is_given")]
    pub ended_at_given: bool,
    /// Seconds, exact.
    pub duration_sec: Decimal,
    /// Whether the client gave `duration_sec`; otherwise it is computed from start and end. Ends that were stored before this field existed
    /// are treated as given.
    #[serde(default = "given", skip_serializing_if = "is_given")]
    pub duration_given: bool,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    /// The outcome that the API client gave, if any.
    pub outcome: Option<Outcome>,
}

/// The end as the client reports it; missing values are computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndRequest {
    pub ended_at: Option<DateTime<Utc>>,
    pub duration_sec: Option<Decimal>,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    pub outcome: Option<Outcome>,
}

impl CallEnd {
    /// The reported end with the times that follow from it.
    pub(super) fn new(request: EndRequest, ended_at_given: bool, times: &CallTimes) -> Self {
        Self {
            ended_at: times.ended_at,
            ended_at_given,
            duration_sec: times.duration_sec,
            duration_given: request.duration_sec.is_some(),
            final_state: request.final_state,
            hangup_by: request.hangup_by,
            outcome: request.outcome,
        }
    }
}

impl EndRequest {
    /// The report of an end at this time, and nothing else.
    pub fn at(ended_at: DateTime<Utc>) -> Self {
        Self { ended_at: Some(ended_at), ..Self::default() }
    }

    /// Checks the values; the paths are those of the request.
    pub fn validate(&self, invalid: &mut Invalid) {
        invalid.time("ended_at", self.ended_at);
        if let Some(duration_sec) = self.duration_sec {
            invalid.range("duration_sec", duration_sec, Decimal::ZERO, Decimal::from(DURATION_MAX_SEC));
        }
        for (field, text) in [("final_state", &self.final_state), ("hangup_by", &self.hangup_by)] {
            if let Some(text) = text {
                invalid.text(field, text, END_TEXT_MAX);
            }
        }
    }

    /// Whether the request reports the same end: each value that it gives is equal, and a missing value contradicts nothing.
    pub(super) fn repeats(&self, end: &CallEnd) -> bool {
        fn agrees<T: PartialEq>(given: Option<&T>, known: Option<&T>) -> bool {
            given.is_none() || given == known
        }
        agrees(self.ended_at.as_ref(), Some(&end.ended_at))
            && agrees(self.duration_sec.as_ref(), Some(&end.duration_sec))
            && agrees(self.final_state.as_ref(), end.final_state.as_ref())
            && agrees(self.hangup_by.as_ref(), end.hangup_by.as_ref())
            && agrees(self.outcome.as_ref(), end.outcome.as_ref())
    }
}
