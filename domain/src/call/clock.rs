//! When a call started and ended, whichever of the two was reported first.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

/// How far a given `started_at` may lie ahead of the server's clock, in minutes.
pub const STARTED_AHEAD_MAX_MIN: i64 = 5;

/// A moment that a client gave, or that the server's clock made because the client gave none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub at: DateTime<Utc>,
    pub given: bool,
}

impl Moment {
    pub(super) fn new(given: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        Self { at: given.unwrap_or(now), given: given.is_some() }
    }
}

/// Start, end and duration of a call that has both started and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallTimes {
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    /// Seconds.
    pub duration_sec: Decimal,
}

impl CallTimes {
    /// The times that follow from a start and an end, in whichever order they arrived; `None` when the client gave an end before
    /// the start that it gave. What the client gave stands; what the server's clock made gives way to it:
    ///
    /// - an end that was not given is start + duration, where the duration was given;
    /// - a start that was not given and lies after the end moves back, by the duration before the end;
    /// - an end that was not given and lies before the start moves to the start.
    pub(super) fn settle(start: Moment, end: Moment, duration_sec: Option<Decimal>) -> Option<Self> {
        let lasted = duration_sec.map_or(TimeDelta::zero(), delta);
        let (started_at, ended_at) = match (start.at <= end.at, start.given, end.given) {
            (true, _, false) if duration_sec.is_some() => (start.at, start.at + lasted),
            (true, ..) => (start.at, end.at),
            (false, true, true) => return None,
            (false, true, false) => (start.at, start.at + lasted),
            (false, false, _) => (end.at - lasted, end.at),
        };
        Some(Self { started_at, ended_at, duration_sec: duration_sec.unwrap_or_else(|| seconds(ended_at - started_at)) })
    }
}

/// What events from before it was stored count as.
pub(super) const fn given() -> bool {
    true
}

/// Whether to leave the field out of the stored event.
pub(super) const fn is_given(given: &bool) -> bool {
    *given
}

#[expect(clippy::expect_used, reason = "durations are bounded where they come in")]
fn delta(duration_sec: Decimal) -> TimeDelta {
    let micros = (duration_sec * Decimal::from(1_000_000)).round();
    TimeDelta::microseconds(micros.try_into().expect("a call lasts at most DURATION_MAX_SEC"))
}

#[expect(clippy::expect_used, reason = "times are bounded where they come in")]
fn seconds(delta: TimeDelta) -> Decimal {
    Decimal::new(delta.num_microseconds().expect("times from outside lie within three centuries"), 6).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();

    fn given(sec: i64) -> Moment {
        Moment { at: NOON + TimeDelta::seconds(sec), given: true }
    }

    fn made(sec: i64) -> Moment {
        Moment { given: false, ..given(sec) }
    }

    /// Start, end and duration in seconds after noon.
    fn settle(start: Moment, end: Moment, duration_sec: Option<i64>) -> Option<(i64, i64, i64)> {
        let times = CallTimes::settle(start, end, duration_sec.map(Decimal::from))?;
        let sec = |at: DateTime<Utc>| (at - NOON).num_seconds();
        Some((sec(times.started_at), sec(times.ended_at), times.duration_sec.try_into().unwrap()))
    }

    #[test]
    fn what_was_given_stands() {
        assert_eq!(settle(given(0), given(60), None), Some((0, 60, 60)));
        assert_eq!(settle(given(0), given(60), Some(50)), Some((0, 60, 50)));
        assert_eq!(settle(given(60), given(0), None), None);
        assert_eq!(settle(given(60), given(0), Some(10)), None);
    }

    #[test]
    fn an_end_that_was_not_given_follows_from_start_and_duration() {
        assert_eq!(settle(given(0), made(900), Some(50)), Some((0, 50, 50)));
        assert_eq!(settle(made(0), made(900), Some(50)), Some((0, 50, 50)));
        assert_eq!(settle(given(0), made(900), None), Some((0, 900, 900)));
    }

    #[test]
    fn a_start_that_was_not_given_moves_back_before_the_end() {
        assert_eq!(settle(made(0), given(-3), Some(2)), Some((-5, -3, 2)));
        assert_eq!(settle(made(0), given(-3), None), Some((-3, -3, 0)));
        assert_eq!(settle(made(0), made(-3), Some(2)), Some((-5, -3, 2)));
    }

    #[test]
    fn an_end_that_was_not_given_moves_to_a_start_ahead_of_the_servers_clock() {
        assert_eq!(settle(given(3), made(0), None), Some((3, 3, 0)));
        assert_eq!(settle(given(3), made(0), Some(2)), Some((3, 5, 2)));
    }
}
