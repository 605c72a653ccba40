//! When a campaign may call: between its start and end, at the allowed hours of the allowed days, in its own time zone.

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// Hours of the day, `[start, end)`. A window whose end is before its start crosses midnight; equal ends mean all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyWindow {
    pub start: NaiveTime,
    pub end: NaiveTime,
}

/// Within this number of days each day of the week occurs, even if a change of the clocks skips one.
const DAYS_TO_LOOK_AHEAD: usize = 16;
const QUARTER: TimeDelta = TimeDelta::minutes(15);

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

    /// The first moment from `now` on at which calls may start; `None` if there is none.
    pub fn next_opening(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = self.start_time.map_or(now, |start| start.max(now));
        if self.is_open(from) {
            return Some(from);
        }
        let today = from.with_timezone(&self.timezone).date_naive();
        let days = today.iter_days().take(DAYS_TO_LOOK_AHEAD);
        days.flat_map(|day| self.possible_openings(day)).filter(|opening| *opening >= from).find(|opening| self.is_open(*opening))
    }

    /// The moments of a day at which it may open, in order: when the window begins, or the day if all its hours are allowed; and on a day on
    /// which the clocks change, each quarter of an hour and the next midnight, because the window may begin with the change.
    fn possible_openings(&self, day: NaiveDate) -> Vec<DateTime<Utc>> {
        let begins = self.daily.filter(|daily| daily.start != daily.end).map_or(NaiveTime::MIN, |daily| daily.start);
        let local = |time: NaiveDateTime| self.timezone.from_local_datetime(&time).map(|moment| moment.to_utc());
        let midnight = |day: NaiveDate| first_moment(self.timezone, day.and_time(NaiveTime::MIN));
        let mut found: Vec<_> = match local(day.and_time(begins)) {
            LocalResult::Single(moment) => vec![moment],
            LocalResult::Ambiguous(first, second) => vec![first, second],
            LocalResult::None => vec![],
        };
        if let Some((begin, end)) = midnight(day).zip(day.succ_opt().and_then(midnight))
            && end - begin != TimeDelta::days(1)
        {
            found.extend(std::iter::successors(Some(begin), |moment| Some(*moment + QUARTER).filter(|next| *next <= end)));
            found.sort_unstable();
        }
        found
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

/// The moment at which the clocks of a zone show this time first. If they skip it, the moment after the change.
pub fn first_moment(timezone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    // Clocks skip whole quarters of an hour, a day at most (Samoa, 2011).
    let mut quarters = std::iter::successors(Some(local), |local| Some(*local + QUARTER)).take(97);
    quarters.find_map(|local| timezone.from_local_datetime(&local).earliest()).map(|moment| moment.to_utc())
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

    #[test]
    fn the_next_opening_is_told() {
        let utc = Tz::UTC;
        let office = schedule(Some(("09:00", "17:00")), Some(&[1, 2, 3, 4, 5]), utc);
        let opens = |s: &Schedule, now| s.next_opening(at(utc, now)).map(|at| at.format("%m-%d %H:%M").to_string());
        assert_eq!(opens(&office, "2026-11-20 10:00").as_deref(), Some("11-20 10:00"), "it is open");
        assert_eq!(opens(&office, "2026-11-20 08:00").as_deref(), Some("11-20 09:00"));
        assert_eq!(opens(&office, "2026-11-20 17:00").as_deref(), Some("11-23 09:00"), "after the weekend");
        let later = Schedule { start_time: Some(at(utc, "2026-12-05 12:00")), ..office.clone() };
        assert_eq!(opens(&later, "2026-11-20 10:00").as_deref(), Some("12-07 09:00"));
        let over = Schedule { end_time: Some(at(utc, "2026-11-23 09:00")), ..office };
        assert_eq!(opens(&over, "2026-11-20 17:00"), None);
        let night = schedule(Some(("22:00", "02:00")), Some(&[7]), utc);
        assert_eq!(opens(&night, "2026-11-23 02:00").as_deref(), Some("11-29 22:00"));
        let new_york = schedule(Some(("02:30", "05:00")), None, America::New_York);
        // On 2026-03-08 the clock goes from 02:00 to 03:00.
        assert_eq!(opens(&new_york, "2026-03-08 06:00").as_deref(), Some("03-08 07:00"));
        let nuuk = schedule(Some(("23:00", "00:01")), Some(&[6]), America::Nuuk);
        // On 2026-03-28 the clock goes from 23:00 to 00:00 of the next day.
        assert_eq!(opens(&nuuk, "2026-03-28 12:00").as_deref(), Some("03-29 01:00"));
        assert_eq!(opens(&schedule(None, Some(&[1]), utc), "2026-11-20 10:00").as_deref(), Some("11-23 00:00"));
    }

    proptest! {
        /// Minute by minute: it is closed until the next opening, and open then.
        #[test]
        fn nothing_is_open_before_the_next_opening(
            start in 0..1440_u32, end in 0..1440_u32, days in proptest::collection::btree_set(1..=7_u8, 1..=7), minute in 0..525_600_i64,
            zone in 0..chrono_tz::TZ_VARIANTS.len(),
        ) {
            let time = |m: u32| NaiveTime::from_hms_opt(m / 60, m % 60, 0).unwrap();
            let daily = Some(DailyWindow { start: time(start), end: time(end) });
            let days: Vec<u8> = days.into_iter().collect();
            let s = Schedule { daily, ..schedule(None, Some(&days), chrono_tz::TZ_VARIANTS[zone]) };
            let now = at(Tz::UTC, "2026-01-01 00:00") + TimeDelta::minutes(minute);
            let opening = s.next_opening(now).unwrap();
            prop_assert!(opening >= now && s.is_open(opening));
            let mut before = now;
            while before < opening {
                prop_assert!(!s.is_open(before), "{before} is before {opening}");
                before += TimeDelta::minutes(1);
            }
        }

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
