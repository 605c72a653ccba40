//! What a campaign is configured to do.

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    phone,
    retry::{Backoff, RETRIES_MAX, RETRY_DELAY_MAX_MINUTES, RetryPolicy},
    schedule::{DailyWindow, Schedule},
    validation::{FieldFault, Invalid},
};

pub const CONCURRENT_CALLS_MAX: u32 = 10_000;
pub const CALLS_PER_MINUTE_MAX: u32 = 100_000;
/// Value of `dialed_by` for campaigns whose tasks external workers claim over the API.
pub const EXTERNAL: &str = "external";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignSettings {
    pub name: String,
    pub description: Option<String>,
    pub skillbase_id: Uuid,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
    #[serde(with = "hh_mm")]
    pub daily_start_time: Option<NaiveTime>,
    #[serde(with = "hh_mm")]
    pub daily_end_time: Option<NaiveTime>,
    pub timezone: Tz,
    /// ISO days, 1 = Monday; `None` is every day.
    pub days_of_week: Option<Vec<u8>>,
    pub max_concurrent_calls: u32,
    pub calls_per_minute: u32,
    pub max_retries: u32,
    pub retry_delay_minutes: u32,
    pub retry_backoff: Backoff,
    /// ISO country in which national numbers of the call list are read.
    pub default_region: Option<String>,
    /// [`EXTERNAL`], or the name of a provider the dialer has.
    pub dialed_by: String,
}

/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 5_000;

impl CampaignSettings {
    /// The defaults of the HTTP contract.
    pub fn new(name: String, skillbase_id: Uuid) -> Self {
        Self {
            name,
            description: None,
            skillbase_id,
            start_time: None,
            end_time: None,
            daily_start_time: None,
            daily_end_time: None,
            timezone: Tz::UTC,
            days_of_week: None,
            max_concurrent_calls: 5,
            calls_per_minute: 10,
            max_retries: 3,
            retry_delay_minutes: 30,
            retry_backoff: Backoff::Fixed,
            default_region: None,
            dialed_by: EXTERNAL.to_owned(),
        }
    }

    pub fn schedule(&self) -> Schedule {
        Schedule {
            start_time: self.start_time,
            end_time: self.end_time,
            daily: self.daily_start_time.zip(self.daily_end_time).map(|(start, end)| DailyWindow { start, end }),
            days_of_week: self.days_of_week.clone(),
            timezone: self.timezone,
        }
    }

    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy { max_retries: self.max_retries, retry_delay_minutes: self.retry_delay_minutes, retry_backoff: self.retry_backoff }
    }

    /// The first field that differs in `other` although it cannot change while the campaign runs.
    pub(super) fn fixed_field_that_differs(&self, other: &Self) -> Option<&'static str> {
        let Self {
            name: _,
            description: _,
            skillbase_id,
            start_time,
            end_time: _,
            daily_start_time,
            daily_end_time,
            timezone,
            days_of_week,
            max_concurrent_calls: _,
            calls_per_minute: _,
            max_retries,
            retry_delay_minutes,
            retry_backoff,
            default_region,
            dialed_by,
        } = other;
        let fixed = [
            ("skillbase_id", self.skillbase_id == *skillbase_id),
            ("start_time", self.start_time == *start_time),
            ("daily_start_time", self.daily_start_time == *daily_start_time),
            ("daily_end_time", self.daily_end_time == *daily_end_time),
            ("timezone", self.timezone == *timezone),
            ("days_of_week", self.days_of_week == *days_of_week),
            ("max_retries", self.max_retries == *max_retries),
            ("retry_delay_minutes", self.retry_delay_minutes == *retry_delay_minutes),
            ("retry_backoff", self.retry_backoff == *retry_backoff),
            ("default_region", self.default_region == *default_region),
            ("dialed_by", self.dialed_by == *dialed_by),
        ];
        fixed.into_iter().find(|(_, is_same)| !is_same).map(|(field, _)| field)
    }

    pub fn validate(&self, providers: &[&str]) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        invalid.name("name", &self.name, 200);
        if let Some(description) = &self.description {
            invalid.optional_text("description", description, DESCRIPTION_MAX);
        }
        if let (Some(start), Some(end)) = (self.start_time, self.end_time) {
            invalid.require(start < end, "end_time", FieldFault::NotAfter { field: "start_time".to_owned() });
        }
        match (self.daily_start_time, self.daily_end_time) {
            (Some(_), None) => invalid.add("daily_end_time", FieldFault::Required),
            (None, Some(_)) => invalid.add("daily_start_time", FieldFault::Required),
            _ => {}
        }
        for (i, day) in self.days_of_week.iter().flatten().enumerate() {
            invalid.range(&format!("days_of_week[{i}]"), *day, 1, 7);
            invalid.require(
                !self.days_of_week.iter().flatten().take(i).any(|d| d == day),
                &format!("days_of_week[{i}]"),
                FieldFault::Repeated,
            );
        }
        invalid.require(
            self.days_of_week.as_ref().is_none_or(|days| !days.is_empty()),
            "days_of_week",
            FieldFault::TooFewEntries { min: 1 },
        );
        invalid.range("max_concurrent_calls", self.max_concurrent_calls, 1, CONCURRENT_CALLS_MAX);
        invalid.range("calls_per_minute", self.calls_per_minute, 1, CALLS_PER_MINUTE_MAX);
        invalid.range("max_retries", self.max_retries, 1, RETRIES_MAX);
        invalid.range("retry_delay_minutes", self.retry_delay_minutes, 0, RETRY_DELAY_MAX_MINUTES);
        if let Some(region) = &self.default_region {
            invalid.require(phone::is_region(region), "default_region", FieldFault::NotACountry);
        }
        let allowed: Vec<_> = std::iter::once(&EXTERNAL).chain(providers).map(|name| (*name).to_owned()).collect();
        invalid.require(allowed.contains(&self.dialed_by), "dialed_by", FieldFault::NotOneOf { allowed });
        invalid.into_result()
    }
}

/// Times of day as `HH:MM`.
pub mod hh_mm {
    use chrono::NaiveTime;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(time: &Option<NaiveTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(&time.format("%H:%M")),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NaiveTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| parse(&text).ok_or_else(|| D::Error::custom("must be a time of day, HH:MM"))).transpose()
    }

    pub fn parse(text: &str) -> Option<NaiveTime> {
        let exact = text.len() == 5 && text.is_ascii();
        NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(change: impl FnOnce(&mut CampaignSettings)) -> Vec<String> {
        let mut settings = CampaignSettings::new("c".into(), Uuid::nil());
        change(&mut settings);
        settings.validate(&["simulator"]).err().map(|e| e.0.into_iter().map(|e| e.path).collect()).unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(errors(|_| ()).is_empty());
        assert!(errors(|s| s.dialed_by = "simulator".into()).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_path() {
        assert_eq!(errors(|s| s.name = String::new()), ["name"]);
        assert_eq!(errors(|s| s.daily_start_time = NaiveTime::from_hms_opt(9, 0, 0)), ["daily_end_time"]);
        assert_eq!(errors(|s| s.days_of_week = Some(vec![1, 8])), ["days_of_week[1]"]);
        assert_eq!(errors(|s| s.days_of_week = Some(vec![1, 1])), ["days_of_week[1]"]);
        assert_eq!(errors(|s| s.max_retries = 0), ["max_retries"]);
        assert_eq!(errors(|s| s.retry_delay_minutes = 43_201), ["retry_delay_minutes"]);
        assert_eq!(errors(|s| s.calls_per_minute = 0), ["calls_per_minute"]);
        assert_eq!(errors(|s| s.default_region = Some("XX".into())), ["default_region"]);
        assert_eq!(errors(|s| s.dialed_by = "nobody".into()), ["dialed_by"]);
    }
}
