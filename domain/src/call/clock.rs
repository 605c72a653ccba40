//! When a call started and ended. Start and end can be reported in any order.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::DURATION_MAX_SEC;

/// Longest time that a given `started_at` may be ahead of the server's clock, in minutes.
pub const STARTED_AHEAD_MAX_MIN: i64 = 5;

/// A time that the client gave, or that the server's clock set because the client gave none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub at: DateTime<Utc>,
    pub given: bool,
}

impl Moment {
    pub(super) fn new(given: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        Self { at: given.unwrap_or(now), given: given.is_some() }
    }

    /// Whether this time is later than `now` by more than `max`.
    pub(super) fn is_ahead_of(self, now: DateTime<Utc>, max: TimeDelta) -> bool {
        self.at > now + max
    }
}

/// Why a start and an end contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// The client gave both times, and the end is before the start.
    EndsBeforeStart,
    /// The time from start to end is longer than [`DURATION_MAX_SEC`].
    LastsTooLong,
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
    /// Computes the times from a start and an end, in whichever order they arrived. A time that the client gave stays; a time that the
    /// server's clock set is adjusted to it:
    ///
    /// - an end that was not given is start + duration, if the duration was given;
    /// - a start that was not given and is after the end is set to the end minus the duration;
    /// - an end that was not given and is before the start is set to the start.
    ///
    /// A client's wrong clock must not increase a bill: if the client gave the end, the call lasts at most [`DURATION_MAX_SEC`]. A call
    /// that a client ends without a time has lasted until now, however long ago it started.
    pub(super) fn settle(start: Moment, end: Moment, duration_sec: Option<Decimal>) -> Result<Self, Contradiction> {
        let lasted = duration_sec.map_or(TimeDelta::zero(), delta);
        let (started_at, ended_at) = match (start.at <= end.at, start.given, end.given) {
            (true, _, false) if duration_sec.is_some() => (start.at, start.at + lasted),
            (true, ..) => (start.at, end.at),
            (false, true, true) => return Err(Contradiction::EndsBeforeStart),
            (false, true, false) => (start.at, start.at + lasted),
            (false, false, _) => (end.at - lasted, end.at),
        };
        let duration_sec = duration_sec.unwrap_or_else(|| seconds(ended_at - started_at));
        if end.given && duration_sec > DURATION_MAX_SEC.into() {
            return Err(Contradiction::LastsTooLong);
        }
        Ok(Self { started_at, ended_at, duration_sec })
    }
}

/// The value for events that were stored before this field existed.
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
    fn settle(start: Moment, end: Moment, duration_sec: Option<i64>) -> Result<(i64, i64, i64), Contradiction> {
        let times = CallTimes::settle(start, end, duration_sec.map(Decimal::from))?;
        let sec = |at: DateTime<Utc>| (at - NOON).num_seconds();
        Ok((sec(times.started_at), sec(times.ended_at), times.duration_sec.try_into().unwrap()))
    }

    #[test]
    fn what_was_given_stands() {
        assert_eq!(settle(given(0), given(60), None), Ok((0, 60, 60)));
        assert_eq!(settle(given(0), given(60), Some(50)), Ok((0, 60, 50)));
        assert_eq!(settle(given(60), given(0), None), Err(Contradiction::EndsBeforeStart));
        assert_eq!(settle(given(60), given(0), Some(10)), Err(Contradiction::EndsBeforeStart));
    }

    #[test]
    fn an_end_that_was_not_given_follows_from_start_and_duration() {
        assert_eq!(settle(given(0), made(900), Some(50)), Ok((0, 50, 50)));
        assert_eq!(settle(made(0), made(900), Some(50)), Ok((0, 50, 50)));
        assert_eq!(settle(given(0), made(900), None), Ok((0, 900, 900)));
    }

    #[test]
    fn a_start_that_was_not_given_moves_back_before_the_end() {
        assert_eq!(settle(made(0), given(-3), Some(2)), Ok((-5, -3, 2)));
        assert_eq!(settle(made(0), given(-3), None), Ok((-3, -3, 0)));
        assert_eq!(settle(made(0), made(-3), Some(2)), Ok((-5, -3, 2)));
    }

    #[test]
    fn an_end_that_was_not_given_moves_to_a_start_ahead_of_the_servers_clock() {
        assert_eq!(settle(given(3), made(0), None), Ok((3, 3, 0)));
        assert_eq!(settle(given(3), made(0), Some(2)), Ok((3, 5, 2)));
    }

    #[test]
    fn up_to_a_given_end_a_call_lasts_no_longer_than_the_longest_duration() {
        let max = DURATION_MAX_SEC;
        for start in [given(0), made(0)] {
            assert_eq!(settle(start, given(max + 1), None), Err(Contradiction::LastsTooLong), "{start:?}");
            assert_eq!(settle(start, given(max + 1), Some(5)).unwrap().2, 5, "{start:?}");
            assert_eq!(settle(start, made(max + 1), None), Ok((0, max + 1, max + 1)), "{start:?}");
        }
    }
}
