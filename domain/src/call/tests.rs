//! The rules of calls: start, turns, end and outcome in any order.

mod order;

use rust_decimal::Decimal;

use super::*;
use crate::{
    outcome::{Outcome, OutcomeMethod, UNCLASSIFIED},
    testing::given,
};

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
    started_at(0, true)
}

/// A start `sec` seconds after [`NOW`].
fn started_at(sec: i64, given: bool) -> CallEvent {
    CallEvent::CallStarted { subject: subject(), started_at: at(sec), started_at_given: given }
}

fn at(sec: i64) -> DateTime<Utc> {
    NOW + TimeDelta::seconds(sec)
}

fn start(started_at: Option<DateTime<Utc>>) -> CallCommand {
    CallCommand::Start { subject: subject(), started_at, now: NOW }
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

/// An end whose `ended_at` was given.
fn end_after(sec: i64) -> CallEnd {
    CallEnd {
        ended_at: at(sec),
        ended_at_given: true,
        duration_sec: Decimal::from(sec),
        duration_given: false,
        final_state: None,
        hangup_by: None,
        outcome: None,
    }
}

fn end(ended_at: Option<DateTime<Utc>>, duration_sec: Option<i64>) -> CallCommand {
    let request = EndRequest { ended_at, duration_sec: duration_sec.map(Decimal::from), ..EndRequest::default() };
    CallCommand::End { request, now: NOW }
}

fn unclassified() -> CallEvent {
    CallEvent::CallOutcomeClassified(UNCLASSIFIED)
}

fn of_task(phone_number: &str) -> Box<CallSubject> {
    Box::new(CallSubject { task_id: Some(Uuid::nil()), phone_number: phone_number.to_owned().into(), ..*subject() })
}

#[test]
fn a_dialed_call_is_filled_in_when_it_starts() {
    let more = Box::new(CallSubject { skillbase_id: Some(Uuid::nil()), ..*subject() });
    let start = |subject| CallCommand::Start { subject, started_at: Some(NOW), now: NOW };
    given::<Call>([CallEvent::CallDialed(subject())]).when(start(more.clone())).then([CallEvent::CallStarted {
        subject: more,
        started_at: NOW,
        started_at_given: true,
    }]);
    given::<Call>([started()]).when(start(subject())).then_nothing();
    let mut inbound = subject();
    inbound.direction = Direction::Inbound;
    given::<Call>([started()]).when(start(inbound)).then_refused(CallRefusal::OtherSubject);
}

#[test]
fn a_call_of_a_task_is_with_the_tasks_number() {
    let start = |phone_number| CallCommand::Start { subject: of_task(phone_number), started_at: None, now: NOW };
    let dialed = |phone_number| CallEvent::CallDialed(of_task(phone_number));
    given::<Call>([dialed("+12025550100")]).when(start("+12025550199")).then_refused(CallRefusal::OtherNumber);
    let subject = of_task("+12025550199");
    let started = CallEvent::CallStarted { subject, started_at: NOW, started_at_given: false };
    given::<Call>([dialed(ERASED)]).when(start("+12025550199")).then([started]);
}

#[test]
fn a_start_far_ahead_of_the_servers_clock_is_refused() {
    let ahead = STARTED_AHEAD_MAX_MIN * 60;
    given::<Call>([]).when(start(Some(at(ahead)))).then([started_at(ahead, true)]);
    given::<Call>([]).when(start(Some(at(ahead + 1)))).then_refused(CallRefusal::StartsInFuture);
    let dialed = CallEvent::CallDialed(subject());
    given::<Call>([dialed]).when(start(Some(at(ahead + 1)))).then_refused(CallRefusal::StartsInFuture);
}

#[test]
fn a_turn_sent_again_changes_nothing_and_a_different_one_is_refused() {
    given::<Call>([started()]).when(record([turn(0, "hi"), turn(0, "hi")])).then([recorded(turn(0, "hi"))]);
    given::<Call>([started(), recorded(turn(0, "hi"))]).when(record([turn(0, "hi")])).then_nothing();
    given::<Call>([started(), recorded(turn(0, "hi"))])
        .when(record([turn(1, "new"), turn(0, "ho")]))
        .then_refused(CallRefusal::TurnDiffers { position_in_request: 1, turn_index: 0 });
    given::<Call>([started()])
        .when(record([turn(0, "hi"), turn(0, "ho")]))
        .then_refused(CallRefusal::TurnTwice { position_in_request: 1, turn_index: 0 });
}

#[test]
fn turns_come_up_to_a_day_after_the_end() {
    let ended = || [started(), CallEvent::CallEnded(end_after(10)), unclassified()];
    let at = |hours| Turn { occurred_at: Some(NOW + TimeDelta::hours(hours)), ..turn(0, "hi") };
    let record_at = |hours| CallCommand::RecordTurns { turns: vec![at(hours)], now: NOW + TimeDelta::hours(hours) };
    given::<Call>(ended()).when(record_at(23)).then([recorded(at(23))]);
    given::<Call>(ended()).when(record_at(25)).then_refused(CallRefusal::TurnTooLate { position_in_request: 0 });
}

#[test]
fn a_turn_does_not_come_from_the_future() {
    let at = |seconds| Turn { occurred_at: Some(NOW + TimeDelta::seconds(seconds)), ..turn(0, "hi") };
    let ahead = STARTED_AHEAD_MAX_MIN * 60;
    given::<Call>([started()]).when(record([at(ahead)])).then([recorded(at(ahead))]);
    given::<Call>([started()]).when(record([at(ahead + 1)])).then_refused(CallRefusal::TurnInFuture { position_in_request: 0 });
}

#[test]
fn a_late_turn_can_change_the_outcome() {
    let ended = [started(), CallEvent::CallEnded(end_after(10)), unclassified()];
    let told = Classification { outcome: Some(Outcome::Voicemail), confidence_percent: 50, method: OutcomeMethod::Keywords };
    given::<Call>(ended)
        .when(record([turn(0, "please leave a message")]))
        .then([recorded(turn(0, "please leave a message")), CallEvent::CallOutcomeClassified(told)]);
}

#[test]
fn an_outcome_stands_once_the_texts_it_was_told_from_are_erased() {
    let told = Classification { outcome: Some(Outcome::Success), confidence_percent: 65, method: OutcomeMethod::Keywords };
    let ended = |text| [started(), recorded(turn(0, text)), CallEvent::CallEnded(end_after(10)), CallEvent::CallOutcomeClassified(told)];
    let late = || turn(1, "wrong number, remove me, stop calling");
    given::<Call>(ended(ERASED)).when(record([late()])).then([recorded(late())]);
    let flipped = Classification { outcome: Some(Outcome::Fail), confidence_percent: 60, ..told };
    given::<Call>(ended("sounds good, see you then"))
        .when(record([late()]))
        .then([recorded(late()), CallEvent::CallOutcomeClassified(flipped)]);
}

#[test]
fn no_outcome_is_told_from_the_rest_of_an_erased_conversation() {
    let erased = || given::<Call>([started(), recorded(turn(0, ERASED)), recorded(turn(1, "wrong number"))]);
    erased().when(end(Some(at(10)), None)).then([CallEvent::CallEnded(end_after(10)), unclassified()]);
    let request = EndRequest { ended_at: Some(at(10)), final_state: Some("booked".to_owned()), ..EndRequest::default() };
    let ended = CallEnd { final_state: request.final_state.clone(), ..end_after(10) };
    let told = Classification { outcome: Some(Outcome::Success), confidence_percent: 90, method: OutcomeMethod::State };
    erased().when(CallCommand::End { request, now: NOW }).then([CallEvent::CallEnded(ended), CallEvent::CallOutcomeClassified(told)]);
}

#[test]
fn the_duration_follows_from_start_and_end() {
    given::<Call>([started()]).when(end(Some(at(51)), None)).then([CallEvent::CallEnded(end_after(51)), unclassified()]);
}

#[test]
fn the_end_follows_from_start_and_duration() {
    let request = EndRequest { duration_sec: Some(Decimal::from(51)), ..EndRequest::default() };
    let later = NOW + TimeDelta::days(900);
    let ended = CallEnd { ended_at_given: false, duration_given: true, ..end_after(51) };
    given::<Call>([started()]).when(CallCommand::End { request, now: later }).then([CallEvent::CallEnded(ended), unclassified()]);
}

#[test]
fn an_end_before_a_given_start_is_refused_on_the_one_that_arrives_second() {
    given::<Call>([started()]).when(end(Some(at(-1)), None)).then_refused(CallRefusal::EndsBeforeStart);
    let ended = [CallEvent::CallDialed(subject()), CallEvent::CallEnded(end_after(10)), unclassified()];
    given::<Call>(ended).when(start(Some(at(11)))).then_refused(CallRefusal::StartsAfterEnd);
}

/// A claimed call whose end arrived before its start.
fn dialed_and_ended(end: CallEnd) -> [CallEvent; 3] {
    [CallEvent::CallDialed(subject()), CallEvent::CallEnded(end), unclassified()]
}

#[test]
fn an_end_far_ahead_of_the_servers_clock_is_refused_with_and_without_a_start() {
    let ahead = DURATION_MAX_SEC;
    for known in [CallEvent::CallDialed(subject()), started(), started_at(0, false)] {
        for ended_at in [at(ahead + 1), at(20 * 365 * 86_400)] {
            given::<Call>([known.clone()]).when(end(Some(ended_at), None)).then_refused(CallRefusal::EndsInFuture);
            given::<Call>([known.clone()]).when(end(Some(ended_at), Some(5))).then_refused(CallRefusal::EndsInFuture);
        }
    }
    given::<Call>([started()]).when(end(Some(at(ahead)), None)).then([CallEvent::CallEnded(end_after(ahead)), unclassified()]);
}

#[test]
fn a_call_that_is_reported_at_once_lasts_as_long_as_was_given() {
    let lasted = |ended_at: i64| {
        CallEvent::CallEnded(CallEnd {
            ended_at_given: false,
            duration_sec: Decimal::from(600),
            duration_given: true,
            ..end_after(ended_at)
        })
    };
    given::<Call>([started()]).when(end(None, Some(600))).then([lasted(600), unclassified()]);
    given::<Call>([started_at(0, false)]).when(end(None, Some(600))).then([lasted(600), unclassified()]);
}

#[test]
fn a_call_that_would_have_lasted_for_weeks_until_a_given_end_is_refused_in_either_order() {
    let weeks = 3 * 7 * 86_400;
    for is_given in [true, false] {
        given::<Call>([started_at(-weeks, is_given)]).when(end(Some(NOW), None)).then_refused(CallRefusal::LastsTooLong);
    }
    given::<Call>(dialed_and_ended(end_after(0))).when(start(Some(at(-weeks)))).then_refused(CallRefusal::StartsTooEarly);
    // A client that cannot compute the end gives the duration.
    let ended = CallEnd { ended_at_given: false, duration_sec: Decimal::from(60), duration_given: true, ..end_after(60 - weeks) };
    given::<Call>([started_at(-weeks, true)]).when(end(None, Some(60))).then([CallEvent::CallEnded(ended), unclassified()]);
    let ended = CallEnd { duration_sec: Decimal::from(60), duration_given: true, ..end_after(0) };
    given::<Call>([started_at(-weeks, true)]).when(end(Some(NOW), Some(60))).then([CallEvent::CallEnded(ended), unclassified()]);
}

#[test]
fn a_call_that_ends_without_a_time_has_lasted_until_now() {
    let weeks = 3 * 7 * 86_400;
    let ended = CallEnd { ended_at_given: false, duration_sec: Decimal::from(weeks), ..end_after(0) };
    for is_given in [true, false] {
        given::<Call>([started_at(-weeks, is_given)]).when(end(None, None)).then([CallEvent::CallEnded(ended.clone()), unclassified()]);
    }
}

#[test]
fn a_call_of_years_ago_can_be_filled_in() {
    let years = 20 * 365 * 86_400;
    let ended = || CallEvent::CallEnded(CallEnd { duration_sec: Decimal::from(60), ..end_after(60 - years) });
    given::<Call>([started_at(-years, true)]).when(end(Some(at(60 - years)), None)).then([ended(), unclassified()]);
    let zero = CallEnd { duration_sec: Decimal::ZERO, ..end_after(60 - years) };
    given::<Call>(dialed_and_ended(zero)).when(start(Some(at(-years)))).then([started_at(-years, true), ended()]);
}

#[test]
fn an_end_before_a_start_of_the_servers_clock_moves_the_start() {
    let ended = |duration_sec: i64, duration_given| {
        CallEvent::CallEnded(CallEnd { duration_sec: Decimal::from(duration_sec), duration_given, ..end_after(-3) })
    };
    given::<Call>([started_at(0, false)]).when(end(Some(at(-3)), Some(2))).then([started_at(-5, false), ended(2, true), unclassified()]);
    given::<Call>([started_at(0, false)]).when(end(Some(at(-3)), None)).then([started_at(-3, false), ended(0, false), unclassified()]);
}

#[test]
fn an_end_that_arrived_first_gets_its_duration_from_the_start() {
    let dialed = CallEvent::CallDialed(subject());
    given::<Call>([dialed.clone()])
        .when(end(Some(at(60)), None))
        .then([CallEvent::CallEnded(CallEnd { duration_sec: Decimal::ZERO, ..end_after(60) }), unclassified()]);
    let ended = |duration_given| {
        let end = CallEnd { duration_sec: Decimal::ZERO, duration_given, ..end_after(60) };
        [dialed.clone(), CallEvent::CallEnded(end), unclassified()]
    };
    given::<Call>(ended(false)).when(start(Some(NOW))).then([started(), CallEvent::CallEnded(end_after(60))]);
    given::<Call>(ended(true)).when(start(Some(NOW))).then([started()]);
}

#[test]
fn the_texts_of_a_call_are_bounded_together() {
    let most = "x".repeat(CALL_TEXT_MAX_BYTES);
    given::<Call>([started()]).when(record([turn(0, &most)])).then([recorded(turn(0, &most))]);
    given::<Call>([started(), recorded(turn(0, &most))])
        .when(record([turn(0, &most), turn(1, ""), turn(2, "a")]))
        .then_refused(CallRefusal::TooMuchText { position_in_request: 2 });
}

#[test]
fn the_providers_of_a_call_are_bounded_together() {
    let by = |index: u32, provider: usize| Turn {
        llm_provider: Some(format!("provider {provider}")),
        llm_input_tokens: Some(1),
        llm_output_tokens: Some(1),
        ..turn(index, "")
    };
    // Each names a provider for two components.
    let most: Vec<_> = (0..PROVIDERS_MAX as u32 / 2).map(|index| by(index, index as usize)).collect();
    let known: Vec<_> = [started()].into_iter().chain(most.iter().cloned().map(recorded)).collect();
    given::<Call>([started()]).when(record(most.clone())).then(known[1..].to_vec());
    given::<Call>(known.clone()).when(record([by(100, 0)])).then([recorded(by(100, 0))]);
    given::<Call>(known).when(record([by(100, 0), by(101, 99)])).then_refused(CallRefusal::TooManyProviders { position_in_request: 1 });
}

#[test]
fn a_call_ends_once() {
    let request = EndRequest {
        ended_at: Some(at(10)),
        final_state: Some("bye".to_owned()),
        hangup_by: Some("agent".to_owned()),
        outcome: Some(Outcome::Success),
        ..EndRequest::default()
    };
    let end = CallEnd {
        final_state: request.final_state.clone(),
        hangup_by: request.hangup_by.clone(),
        outcome: request.outcome,
        ..end_after(10)
    };
    let ended = || [started(), CallEvent::CallEnded(end.clone())];
    let again = |request| given::<Call>(ended()).when(CallCommand::End { request, now: NOW });
    again(request.clone()).then_nothing();
    for without in [
        EndRequest { ended_at: None, ..request.clone() },
        EndRequest { final_state: None, ..request.clone() },
        EndRequest { hangup_by: None, ..request.clone() },
        EndRequest { outcome: None, ..request.clone() },
        EndRequest::default(),
    ] {
        again(without).then_nothing();
    }
    again(EndRequest { outcome: Some(Outcome::Busy), ..request.clone() }).then_refused(CallRefusal::EndedAlready);
    again(EndRequest { final_state: Some("other".to_owned()), ..request.clone() }).then_refused(CallRefusal::EndedAlready);
    again(EndRequest { duration_sec: Some(Decimal::ONE), ..request }).then_refused(CallRefusal::EndedAlready);
}

#[test]
fn events_from_before_it_was_stored_what_was_given_count_as_given() {
    let end: CallEnd = serde_json::from_value(serde_json::json!({"ended_at": NOW, "duration_sec": "0"})).unwrap();
    assert!(end.ended_at_given && end.duration_given);
    let started = serde_json::to_value(started()).unwrap();
    assert_eq!(started["CallStarted"].get("started_at_given"), None);
    assert_eq!(serde_json::from_value::<CallEvent>(started).unwrap(), self::started());
}
