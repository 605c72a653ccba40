//! When a failed attempt is retried.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Longest wait between two attempts, in minutes (30 days): doubling stops here.
pub const RETRY_DELAY_MAX_MINUTES: u32 = 43_200;
/// Most attempts a task can get.
pub const RETRIES_MAX: u32 = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Backoff {
    /// Every wait is `retry_delay_minutes`.
    #[default]
    Fixed,
    /// The wait doubles with each further attempt: 30, 60, 120 minutes.
    Exponential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub max_retries: u32,
    pub retry_delay_minutes: u32,
    pub retry_backoff: Backoff,
}

impl RetryPolicy {
    /// When the task is due again after its `attempt_count`th attempt failed at `now`; `None` after the last attempt.
    pub fn next_attempt_at(&self, attempt_count: u32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if attempt_count >= self.max_retries {
            return None;
        }
        let factor = match self.retry_backoff {
            Backoff::Fixed => 1,
            Backoff::Exponential => 1_u32.checked_shl(attempt_count.saturating_sub(1)).unwrap_or(u32::MAX),
        };
        let minutes = self.retry_delay_minutes.saturating_mul(factor).min(RETRY_DELAY_MAX_MINUTES);
        Some(now + TimeDelta::minutes(i64::from(minutes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();

    fn waits(policy: RetryPolicy) -> Vec<i64> {
        (1..).map_while(|attempt| policy.next_attempt_at(attempt, NOW)).map(|at| (at - NOW).num_minutes()).collect()
    }

    #[test]
    fn three_attempts_wait_twice() {
        let fixed = RetryPolicy { max_retries: 3, retry_delay_minutes: 30, retry_backoff: Backoff::Fixed };
        assert_eq!(waits(fixed), [30, 30]);
    }

    #[test]
    fn exponential_waits_double() {
        let policy = RetryPolicy { max_retries: 5, retry_delay_minutes: 30, retry_backoff: Backoff::Exponential };
        assert_eq!(waits(policy), [30, 60, 120, 240]);
    }

    proptest! {
        #[test]
        fn waits_never_shrink_and_never_pass_the_limit(max in 1..=RETRIES_MAX, delay in 0..=RETRY_DELAY_MAX_MINUTES, exponential: bool) {
            let retry_backoff = if exponential { Backoff::Exponential } else { Backoff::Fixed };
            let waits = waits(RetryPolicy { max_retries: max, retry_delay_minutes: delay, retry_backoff });
            prop_assert_eq!(waits.len(), max as usize - 1);
            prop_assert!(waits.is_sorted());
            prop_assert!(waits.iter().all(|w| *w <= i64::from(RETRY_DELAY_MAX_MINUTES)));
        }
    }
}
