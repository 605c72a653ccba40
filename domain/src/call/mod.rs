//! A call: dialed for a task or started by an agent, its turns in any order, its end and outcome.

pub mod turn;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use turn::Turn;

use crate::{
    Decider, DomainEvent, Personal,
    outcome::{self, Classification, Outcome, OutcomeMethod, PhraseTally},
};

/// How long after a call's end its turns may still come in, in hours.
pub const LATE_TURNS_MAX_HOURS: i64 = 24;

/// These names are storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum CallEvent {
    /// A claim made this call the task's current attempt; nobody has answered yet.
    CallDialed(Box<CallSubject>),
    /// The call began, or more became known of its beginning.
    CallStarted {
        subject: Box<CallSubject>,
        started_at: DateTime<Utc>,
    },
    TurnRecorded(Box<Turn>),
    CallEnded(CallEnd),
    /// The outcome, told anew whenever later turns tell otherwise.
    CallOutcomeClassified(Classification),
}

impl DomainEvent for CallEvent {
    fn personal_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "CallDialed" => &["/phone_number"],
            "CallStarted" => &["/subject/phone_number"],
            "TurnRecorded" => &["/user_text", "/agent_text"],
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

/// Whom the call is with and what it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallSubject {
    pub campaign_id: Option<Uuid>,
    pub task_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    pub skillbase_version: Option<u32>,
    pub direction: Direction,
    /// Who the call is with; calls from before personal data was encrypted do not say.
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallEnd {
    pub ended_at: DateTime<Utc>,
    /// Seconds, exact.
    pub duration_sec: Decimal,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    /// The outcome the caller of the API gave, if any.
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CallStatus {
    Dialing,
    InProgress,
    Ended,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum CallState {
    #[default]
    None,
    Known(Box<KnownCall>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct KnownCall {
    pub subject: CallSubject,
    pub started_at: Option<DateTime<Utc>>,
    /// Content of each turn as a digest.
    pub turns: HashMap<u32, [u8; 16]>,
    pub said: PhraseTally,
    pub end: Option<CallEnd>,
    pub classification: Option<Classification>,
}

impl CallState {
    pub fn known(&self) -> Option<&KnownCall> {
        match self {
            Self::Known(call) => Some(call),
            Self::None => None,
        }
    }
}

impl KnownCall {
    fn new(subject: CallSubject) -> Self {
        Self { subject, started_at: None, turns: HashMap::new(), said: PhraseTally::default(), end: None, classification: None }
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
    /// `started_at` is `None` when the source did not say; then `now` counts, once.
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

/// The end as it was reported; what is missing is worked out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndRequest {
    pub ended_at: Option<DateTime<Utc>>,
    pub duration_sec: Option<Decimal>,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallRefusal {
    #[error("there is no such call")]
    Unknown,
    #[error("this call belongs to another campaign, task, skillbase or direction")]
    OtherSubject,
    #[error("this call has started already, with other content")]
    StartedAlready,
    #[error("this call has ended already, with other content")]
    EndedAlready,
    #[error("turn {turn_index} is recorded already, with other content")]
    TurnDiffers { position_in_request: usize, turn_index: u32 },
    #[error("turn came more than {LATE_TURNS_MAX_HOURS} hours after the call's end")]
    TurnTooLate { position_in_request: usize },
    #[error("the call cannot end before it started")]
    EndsBeforeStart,
}

pub struct Call;

impl Decider for Call {
    const CATEGORY: &'static str = "call";
    type State = CallState;
    type Event = CallEvent;
    type Command = CallCommand;
    type Refusal = CallRefusal;

    fn evolve(state: &mut CallState, event: &CallEvent) {
        if let (CallState::None, CallEvent::CallDialed(subject) | CallEvent::CallStarted { subject, .. }) = (&*state, event) {
            *state = CallState::Known(Box::new(KnownCall::new(subject.as_ref().clone())));
        }
        let CallState::Known(call) = state else { return };
        match event {
            CallEvent::CallDialed(_) => {}
            CallEvent::CallStarted { subject, started_at } => {
                call.subject = subject.as_ref().clone();
                call.started_at = Some(*started_at);
            }
            CallEvent::TurnRecorded(turn) => {
                call.turns.insert(turn.turn_index, turn.fingerprint());
                tally_turn(&mut call.said, turn);
            }
            CallEvent::CallEnded(end) => call.end = Some(end.clone()),
            CallEvent::CallOutcomeClassified(classification) => call.classification = Some(*classification),
        }
    }

    fn person(id: Uuid, state: &CallState) -> Uuid {
        state.known().and_then(|call| call.subject.person_id).unwrap_or(id)
    }

    fn decide(state: &CallState, command: CallCommand) -> Result<Vec<CallEvent>, CallRefusal> {
        match (state, command) {
            (CallState::None, CallCommand::Dial(subject)) => Ok(vec![CallEvent::CallDialed(subject)]),
            (CallState::None, CallCommand::Start { subject, started_at, now }) => {
                Ok(vec![CallEvent::CallStarted { subject, started_at: started_at.unwrap_or(now) }])
            }
            (CallState::None, _) => Err(CallRefusal::Unknown),
            (CallState::Known(call), CallCommand::Dial(subject)) if call.subject == *subject => Ok(vec![]),
            (CallState::Known(_), CallCommand::Dial(_)) => Err(CallRefusal::OtherSubject),
            (CallState::Known(call), CallCommand::Start { subject, started_at, now }) => call.start(*subject, started_at, now),
            (CallState::Known(call), CallCommand::RecordTurns { turns, now }) => call.record(turns, now),
            (CallState::Known(call), CallCommand::End { request, now }) => call.end(request, now),
        }
    }
}

impl KnownCall {
    fn start(&self, subject: CallSubject, started_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<Vec<CallEvent>, CallRefusal> {
        let merged = self.merge(subject)?;
        match self.started_at {
            Some(at) if merged == self.subject && started_at.is_none_or(|given| given == at) => Ok(vec![]),
            Some(_) => Err(CallRefusal::StartedAlready),
            None => Ok(vec![CallEvent::CallStarted { subject: Box::new(merged), started_at: started_at.unwrap_or(now) }]),
        }
    }

    /// What is known already stands; what is new fills in; what contradicts is refused.
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
        let mut said = self.said.clone();
        let mut events = Vec::with_capacity(turns.len() + 1);
        for (position_in_request, turn) in turns.into_iter().enumerate() {
            let fingerprint = turn.fingerprint();
            match self.turns.get(&turn.turn_index).or_else(|| known.get(&turn.turn_index)) {
                Some(same) if *same == fingerprint => continue,
                Some(_) => return Err(CallRefusal::TurnDiffers { position_in_request, turn_index: turn.turn_index }),
                None => {}
            }
            let latest = self.end.as_ref().map(|end| end.ended_at + TimeDelta::hours(LATE_TURNS_MAX_HOURS));
            if latest.is_some_and(|latest| turn.occurred_at.unwrap_or(now) > latest) {
                return Err(CallRefusal::TurnTooLate { position_in_request });
            }
            known.insert(turn.turn_index, fingerprint);
            tally_turn(&mut said, &turn);
            events.push(CallEvent::TurnRecorded(Box::new(turn)));
        }
        if let Some(end) = self.end.as_ref().filter(|_| !events.is_empty()) {
            events.extend(self.classify(end, &said));
        }
        Ok(events)
    }

    fn end(&self, request: EndRequest, now: DateTime<Utc>) -> Result<Vec<CallEvent>, CallRefusal> {
        if let Some(end) = &self.end {
            let same = request.ended_at.is_none_or(|at| at == end.ended_at)
                && request.duration_sec.is_none_or(|d| d == end.duration_sec)
                && (&request.final_state, &request.hangup_by, request.outcome) == (&end.final_state, &end.hangup_by, end.outcome);
            return if same { Ok(vec![]) } else { Err(CallRefusal::EndedAlready) };
        }
        let end = self.work_out_end(request, now)?;
        let classified = self.classify(&end, &self.said);
        Ok([CallEvent::CallEnded(end)].into_iter().chain(classified).collect())
    }

    /// End and duration follow from each other and the start; a call nobody started lasted no time.
    fn work_out_end(&self, request: EndRequest, now: DateTime<Utc>) -> Result<CallEnd, CallRefusal> {
        let EndRequest { ended_at, duration_sec, final_state, hangup_by, outcome } = request;
        let ended_at = match (ended_at, self.started_at, duration_sec) {
            (Some(at), ..) => at,
            (None, Some(started_at), Some(duration_sec)) => started_at + seconds(duration_sec),
            (None, ..) => now.max(self.started_at.unwrap_or(now)),
        };
        if self.started_at.is_some_and(|started_at| ended_at < started_at) {
            return Err(CallRefusal::EndsBeforeStart);
        }
        let lasted = self.started_at.map_or(Decimal::ZERO, |started_at| micros(ended_at - started_at));
        Ok(CallEnd { ended_at, duration_sec: duration_sec.unwrap_or(lasted), final_state, hangup_by, outcome })
    }

    /// The outcome, if it is another than the one told before. Once texts of the caller are erased, the outcome that was told
    /// from them stands: the rest of the conversation would tell another.
    fn classify(&self, end: &CallEnd, said: &PhraseTally) -> Option<CallEvent> {
        if said.has_erased_text() && self.classification.is_some() {
            return None;
        }
        let classification = outcome::classify(end.outcome, end.final_state.as_deref(), said);
        (self.classification != Some(classification)).then_some(CallEvent::CallOutcomeClassified(classification))
    }
}

/// Only what the caller said tells an outcome.
fn tally_turn(said: &mut PhraseTally, turn: &Turn) {
    if let Some(text) = &turn.user_text {
        said.add(turn.turn_index, text.reveal());
    }
}

/// How an outcome nobody told looks.
pub const UNCLASSIFIED: Classification = Classification { outcome: None, confidence_percent: 0, method: OutcomeMethod::None };

fn seconds(duration_sec: Decimal) -> TimeDelta {
    let micros = (duration_sec * Decimal::from(1_000_000)).round();
    TimeDelta::microseconds(micros.try_into().unwrap_or_default())
}

fn micros(delta: TimeDelta) -> Decimal {
    Decimal::new(delta.num_microseconds().unwrap_or_default(), 6).normalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::given;

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();

    fn subject() -> Box<CallSubject> {
        Box::new(CallSubject {
            campaign_id: None,
            task_id: None,
            skillbase_id: None,
            skillbase_version: None,
            direction: Direction::Outbound,
            person_id: None,
            phone_number: "+12025550100".to_owned().into(),
        })
    }

    fn started() -> CallEvent {
        CallEvent::CallStarted { subject: subject(), started_at: NOW }
    }

    fn turn(turn_index: u32, text: &str) -> Turn {
        Turn { turn_index, user_text: Some(text.to_owned().into()), ..Turn::default() }
    }

    fn recorded(turn: Turn) -> CallEvent {
        CallEvent::TurnRecorded(Box::new(turn))
    }

    fn record(turns: impl IntoIterator<Item = Turn>) -> CallCommand {
        CallCommand::RecordTurns { turns: turns.into_iter().collect(), now: NOW }
    }

    fn end_after(seconds: i64) -> CallEnd {
        CallEnd {
            ended_at: NOW + TimeDelta::seconds(seconds),
            duration_sec: Decimal::from(seconds),
            final_state: None,
            hangup_by: None,
            outcome: None,
        }
    }

    #[test]
    fn a_dialed_call_is_filled_in_when_it_starts() {
        let mut more = subject();
        more.phone_number = "+12025550199".to_owned().into();
        let start = |subject| CallCommand::Start { subject, started_at: Some(NOW), now: NOW };
        given::<Call>([CallEvent::CallDialed(subject())])
            .when(start(more.clone()))
            .then([CallEvent::CallStarted { subject: more, started_at: NOW }]);
        given::<Call>([started()]).when(start(subject())).then_nothing();
        let mut inbound = subject();
        inbound.direction = Direction::Inbound;
        given::<Call>([started()]).when(start(inbound)).then_refused(CallRefusal::OtherSubject);
    }

    #[test]
    fn a_turn_sent_again_changes_nothing_and_a_different_one_is_refused() {
        given::<Call>([started()]).when(record([turn(0, "hi"), turn(0, "hi")])).then([recorded(turn(0, "hi"))]);
        given::<Call>([started(), recorded(turn(0, "hi"))]).when(record([turn(0, "hi")])).then_nothing();
        given::<Call>([started(), recorded(turn(0, "hi"))])
            .when(record([turn(1, "new"), turn(0, "ho")]))
            .then_refused(CallRefusal::TurnDiffers { position_in_request: 1, turn_index: 0 });
    }

    #[test]
    fn turns_come_up_to_a_day_after_the_end() {
        let ended = || [started(), CallEvent::CallEnded(end_after(10)), CallEvent::CallOutcomeClassified(UNCLASSIFIED)];
        let at = |hours| Turn { occurred_at: Some(NOW + TimeDelta::hours(hours)), ..turn(0, "hi") };
        given::<Call>(ended()).when(record([at(23)])).then([recorded(at(23))]);
        given::<Call>(ended()).when(record([at(25)])).then_refused(CallRefusal::TurnTooLate { position_in_request: 0 });
    }

    #[test]
    fn a_late_turn_can_change_the_outcome() {
        let ended = [started(), CallEvent::CallEnded(end_after(10)), CallEvent::CallOutcomeClassified(UNCLASSIFIED)];
        let told = Classification { outcome: Some(Outcome::Voicemail), confidence_percent: 50, method: OutcomeMethod::Keywords };
        given::<Call>(ended)
            .when(record([turn(0, "please leave a message")]))
            .then([recorded(turn(0, "please leave a message")), CallEvent::CallOutcomeClassified(told)]);
    }

    #[test]
    fn an_outcome_stands_once_the_texts_it_was_told_from_are_erased() {
        let told = Classification { outcome: Some(Outcome::Success), confidence_percent: 65, method: OutcomeMethod::Keywords };
        let ended =
            |text| [started(), recorded(turn(0, text)), CallEvent::CallEnded(end_after(10)), CallEvent::CallOutcomeClassified(told)];
        let late = || turn(1, "wrong number, remove me, stop calling");
        given::<Call>(ended(crate::ERASED)).when(record([late()])).then([recorded(late())]);
        let flipped = Classification { outcome: Some(Outcome::Fail), confidence_percent: 60, ..told };
        given::<Call>(ended("sounds good, see you then"))
            .when(record([late()]))
            .then([recorded(late()), CallEvent::CallOutcomeClassified(flipped)]);
    }

    #[test]
    fn the_duration_follows_from_start_and_end() {
        let request = EndRequest { ended_at: Some(NOW + TimeDelta::seconds(51)), ..EndRequest::default() };
        given::<Call>([started()])
            .when(CallCommand::End { request, now: NOW })
            .then([CallEvent::CallEnded(end_after(51)), CallEvent::CallOutcomeClassified(UNCLASSIFIED)]);
    }

    #[test]
    fn the_end_follows_from_start_and_duration() {
        let request = EndRequest { duration_sec: Some(Decimal::from(51)), ..EndRequest::default() };
        let later = NOW + TimeDelta::days(900);
        given::<Call>([started()])
            .when(CallCommand::End { request, now: later })
            .then([CallEvent::CallEnded(end_after(51)), CallEvent::CallOutcomeClassified(UNCLASSIFIED)]);
    }

    #[test]
    fn a_call_ends_once_and_not_before_its_start() {
        let request = EndRequest { ended_at: Some(NOW + TimeDelta::seconds(10)), ..EndRequest::default() };
        let ended = || [started(), CallEvent::CallEnded(end_after(10)), CallEvent::CallOutcomeClassified(UNCLASSIFIED)];
        given::<Call>(ended()).when(CallCommand::End { request: request.clone(), now: NOW }).then_nothing();
        let other = EndRequest { outcome: Some(Outcome::Busy), ..request };
        given::<Call>(ended()).when(CallCommand::End { request: other, now: NOW }).then_refused(CallRefusal::EndedAlready);
        let early = EndRequest { ended_at: Some(NOW - TimeDelta::seconds(1)), ..EndRequest::default() };
        given::<Call>([started()]).when(CallCommand::End { request: early, now: NOW }).then_refused(CallRefusal::EndsBeforeStart);
    }

    proptest! {
        /// Turns in any order, in any pieces and with repeats give the same state as in order and once.
        #[test]
        fn the_order_and_repetition_of_turns_do_not_matter(order in prop::collection::vec(0..12_u32, 0..60), size in 1..5_usize) {
            let said = ["hello", "sounds good", "not interested", "leave a message"];
            let of = |i: u32| turn(i, said[i as usize % said.len()]);
            let mut state = Call::fold(&[started()]);
            for piece in order.chunks(size) {
                let events = Call::decide(&state, record(piece.iter().map(|i| of(*i)))).unwrap();
                events.iter().for_each(|event| Call::evolve(&mut state, event));
            }
            let mut distinct = order;
            distinct.sort_unstable();
            distinct.dedup();
            let expected = Call::fold(&[started()].into_iter().chain(distinct.into_iter().map(|i| recorded(of(i)))).collect::<Vec<_>>());
            prop_assert_eq!(state, expected);
        }
    }
}
