//! The types that all aggregates over calls share: which calls they cover, and how calls are grouped.

use chrono::{DateTime, DurationRound as _, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

/// What aggregates are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum GroupBy {
    Hour,
    Day,
    Campaign,
    Skillbase,
}

impl GroupBy {
    /// The group of a call: an hour, a day, an id, or nothing.
    pub fn key(self, started_at: DateTime<Utc>, campaign_id: Option<Uuid>, skillbase_id: Option<Uuid>, timezone: Tz) -> Option<String> {
        match self {
            Self::Hour | Self::Day => Some(self.format(started_at.with_timezone(&timezone))),
            Self::Campaign => campaign_id.map(|id| id.to_string()),
            Self::Skillbase => skillbase_id.map(|id| id.to_string()),
        }
    }

    fn format(self, local: DateTime<Tz>) -> String {
        match self {
            Self::Hour => {
                let whole = local.naive_local().duration_trunc(TimeDelta::hours(1)).unwrap_or(local.naive_local());
                let offset = local.offset().fix();
                offset.from_local_datetime(&whole).earliest().map_or_else(String::new, |hour| hour.to_rfc3339())
            }
            _ => local.format("%Y-%m-%d").to_string(),
        }
    }
}

/// A time in the past, for answers as of then: they follow from the events that were recorded until then.
#[derive(Clone, Copy, Debug)]
pub struct AsOf {
    pub moment: DateTime<Utc>,
    /// Position of the last event that was recorded until then.
    pub position: i64,
}

/// Which calls an aggregate covers; `from` and `to` bound `started_at`, half-open.
#[derive(Clone, Debug)]
pub struct Scope {
    pub company_id: Uuid,
    pub campaign_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    pub timezone: Tz,
}

/// Widest bounds that both PostgreSQL and chrono support.
const EARLIEST: DateTime<Utc> = DateTime::from_timestamp(-62_135_596_800, 0).unwrap();
const LATEST: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).unwrap();

impl Scope {
    pub(crate) fn bounds(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        (self.from.unwrap_or(EARLIEST), self.to.unwrap_or(LATEST))
    }

    /// The whole UTC hours inside the bounds, which rollups can answer; empty if a zone's hours are not UTC's and the groups depend on
    /// them.
    pub(crate) fn whole_hours(&self, groups_by_time: bool) -> (DateTime<Utc>, DateTime<Utc>) {
        let (from, to) = self.bounds();
        let hour = TimeDelta::hours(1);
        let start = from.duration_trunc(hour).map_or(from, |floor| if floor < from { floor + hour } else { floor });
        let end = to.duration_trunc(hour).unwrap_or(to);
        let odd_zone = has_odd_hours(self.timezone, from.max(DateTime::UNIX_EPOCH), to.min(Utc::now()));
        if start >= end || (groups_by_time && odd_zone) { (to, to) } else { (start, end) }
    }
}

/// Whether a zone's hours begin at other times than UTC's at any moment between two moments. No zone has an offset for less than a week.
fn has_odd_hours(zone: chrono_tz::Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
    let is_odd = |at: DateTime<Utc>| at.with_timezone(&zone).offset().fix().local_minus_utc() % 3600 != 0;
    let mut weeks = std::iter::successors(Some(from), |at| Some(*at + TimeDelta::weeks(1))).take_while(|at| *at < to);
    weeks.any(is_odd) || is_odd(to)
}

#[cfg(test)]
mod tests {
    use chrono_tz::{Asia, Australia, Europe};

    use super::*;

    #[test]
    fn a_zone_that_is_odd_in_winter_only_is_odd_over_a_year() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        // From one summer to the next; in between, the offset differs by 30 minutes.
        assert!(has_odd_hours(Australia::Lord_Howe, at("2025-12-01T00:00:00Z"), at("2026-12-01T00:00:00Z")));
        assert!(!has_odd_hours(Australia::Lord_Howe, at("2025-12-01T00:00:00Z"), at("2026-01-01T00:00:00Z")));
        assert!(has_odd_hours(Asia::Kolkata, at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:00Z")));
        assert!(!has_odd_hours(Europe::Prague, at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")));
    }
}
