//! Rate limits of callers and companies. Each process counts separately.

use std::{
    hash::Hash,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use uuid::Uuid;

const WINDOW_SEC: u32 = 60;
/// After this number of requests, the counts of inactive callers are deleted.
const FORGET_EVERY: u32 = 100_000;
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The remaining allowance of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    policy: &'static str,
    limit: u32,
    /// Number of requests that are allowed at once; `None` if this request exceeds the limit.
    remaining: Option<u32>,
    /// Seconds until the next request is allowed, or, if some are left, until the full allowance is available.
    reset_sec: u32,
}

impl Allowance {
    pub const fn is_exceeded(&self) -> bool {
        self.remaining.is_none()
    }

    pub const fn reset_sec(&self) -> u32 {
        self.reset_sec
    }

    /// draft-ietf-httpapi-ratelimit-headers-10
    pub fn write(&self, headers: &mut HeaderMap) {
        let policy = format!("\"{}\";q={};w={WINDOW_SEC}", self.policy, self.limit);
        let left = format!("\"{}\";r={};t={}", self.policy, self.remaining.unwrap_or(0), self.reset_sec);
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
    }
}

/// A rate limit with one count per key.
struct Limit<K: Hash + Eq + Clone> {
    policy: &'static str,
    per_minute: NonZeroU32,
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>,
    taken: AtomicU32,
}

impl<K: Hash + Eq + Clone> Limit<K> {
    /// `None` for 0: no limit.
    fn new(policy: &'static str, per_minute: u32) -> Option<Self> {
        let per_minute = NonZeroU32::new(per_minute)?;
        let limiter = RateLimiter::keyed(Quota::per_minute(per_minute)).with_middleware();
        Some(Self { policy, per_minute, limiter, taken: AtomicU32::new(0) })
    }

    fn take(&self, key: &K) -> Allowance {
        if self.taken.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
        }
        let limit = self.per_minute.get();
        let (remaining, reset_sec) = match self.limiter.check_key(key) {
            Ok(left) => {
                let remaining = left.remaining_burst_capacity();
                (Some(remaining), (limit - remaining.min(limit)).saturating_mul(WINDOW_SEC).div_ceil(limit))
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                (None, u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX))
            }
        };
        Allowance { policy: self.policy, limit, remaining, reset_sec }
    }
}

pub struct Limits {
    /// By a hash of the credential, or by the client's network if there is no credential.
    callers: Option<Limit<Vec<u8>>>,
    companies: Option<Limit<Uuid>>,
}

impl Limits {
    /// Requests per minute; 0 means no limit.
    pub fn new(per_caller: u32, per_company: u32) -> Self {
        Self { callers: Limit::new("caller", per_caller), companies: Limit::new("company", per_company) }
    }

    /// Counts a request of a caller; `None` when there is no limit.
    pub fn take_of_caller(&self, caller: &Vec<u8>) -> Option<Allowance> {
        self.callers.as_ref().map(|limit| limit.take(caller))
    }

    /// Counts a request of a company; `None` when there is no limit.
    pub fn take_of_company(&self, company_id: Uuid) -> Option<Allowance> {
        self.companies.as_ref().map(|limit| limit.take(&company_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_allowed_request_passes_and_the_next_one_does_not() {
        let limits = Limits::new(3, 0);
        let remaining = |caller: u8| limits.take_of_caller(&vec![caller]).unwrap().remaining;
        assert_eq!([remaining(1), remaining(1), remaining(1), remaining(1)], [Some(2), Some(1), Some(0), None]);
        assert_eq!(remaining(2), Some(2), "another caller has its own");
        assert_eq!(limits.take_of_company(Uuid::nil()), None, "no limit");
    }

    #[test]
    fn headers_say_what_is_left() {
        let (mut headers, limits) = (HeaderMap::new(), Limits::new(0, 3));
        limits.take_of_company(Uuid::nil()).unwrap().write(&mut headers);
        assert_eq!(headers.get("ratelimit-policy").unwrap(), "\"company\";q=3;w=60");
        assert_eq!(headers.get("ratelimit").unwrap(), "\"company\";r=2;t=20");
    }
}
