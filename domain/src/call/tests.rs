//! The rules of calls: start, turns, end and outcome in any order.

use proptest::prelude::*;

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
}

#[test]
fn turns_come_up_to_a_day_after_the_end() {
    let ended = || [started(), CallEvent::CallEnded(end_after(10)), unclassified()];
    let at = |hours| Turn { occurred_at: Some(NOW + TimeDelta::hours(hours)), ..turn(0, "hi") };
    given::<Call>(ended()).when(record([at(23)])).then([recorded(at(23))]);
    given::<Call>(ended()).when(record([at(25)])).then_refused(CallRefusal::TurnTooLate { position_in_request: 0 });
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

/// An end in the next year is a wrong clock and no bill of a year.
#[test]
fn a_call_that_would_have_lasted_for_weeks_is_refused() {
    let weeks = 3 * 7 * 86_400;
    given::<Call>([started()]).when(end(Some(at(weeks)), None)).then_refused(CallRefusal::LastsTooLong);
    let ended = CallEnd { duration_sec: Decimal::from(60), duration_given: true, ..end_after(weeks) };
    given::<Call>([started()]).when(end(Some(at(weeks)), Some(60))).then([CallEvent::CallEnded(ended), unclassified()]);
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

/// The state after the commands in this order, and whether one was refused; a refused one changes nothing.
fn play<'a>(commands: impl IntoIterator<Item = &'a CallCommand>) -> (CallState, bool) {
    let mut state = Call::fold(&[CallEvent::CallDialed(subject())]);
    let mut is_refused = false;
    for command in commands {
        match Call::decide(&state, command.clone()) {
            Ok(events) => events.iter().for_each(|event| Call::evolve(&mut state, event)),
            Err(_) => is_refused = true,
        }
    }
    (state, is_refused)
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

    /// Start, turns and end give the same call in every order; what contradicts is refused in every order.
    #[test]
    fn the_order_of_start_turns_and_end_does_not_matter(
        started_at in prop::option::of(-600..300_i64),
        ended_at in prop::option::of(-600..600_i64),
        duration_sec in prop::option::of(0..400_i64),
        order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
    ) {
        let commands = [
            start(started_at.map(at)),
            record([turn(0, "sounds good")]),
            record([turn(1, "wrong number"), turn(2, "stop calling")]),
            end(ended_at.map(at), duration_sec),
        ];
        let (in_order, is_refused) = play(&commands);
        let (shuffled, shuffled_is_refused) = play(order.iter().map(|i| &commands[*i]));
        prop_assert_eq!(is_refused, shuffled_is_refused);
        if !is_refused {
            prop_assert_eq!(in_order, shuffled);
        }
    }
}
