//! A call: dialed for a task or started by an agent, its turns in any order, its end and outcome.

mod clock;
mod end;
mod providers;
mod refusal;
#[cfg(test)]
mod tests;
pub mod turn;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use clock::STARTED_AHEAD_MAX_MIN;
use clock::{CallTimes, Moment, given, is_given};
pub use end::{CallEnd, DURATION_MAX_SEC, EndRequest};
pub use providers::{PROVIDERS_MAX, Providers};
pub use refusal::CallRefusal;
pub use turn::Turn;

use crate::{
    Decider, DomainEvent, ERASED, Lifecycle, Personal,
    decider::STATE_BYTES,
    outcome::{self, Classification, PhraseTally},
};

/// Memory that a turn needs in the state of its call, in bytes: index, digest and their place in the map.
const TURN_STATE_BYTES: usize = 48;
/// Most bytes of text that the turns of a call may have together.
pub const CALL_TEXT_MAX_BYTES: usize = 64 << 20;
/// How long after a call's end its turns are still accepted, in hours.
pub const LATE_TURNS_MAX_HOURS: i64 = 24;

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum CallEvent {
    /// A claim made this call the task's current attempt; the person has not answered yet.
    CallDialed(Box<CallSubject>),
    /// The call began, or further details of its beginning were reported; the last event of this type is valid.
    CallStarted {
        subject: Box<CallSubject>,
        started_at: DateTime<Utc>,
        /// Whether the client gave `started_at`; otherwise the server's clock set it. Starts that were stored before this field existed are
        /// treated as given.
        #[serde(default = "given", skip_serializing_if = "is_given")]
        started_at_given: bool,
    },
    TurnRecorded(Box<Turn>),
    /// The call ended. A second event with other times follows if its start arrives later and changes them. The last event is valid.
    CallEnded(CallEnd),
    /// The outcome; it is classified again when later turns change it.
    CallOutcomeClassified(Classification),
}

impl DomainEvent for CallEvent {
    fn personal_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "CallDialed" => &["/phone_number"],
            "CallStarted" => &["/subject/phone_number"],
            "TurnRecorded" => &["/user_text", "/agent_text", "/state"],
            _ => &[],
        }
    }

    fn bound_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "TurnRecorded" => &["/turn_index"],
            _ => &[],
        }
    }

    fn occurred_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::CallStarted { started_at, .. } => Some(*started_at),
            Self::TurnRecorded(turn) => turn.occurred_at,
            Self::CallEnded(end) => Some(end.ended_at),
            Self::CallDialed(_) | Self::CallOutcomeClassified(_) => None,
        }
    }
}

/// The person that a call is with, and what the call belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallSubject {
    pub campaign_id: Option<Uuid>,
    pub task_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    pub skillbase_version: Option<u32>,
    pub direction: Direction,
    /// The person that the call is with; absent in calls from before personal data was encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person_id: Option<Uuid>,
    pub phone_number: Personal<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Direction {
    Outbound,
    Inbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CallStatus {
    Dialing,
    InProgress,
    Ended,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KnownCall {
    pub subject: CallSubject,
    pub started_at: Option<DateTime<Utc>>,
    /// Whether the client gave `started_at`.
    pub started_at_given: bool,
    /// Digest of the content of each turn.
    pub turns: HashMap<u32, [u8; 16]>,
    /// Bytes of text of all turns together.
    pub text_bytes: usize,
    pub providers: Providers,
    /// The caller's phrases that indicate an outcome.
    pub said: PhraseTally,
    pub end: Option<CallEnd>,
    pub classification: Option<Classification>,
}

impl KnownCall {
    fn new(subject: CallSubject) -> Self {
        Self {
            subject,
            started_at: None,
            started_at_given: false,
            turns: HashMap::new(),
            text_bytes: 0,
            providers: Providers::default(),
            said: PhraseTally::default(),
            end: None,
            classification: None,
        }
    }

    pub fn status(&self) -> CallStatus {
        match (&self.end, self.started_at) {
            (Some(_), _) => CallStatus::Ended,
            (None, Some(_)) => CallStatus::InProgress,
            (None, None) if self.turns.is_empty() => CallStatus::Dialing,
            (None, None) => CallStatus::InProgress,
        }
    }
}

#[derive(Clone, Debug)]
pub enum CallCommand {
    Dial(Box<CallSubject>),
    /// `started_at` is `None` when the source gave no time; then the first such command sets the start to its `now`.
    Start {
        subject: Box<CallSubject>,
        started_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    },
    RecordTurns {
        turns: Vec<Turn>,
        now: DateTime<Utc>,
    },
    End {
        request: EndRequest,
        now: DateTime<Utc>,
    },
}

pub struct Call;

impl Decider for Call {
    const CATEGORY: &'static str = "call";
    type State = Lifecycle<KnownCall>;
    type Event = CallEvent;
    type Command = CallCommand;
    type Refusal = CallRefusal;

    fn evolve(state: &mut Lifecycle<KnownCall>, event: &CallEvent) {
        if let (Lifecycle::None, CallEvent::CallDialed(subject) | CallEvent::CallStarted { subject, .. }) = (&*state, event) {
            *state = Lifecycle::new(KnownCall::new(subject.as_ref().clone()));
        }
        let Some(call) = state.present_mut() else { return };
        match event {
            CallEvent::CallDialed(_) => {}
            CallEvent::CallStarted { subject, started_at, started_at_given } => {
                call.subject = subject.as_ref().clone();
                call.started_at = Some(*started_at);
                call.started_at_given = *started_at_given;
            }
            CallEvent::TurnRecorded(turn) => {
                call.turns.insert(turn.turn_index, turn.fingerprint());
                call.text_bytes += turn.text_bytes();
                call.providers.add(turn);
                tally_turn(&mut call.said, turn);
            }
            CallEvent::CallEnded(end) => call.end = Some(end.clone()),
            CallEvent::CallOutcomeClassified(classification) => call.classification = Some(*classification),
        }
    }

    fn size_of(state: &Lifecycle<KnownCall>) -> usize {
        STATE_BYTES + state.present().map_or(0, |call| call.turns.len() * TURN_STATE_BYTES + call.providers.bytes())
    }

    fn person(id: Uuid, state: &Lifecycle<KnownCall>) -> Uuid {
        state.present().and_then(|call| call.subject.person_id).unwrap_or(id)
    }

    fn decide(state: &Lifecycle<KnownCall>, command: CallCommand) -> Result<Vec<CallEvent>, CallRefusal> {
        match (state.present(), command) {
            (None, CallCommand::Dial(subject)) => Ok(vec![CallEvent::CallDialed(subject)]),
            (None, CallCommand::Start { subject, started_at, now }) => {
                let start = start_moment(started_at, now)?;
                Ok(vec![CallEvent::CallStarted { subject, started_at: start.at, started_at_given: start.given }])
            }
            (None, _) => Err(CallRefusal::Unknown),
            (Some(call), CallCommand::Dial(subject)) if call.subject == *subject => Ok(vec![]),
            (Some(_), CallCommand::Dial(_)) => Err(CallRefusal::OtherSubject),
            (Some(call), CallCommand::Start { subject, started_at, now }) => call.start(*subject, started_at, now),
            (Some(call), CallCommand::RecordTurns { turns, now }) => call.record(turns, now),
            (Some(call), CallCommand::End { request, now }) => call.end(request, now),
        }
    }
}

impl KnownCall {
    fn start(&self, subject: CallSubject, started_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<Vec<CallEvent>, CallRefusal> {
        let merged = self.merge(subject)?;
        match self.started_at {
            Some(at) if merged == self.subject && started_at.is_none_or(|given| given == at) => Ok(vec![]),
            Some(_) => Err(CallRefusal::StartedAlready),
            None => self.begin(merged, start_moment(started_at, now)?),
        }
    }

    /// Handles the first start; an end that arrived earlier gets the times that follow from both.
    fn begin(&self, subject: CallSubject, start: Moment) -> Result<Vec<CallEvent>, CallRefusal> {
        let started = |at| CallEvent::CallStarted { subject: Box::new(subject), started_at: at, started_at_given: start.given };
        let Some(end) = &self.end else { return Ok(vec![started(start.at)]) };
        let reported = Moment { at: end.ended_at, given: end.ended_at_given };
        let times = CallTimes::settle(start, reported, end.duration_given.then_some(end.duration_sec));
        let CallTimes { started_at, ended_at, duration_sec } = times.map_err(CallRefusal::of_start)?;
        let settled = CallEnd { ended_at, duration_sec, ..end.clone() };
        let corrected = (settled != *end).then_some(CallEvent::CallEnded(settled));
        Ok([started(started_at)].into_iter().chain(corrected).collect())
    }

    /// Merges a report into the subject: a known value stays, a new value is added, a contradiction is refused.
    fn merge(&self, given: CallSubject) -> Result<CallSubject, CallRefusal> {
        let known = &self.subject;
        let agrees = |known: Option<Uuid>, given: Option<Uuid>| known.is_none() || given.is_none() || known == given;
        let same = agrees(known.campaign_id, given.campaign_id)
            && agrees(known.task_id, given.task_id)
            && agrees(known.skillbase_id, given.skillbase_id)
            && known.direction == given.direction;
        if !same {
            return Err(CallRefusal::OtherSubject);
        }
        let number = known.phone_number.reveal();
        if known.task_id.is_some() && number != given.phone_number.reveal() && number != ERASED {
            return Err(CallRefusal::OtherNumber);
        }
        Ok(CallSubject {
            campaign_id: known.campaign_id.or(given.campaign_id),
            task_id: known.task_id.or(given.task_id),
            skillbase_id: known.skillbase_id.or(given.skillbase_id),
            skillbase_version: known.skillbase_version.or(given.skillbase_version),
            direction: known.direction,
            person_id: given.person_id,
            phone_number: given.phone_number,
        })
    }

    fn record(&self, turns: Vec<Turn>, now: DateTime<Utc>) -> Result<Vec<CallEvent>, CallRefusal> {
        let mut known = HashMap::new();
        let mut text_bytes = self.text_bytes;
        let mut providers = self.providers.clone();
        // Until the call has ended, the words are only needed when the events are folded.
        let mut said = self.end.as_ref().map(|_| self.said.clone());
        let mut events = Vec::with_capacity(turns.len() + 1);
        for (position_in_request, turn) in turns.into_iter().enumerate() {
            let fingerprint = turn.fingerprint();
            match (self.turns.get(&turn.turn_index), known.get(&turn.turn_index)) {
                (Some(same), _) | (None, Some(same)) if *same == fingerprint => continue,
                (Some(_), _) => return Err(CallRefusal::TurnDiffers { position_in_request, turn_index: turn.turn_index }),
                (None, Some(_)) => return Err(CallRefusal::TurnTwice { position_in_request, turn_index: turn.turn_index }),
                (None, None) => {}
            }
            let occurs = Moment::new(turn.occurred_at, now);
            if occurs.is_ahead_of(now, TimeDelta::minutes(STARTED_AHEAD_MAX_MIN)) {
                return Err(CallRefusal::TurnInFuture { position_in_request });
            }
            let latest = self.end.as_ref().map(|end| end.ended_at + TimeDelta::hours(LATE_TURNS_MAX_HOURS));
            if latest.is_some_and(|latest| occurs.at > latest) {
                return Err(CallRefusal::TurnTooLate { position_in_request });
            }
            text_bytes += turn.text_bytes();
            if text_bytes > CALL_TEXT_MAX_BYTES {
                return Err(CallRefusal::TooMuchText { position_in_request });
            }
            if !providers.add(&turn) {
                return Err(CallRefusal::TooManyProviders { position_in_request });
            }
            known.insert(turn.turn_index, fingerprint);
            if let Some(said) = &mut said {
                tally_turn(said, &turn);
            }
            events.push(CallEvent::TurnRecorded(Box::new(turn)));
        }
        if let Some((end, said)) = self.end.as_ref().zip(said.as_ref()).filter(|_| !events.is_empty()) {
            events.extend(self.classify(end, said));
        }
        Ok(events)
    }

    fn end(&self, request: EndRequest, now: DateTime<Utc>) -> Result<Vec<CallEvent>, CallRefusal> {
        if let Some(end) = &self.end {
            return if request.repeats(end) { Ok(vec![]) } else { Err(CallRefusal::EndedAlready) };
        }
        let reported = Moment::new(request.ended_at, now);
        if reported.given && reported.is_ahead_of(now, TimeDelta::seconds(DURATION_MAX_SEC)) {
            return Err(CallRefusal::EndsInFuture);
        }
        let times = self.times_until(reported, request.duration_sec)?;
        let moved = self.started_at.is_some_and(|at| at != times.started_at).then(|| CallEvent::CallStarted {
            subject: Box::new(self.subject.clone()),
            started_at: times.started_at,
            started_at_given: false,
        });
        let end = CallEnd::new(request, reported.given, &times);
        let classified = self.classify(&end, &self.said);
        Ok(moved.into_iter().chain([CallEvent::CallEnded(end)]).chain(classified).collect())
    }

    /// The times of the call when its end is reported.
    fn times_until(&self, reported: Moment, duration_sec: Option<Decimal>) -> Result<CallTimes, CallRefusal> {
        let Some(at) = self.started_at else {
            // Until a start arrives, the call starts and ends at the same moment.
            return Ok(CallTimes { started_at: reported.at, ended_at: reported.at, duration_sec: duration_sec.unwrap_or_default() });
        };
        let start = Moment { at, given: self.started_at_given };
        CallTimes::settle(start, reported, duration_sec).map_err(CallRefusal::of_end)
    }

    /// The outcome, if it differs from the previous one. Once texts of the caller are erased, the outcome that was derived from them stays:
    /// the rest of the conversation would give another one. If there was no outcome before the erasure, only the values that the client
    /// gives with the end determine one.
    fn classify(&self, end: &CallEnd, said: &PhraseTally) -> Option<CallEvent> {
        if said.has_erased_text() && self.classification.is_some() {
            return None;
        }
        let classification = outcome::classify(end.outcome, end.final_state.as_deref(), said);
        (self.classification != Some(classification)).then_some(CallEvent::CallOutcomeClassified(classification))
    }
}

fn start_moment(started_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<Moment, CallRefusal> {
    let start = Moment::new(started_at, now);
    if start.is_ahead_of(now, TimeDelta::minutes(STARTED_AHEAD_MAX_MIN)) { Err(CallRefusal::StartsInFuture) } else { Ok(start) }
}

/// Only the caller's words determine an outcome.
fn tally_turn(said: &mut PhraseTally, turn: &Turn) {
    if let Some(text) = &turn.user_text {
        said.add(turn.turn_index, text.reveal());
    }
}
