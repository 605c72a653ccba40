//! When a campaign may call: between its start and end, at the allowed hours of the allowed days, in its own time zone.

use chrono::{DateTime, Datelike, NaiveTime, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// Hours of the day, `[start, end)`. A window whose end is before its start crosses midnight; equal ends mean all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyWindow {
    pub start: NaiveTime,
    pub end: NaiveTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
    pub daily: Option<DailyWindow>,
    /// ISO days, 1 = Monday to 7 = Sunday; `None` is every day.
    pub days_of_week: Option<Vec<u8>>,
    pub timezone: Tz,
}

impl Schedule {
    /// Whether calls may start at `now`. The local wall-clock time is decisive: a day with a clock change is one hour shorter or longer.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.start_time.is_none_or(|start| start <= now) && !self.is_over(now) && self.is_open_daily(now)
    }

    /// Whether the campaign's end time has passed.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.end_time.is_some_and(|end| end <= now)
    }

    fn is_open_daily(&self, now: DateTime<Utc>) -> bool {
        let local = now.with_timezone(&self.timezone).naive_local();
        let today = local.weekday();
        let yesterday = today.pred();
        match self.daily {
            Some(DailyWindow { start, end }) if start < end => self.is_allowed_day(today) && start <= local.time() && local.time() < end,
            Some(DailyWindow { start, end }) if end < start => {
                (self.is_allowed_day(today) && start <= local.time()) || (self.is_allowed_day(yesterday) && local.time() < end)
            }
            _ => self.is_allowed_day(today),
        }
    }

    fn is_allowed_day(&self, day: Weekday) -> bool {
        self.days_of_week.as_ref().is_none_or(|days| days.iter().any(|allowed| u32::from(*allowed) == day.number_from_monday()))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone};
    use chrono_tz::{America, Asia, Europe};
    use proptest::prelude::*;

    use super::*;

    fn schedule(daily: Option<(&str, &str)>, days: Option<&[u8]>, timezone: Tz) -> Schedule {
        let time = |s: &str| NaiveTime::parse_from_str(s, "%H:%M").unwrap();
        Schedule {
            start_time: None,
            end_time: None,
            daily: daily.map(|(start, end)| DailyWindow { start: time(start), end: time(end) }),
            days_of_week: days.map(<[u8]>::to_vec),
            timezone,
        }
    }

    fn at(timezone: Tz, text: &str) -> DateTime<Utc> {
        let local = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
        timezone.from_local_datetime(&local).earliest().unwrap().to_utc()
    }

    #[test]
    fn the_start_is_inside_and_the_end_is_outside() {
        let prague = Europe::Prague;
        let s = schedule(Some(("09:00", "17:30")), None, prague);
        assert!(!s.is_open(at(prague, "2026-11-20 08:59")));
        assert!(s.is_open(at(prague, "2026-11-20 09:00")));
        assert!(s.is_open(at(prague, "2026-11-20 17:29")));
        assert!(!s.is_open(at(prague, "2026-11-20 17:30")));
    }

    #[test]
    fn the_part_after_midnight_belongs_to_the_day_it_began_on() {
        let utc = Tz::UTC;
        let friday_night = schedule(Some(("22:00", "02:00")), Some(&[5]), utc);
        assert!(friday_night.is_open(at(utc, "2026-11-20 23:00")), "friday evening");
        assert!(friday_night.is_open(at(utc, "2026-11-21 01:59")), "saturday after midnight");
        assert!(!friday_night.is_open(at(utc, "2026-11-21 22:30")), "saturday evening");
        assert!(!friday_night.is_open(at(utc, "2026-11-20 01:00")), "friday after midnight began on thursday");
    }

    #[test]
    fn sunday_night_runs_into_monday() {
        let s = schedule(Some(("22:00", "02:00")), Some(&[7]), Tz::UTC);
        assert!(s.is_open(at(Tz::UTC, "2026-11-23 01:00")));
    }

    #[test]
    fn equal_start_and_end_is_all_day() {
        let s = schedule(Some(("08:00", "08:00")), Some(&[1]), Tz::UTC);
        assert!(s.is_open(at(Tz::UTC, "2026-11-23 00:00")) && s.is_open(at(Tz::UTC, "2026-11-23 23:59")));
        assert!(!s.is_open(at(Tz::UTC, "2026-11-24 00:00")));
    }

    #[test]
    fn a_skipped_hour_is_simply_not_there_and_a_repeated_one_counts_twice() {
        let new_york = America::New_York;
        let s = schedule(Some(("01:00", "03:00")), None, new_york);
        // On 2026-03-08 the clock goes from 02:00 to 03:00: one hour of the window is left.
        let open = |day: DateTime<Utc>| (0..1440).filter(|m| s.is_open(day + TimeDelta::minutes(*m))).count();
        assert_eq!(open(at(new_york, "2026-03-08 00:00")), 60);
        // On 2026-11-01 it goes from 02:00 back to 01:00: the hour from one to two occurs twice.
        assert_eq!(open(at(new_york, "2026-11-01 00:00")), 180);
        assert_eq!(open(at(new_york, "2026-11-10 00:00")), 120);
    }

    #[test]
    fn the_campaigns_start_and_end_bound_it() {
        let mut s = schedule(None, None, Asia::Kolkata);
        s.start_time = Some(at(Tz::UTC, "2026-11-20 10:00"));
        s.end_time = Some(at(Tz::UTC, "2026-11-20 12:00"));
        assert!(!s.is_open(at(Tz::UTC, "2026-11-20 09:59")));
        assert!(s.is_open(at(Tz::UTC, "2026-11-20 10:00")));
        assert!(!s.is_open(at(Tz::UTC, "2026-11-20 12:00")));
        assert!(s.is_over(at(Tz::UTC, "2026-11-20 12:00")));
    }

    proptest! {
        /// A window and its complement share the day: every moment is open in exactly one of the two.
        #[test]
        fn a_window_and_its_complement_divide_the_day(start in 0..1440_u32, end in 0..1440_u32, minute in 0..1_000_000_i64, zone in 0..chrono_tz::TZ_VARIANTS.len()) {
            prop_assume!(start != end);
            let time = |m: u32| NaiveTime::from_hms_opt(m / 60, m % 60, 0).unwrap();
            let of = |start, end| Schedule { daily: Some(DailyWindow { start: time(start), end: time(end) }), ..schedule(None, None, chrono_tz::TZ_VARIANTS[zone]) };
            let now = at(Tz::UTC, "2026-01-01 00:00") + TimeDelta::minutes(minute);
            prop_assert_ne!(of(start, end).is_open(now), of(end, start).is_open(now));
        }
    }
}
