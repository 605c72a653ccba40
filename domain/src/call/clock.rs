//! When a call started and ended, whichever of the two was reported first.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;

use super::DURATION_MAX_SEC;

/// How far a given `started_at` or `ended_at` may lie ahead of the server's clock, in minutes.
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

    /// Whether it is further ahead of the server's clock than a client's clock may be.
    pub(super) fn is_ahead_of(self, now: DateTime<Utc>) -> bool {
        self.at > latest_at(now)
    }
}

fn latest_at(now: DateTime<Utc>) -> DateTime<Utc> {
    now + TimeDelta::minutes(STARTED_AHEAD_MAX_MIN)
}

/// Why a start and an end do not belong to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// The client gave an end before the start that it gave.
    EndsBeforeStart,
    /// By the start and the duration that the client gave, the call ended after its end was reported.
    EndsAfterReport,
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
    /// The times that follow from a start and an end, in whichever order they arrived. What the client gave stands; what the
    /// server's clock made gives way to it:
    ///
    /// - an end that was not given is start + duration, where the duration was given;
    /// - a start that was not given and lies after the end moves back, by the duration before the end; so does one after which the
    ///   given duration is longer than the time until the end was reported;
    /// - an end that was not given and lies before the start moves to the start.
    ///
    /// A client's wrong clock must not become a bill: only a call whose start and end both come from the server's clock may last
    /// longer than [`DURATION_MAX_SEC`].
    pub(super) fn settle(start: Moment, end: Moment, duration_sec: Option<Decimal>) -> Result<Self, Contradiction> {
        let lasted = duration_sec.map_or(TimeDelta::zero(), delta);
        let ends_in_time = start.at + lasted <= latest_at(end.at);
        let (started_at, ended_at) = match (start.given, end.given) {
            (true, true) if start.at > end.at => return Err(Contradiction::EndsBeforeStart),
            (true, false) if !ends_in_time => return Err(Contradiction::EndsAfterReport),
            (true, false) if duration_sec.is_some() || start.at > end.at => (start.at, start.at + lasted),
            (false, false) if duration_sec.is_some() && start.at <= end.at && ends_in_time => (start.at, start.at + lasted),
            (false, false) if duration_sec.is_some() => (end.at - lasted, end.at),
            (false, _) if start.at > end.at => (end.at - lasted, end.at),
            _ => (start.at, end.at),
        };
        let duration_sec = duration_sec.unwrap_or_else(|| seconds(ended_at - started_at));
        if (start.given || end.given) && duration_sec > DURATION_MAX_SEC.into() {
            return Err(Contradiction::LastsTooLong);
        }
        Ok(Self { started_at, ended_at, duration_sec })
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
    fn a_call_does_not_end_long_after_its_end_was_reported() {
        let ahead = STARTED_AHEAD_MAX_MIN * 60;
        assert_eq!(settle(given(0), made(60), Some(60 + ahead)), Ok((0, 60 + ahead, 60 + ahead)));
        assert_eq!(settle(given(0), made(60), Some(61 + ahead)), Err(Contradiction::EndsAfterReport));
        assert_eq!(settle(given(ahead + 1), made(0), None), Err(Contradiction::EndsAfterReport));
        assert_eq!(settle(made(0), made(60), Some(60 + ahead)), Ok((0, 60 + ahead, 60 + ahead)));
        assert_eq!(settle(made(0), made(60), Some(61 + ahead)), Ok((-1 - ahead, 60, 61 + ahead)));
    }

    #[test]
    fn only_the_servers_clock_makes_a_call_longer_than_the_longest_duration() {
        let max = DURATION_MAX_SEC;
        assert_eq!(settle(made(0), made(max + 1), None), Ok((0, max + 1, max + 1)));
        for (start, end) in [(given(0), given(max + 1)), (given(0), made(max + 1)), (made(0), given(max + 1))] {
            assert_eq!(settle(start, end, None), Err(Contradiction::LastsTooLong), "{start:?} {end:?}");
            assert_eq!(settle(start, end, Some(5)).unwrap().2, 5, "{start:?} {end:?}");
        }
    }
}
