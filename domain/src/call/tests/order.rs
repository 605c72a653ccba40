//! Start, turns and end in any order, also with wrong clocks.

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use rust_decimal::Decimal;

use super::{super::*, at, record, recorded, started, subject, turn};

/// The state after the commands in this order, and the refusals; a refused command changes nothing.
fn play<'a>(commands: impl IntoIterator<Item = &'a CallCommand>) -> (Lifecycle<KnownCall>, Vec<CallRefusal>) {
    let mut state = Call::fold(&[CallEvent::CallDialed(subject())]);
    let mut refusals = Vec::new();
    for command in commands {
        match Call::decide(&state, command.clone()) {
            Ok(events) => events.iter().for_each(|event| Call::evolve(&mut state, event)),
            Err(refusal) => refusals.push(refusal),
        }
    }
    (state, refusals)
}

const DAY_SEC: i64 = 86_400;

/// Seconds after [`NOW`] that a client may give: near it, within weeks, or from a clock that is wrong by decades.
fn any_moment() -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(
        0.75,
        prop_oneof![3 => -600..600_i64, 1 => -30 * DAY_SEC..30 * DAY_SEC, 1 => -20_000 * DAY_SEC..20_000 * DAY_SEC],
    )
}

/// Seconds after [`NOW`] at which a command arrives.
fn any_arrival() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 0..900_i64, 0..30 * DAY_SEC]
}

/// Start, turns and end of a call.
fn any_commands() -> impl Strategy<Value = [CallCommand; 4]> {
    let duration_sec = prop::option::of(prop_oneof![0..400_i64, 0..=DURATION_MAX_SEC]);
    (any_moment(), any_moment(), duration_sec, any_arrival(), any_arrival()).prop_map(
        |(started_at, ended_at, duration_sec, starts, ends)| {
            // These turns are not too late for any end.
            let turn = |turn_index, text| Turn { occurred_at: Some(at(-40_000 * DAY_SEC)), ..turn(turn_index, text) };
            let request = EndRequest { ended_at: ended_at.map(at), duration_sec: duration_sec.map(Decimal::from), ..EndRequest::default() };
            [
                CallCommand::Start { subject: subject(), started_at: started_at.map(at), now: at(starts) },
                record([turn(0, "sounds good")]),
                record([turn(1, "wrong number"), turn(2, "stop calling")]),
                CallCommand::End { request, now: at(ends) },
            ]
        },
    )
}

/// What a client can send instead of a refused start or end.
fn corrections(state: &Lifecycle<KnownCall>) -> Vec<CallCommand> {
    let call = state.present().unwrap();
    let now = at(31 * DAY_SEC);
    let start = |started_at| CallCommand::Start { subject: subject(), started_at, now };
    let end = |ended_at, duration_sec| {
        let request = EndRequest { ended_at, duration_sec: Some(duration_sec), ..EndRequest::default() };
        CallCommand::End { request, now }
    };
    match (&call.started_at, &call.end) {
        (None, Some(known)) => {
            let lasted = TimeDelta::microseconds((known.duration_sec * Decimal::from(1_000_000)).try_into().unwrap());
            vec![start(None), start(Some(known.ended_at - lasted))]
        }
        (Some(at), None) => vec![end(None, Decimal::ZERO), end(Some(*at), Decimal::ZERO), end(Some(now), Decimal::from(60))],
        // Both were refused.
        _ => vec![start(None), end(None, Decimal::ZERO)],
    }
}

#[test]
fn the_commands_drawn_meet_every_refusal_of_times() {
    let mut runner = TestRunner::deterministic();
    let mut refused = Vec::new();
    for _ in 0..2_000 {
        let commands = any_commands().new_tree(&mut runner).unwrap().current();
        refused.extend(play(&commands).1.into_iter().chain(play(commands.iter().rev()).1));
    }
    for refusal in [
        CallRefusal::StartsInFuture,
        CallRefusal::StartsAfterEnd,
        CallRefusal::StartsTooEarly,
        CallRefusal::EndsBeforeStart,
        CallRefusal::EndsInFuture,
        CallRefusal::LastsTooLong,
    ] {
        assert!(refused.contains(&refusal), "{refusal:?}");
    }
}

proptest! {
    /// Turns in any order, in any batches and with repeats give the same state as turns that are sent once and in order.
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

    /// Start, turns and end give the same call in every order; a contradiction is refused in every order, and can be corrected.
    #[test]
    fn the_order_of_start_turns_and_end_does_not_matter(
        commands in any_commands(),
        order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
    ) {
        let (in_order, refusals) = play(&commands);
        let (shuffled, refusals_shuffled) = play(order.iter().map(|i| &commands[*i]));
        prop_assert_eq!(refusals.is_empty(), refusals_shuffled.is_empty(), "{:?} and {:?}", refusals, refusals_shuffled);
        if refusals.is_empty() {
            prop_assert_eq!(in_order, shuffled);
            return Ok(());
        }
        for correction in corrections(&shuffled) {
            let events = Call::decide(&shuffled, correction.clone());
            prop_assert!(events.as_ref().is_ok_and(|events| !events.is_empty()), "{:?} after {:?}: {:?}", correction, refusals_shuffled, events);
        }
    }
}
