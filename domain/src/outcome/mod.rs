//! How a call or a task ended, and how the outcome is derived from a final state or from the caller's words.

mod context;
#[cfg(test)]
mod dialogues;
mod matching;
mod negation;
mod neutral;
mod phrases;
mod tally;

use serde::{Deserialize, Serialize};

pub use tally::PhraseTally;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    Success,
    Fail,
    Voicemail,
    NoAnswer,
    Busy,
}

/// Whether the person was spoken to, so that they are not called again. A call that failed because the platform itself hung up reached no
/// person.
pub fn was_reached(outcome: Outcome, hangup_by: Option<&str>) -> bool {
    match outcome {
        Outcome::Success => true,
        Outcome::Fail => hangup_by != Some("system"),
        Outcome::Voicemail | Outcome::NoAnswer | Outcome::Busy => false,
    }
}

/// The number of items with each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    pub success: i64,
    pub fail: i64,
    pub voicemail: i64,
    pub no_answer: i64,
    pub busy: i64,
}

impl OutcomeCounts {
    pub const fn of(&self, outcome: Outcome) -> i64 {
        match outcome {
            Outcome::Success => self.success,
            Outcome::Fail => self.fail,
            Outcome::Voicemail => self.voicemail,
            Outcome::NoAnswer => self.no_answer,
            Outcome::Busy => self.busy,
        }
    }

    /// Adds `n` to the count of the outcome with that name; without an outcome, it changes nothing.
    ///
    /// # Panics
    ///
    /// If no outcome has the name.
    #[expect(clippy::expect_used, reason = "read models store no other names than those of the enum")]
    pub fn add(&mut self, name: Option<&str>, n: i64) {
        let Some(name) = name else { return };
        let count = match name.parse().expect("an outcome is stored by its name") {
            Outcome::Success => &mut self.success,
            Outcome::Fail => &mut self.fail,
            Outcome::Voicemail => &mut self.voicemail,
            Outcome::NoAnswer => &mut self.no_answer,
            Outcome::Busy => &mut self.busy,
        };
        *count += n;
    }
}

impl std::ops::AddAssign for OutcomeCounts {
    fn add_assign(&mut self, more: Self) {
        let Self { success, fail, voicemail, no_answer, busy } = more;
        self.success += success;
        self.fail += fail;
        self.voicemail += voicemail;
        self.no_answer += no_answer;
        self.busy += busy;
    }
}

/// The source of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OutcomeMethod {
    /// The API client gave it.
    Explicit,
    /// The final state's name is in [`FINAL_STATES`].
    State,
    /// The caller said phrases of the table of keywords.
    Keywords,
    /// No source gave an outcome.
    None,
}

/// An outcome with its confidence in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classification {
    pub outcome: Option<Outcome>,
    pub confidence_percent: u8,
    pub method: OutcomeMethod,
}

/// The classification of a call whose outcome is unknown.
pub const UNCLASSIFIED: Classification = Classification { outcome: None, confidence_percent: 0, method: OutcomeMethod::None };

/// Confidence of an outcome that is derived from a final state, in percent.
const STATE_CONFIDENCE_PERCENT: u8 = 90;

/// Names of final states, compared in lower case with blanks and hyphens as `_`.
pub const FINAL_STATES: &[(Outcome, &[&str])] = &[
    (
        Outcome::Success,
        &[
            "success",
            "successful",
            "succeeded",
            "completed",
            "complete",
            "done",
            "booked",
            "appointment_booked",
            "confirmed",
            "accepted",
            "agreed",
            "converted",
            "sold",
            "paid",
            "qualified",
            "transferred",
        ],
    ),
    (
        Outcome::Fail,
        &[
            "fail",
            "failed",
            "failure",
            "refused",
            "rejected",
            "declined",
            "not_interested",
            "do_not_call",
            "dnc",
            "opt_out",
            "opted_out",
            "unsubscribed",
            "wrong_number",
            "hangup",
            "hung_up",
            "error",
            "cancelled",
            "canceled",
        ],
    ),
    (Outcome::Voicemail, &["voicemail", "voicemail_left", "voicemail_reached", "left_voicemail", "answering_machine", "machine"]),
    (Outcome::NoAnswer, &["no_answer", "unanswered", "not_answered", "ring_timeout", "timeout", "unreachable"]),
    (Outcome::Busy, &["busy", "line_busy", "user_busy"]),
];

/// The outcome that a final state's name means; `None` for a customer's own names.
pub fn from_final_state(state: &str) -> Option<Outcome> {
    let name = state.trim().to_lowercase().replace([' ', '-'], "_");
    FINAL_STATES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(outcome, _)| *outcome)
}

/// An explicit outcome has priority; otherwise the final state determines the outcome, otherwise the caller's words.
pub fn classify(explicit: Option<Outcome>, final_state: Option<&str>, said: &PhraseTally) -> Classification {
    if let Some(outcome) = explicit {
        return Classification { outcome: Some(outcome), confidence_percent: 100, method: OutcomeMethod::Explicit };
    }
    if let Some(outcome) = final_state.and_then(from_final_state) {
        return Classification { outcome: Some(outcome), confidence_percent: STATE_CONFIDENCE_PERCENT, method: OutcomeMethod::State };
    }
    match said.majority() {
        Some((outcome, confidence_percent)) => {
            Classification { outcome: Some(outcome), confidence_percent, method: OutcomeMethod::Keywords }
        }
        None => UNCLASSIFIED,
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn each_outcome_is_counted_under_its_name() {
        let mut counts = OutcomeCounts::default();
        counts.add(None, 9);
        for (n, outcome) in (1..).zip(Outcome::iter()) {
            counts.add(Some(&outcome.to_string()), n);
            assert_eq!(counts.of(outcome), n);
        }
        let once = OutcomeCounts { success: 1, fail: 2, voicemail: 3, no_answer: 4, busy: 5 };
        assert_eq!(counts, once);
        counts += once;
        assert_eq!(counts, OutcomeCounts { success: 2, fail: 4, voicemail: 6, no_answer: 8, busy: 10 });
    }

    #[test]
    #[should_panic(expected = "an outcome is stored by its name")]
    fn an_unknown_outcome_is_not_dropped() {
        OutcomeCounts::default().add(Some("maybe"), 1);
    }

    #[test]
    fn an_explicit_outcome_stands_over_all_else() {
        let c = classify(Some(Outcome::Busy), Some("booked"), &PhraseTally::default());
        assert_eq!((c.outcome, c.confidence_percent, c.method), (Some(Outcome::Busy), 100, OutcomeMethod::Explicit));
    }

    #[test]
    fn final_states_are_compared_without_regard_to_case_and_hyphens() {
        assert_eq!(from_final_state("Voicemail-Left"), Some(Outcome::Voicemail));
        assert_eq!(from_final_state("appointment booked"), Some(Outcome::Success));
        assert_eq!(from_final_state("DNC"), Some(Outcome::Fail));
        assert_eq!(from_final_state("greeting"), None);
    }

    #[test]
    fn silence_tells_nothing() {
        assert_eq!(classify(None, Some("a state of our own"), &PhraseTally::default()), UNCLASSIFIED);
    }
}
