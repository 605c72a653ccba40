//! Times as people write them.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;
use domain::schedule::first_moment;
use serde::{Deserialize, Deserializer, de::Error as _};

/// A time with its zone (RFC 3339), or a date. A date means the beginning of that day, in the zone of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenTime {
    Time(DateTime<Utc>),
    Day(NaiveDate),
}

impl WrittenTime {
    pub fn parse(text: &str) -> Option<Self> {
        // The parser for dates takes years of more than four digits.
        if text.len() == 10
            && text.starts_with(|first: char| first.is_ascii_digit())
            && let Ok(day) = text.parse()
        {
            return Some(Self::Day(day));
        }
        text.parse().ok().map(Self::Time)
    }

    pub fn in_zone(self, timezone: Tz) -> DateTime<Utc> {
        match self {
            Self::Time(time) => time,
            Self::Day(day) => {
                let midnight = day.and_time(NaiveTime::MIN);
                first_moment(timezone, midnight).unwrap_or_else(|| midnight.and_utc())
            }
        }
    }
}

impl<'de> Deserialize<'de> for WrittenTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            // In a query, a plus stands for a blank.
            D::Error::custom(if Self::parse(&text.replace(' ', "+")).is_some() {
                "the + of a zone must be written as %2B in a query"
            } else {
                "must be a time with its zone, as 2026-11-20T09:30:00Z or 2026-11-20T09:30:00+01:00, or a date, as 2026-11-20"
            })
        };
        Self::parse(&text).ok_or_else(wrong)
    }
}

/// For `#[serde(default, deserialize_with = "moment")]`: a time with its zone, or none.
pub fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let wrong = |_| D::Error::custom("must be a time with its zone, as 2026-11-20T09:30:00Z or 2026-11-20T09:30:00+01:00");
    text.map(|text| text.parse().map_err(wrong)).transpose()
}

#[cfg(test)]
mod tests {
    use chrono_tz::{Africa, Europe};

    use super::*;

    fn read(text: &str, timezone: Tz) -> Option<String> {
        WrittenTime::parse(text).map(|time| time.in_zone(timezone).to_rfc3339())
    }

    #[test]
    fn a_date_is_the_beginning_of_its_day_in_the_zone() {
        assert_eq!(read("2026-11-20", Tz::UTC).as_deref(), Some("2026-11-20T00:00:00+00:00"));
        assert_eq!(read("2026-11-20", Europe::Prague).as_deref(), Some("2026-11-19T23:00:00+00:00"));
        // On 2023-04-28 the clocks of Egypt went from 0:00 to 1:00.
        assert_eq!(read("2023-04-28", Africa::Cairo).as_deref(), Some("2023-04-27T22:00:00+00:00"));
        assert_eq!(read("2026-11-20T09:30:00+01:00", Europe::Prague).as_deref(), Some("2026-11-20T08:30:00+00:00"));
    }

    #[test]
    fn a_time_without_its_zone_is_refused() {
        for text in ["2026-11-20T09:30:00", "2026-11-20 09:30", "20.11.2026", "2026-13-01", "soon", "", "+12026-1-1"] {
            assert_eq!(read(text, Tz::UTC), None, "{text}");
        }
    }
}
