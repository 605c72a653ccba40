//! How many requests a caller and a company may send in a minute. Each process counts on its own.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

const WINDOW: Duration = Duration::from_secs(60);
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// By a hash of the credential, or the address of who has none.
    Caller(Vec<u8>),
    Company(uuid::Uuid),
}

impl Counted {
    const fn policy(&self) -> &'static str {
        match self {
            Self::Caller(_) => "caller",
            Self::Company(_) => "company",
        }
    }
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    policy: &'static str,
    limit: u32,
    /// `None` when there were too many.
    remaining: Option<u32>,
    /// Until the window ends.
    reset_sec: u64,
}

impl Allowance {
    pub const fn is_exceeded(&self) -> bool {
        self.remaining.is_none()
    }

    pub fn reset_sec(&self) -> u32 {
        u32::try_from(self.reset_sec).unwrap_or(u32::MAX)
    }

    /// draft-ietf-httpapi-ratelimit-headers-10
    pub fn write(&self, headers: &mut HeaderMap) {
        let policy = format!("\"{}\";q={};w={}", self.policy, self.limit, WINDOW.as_secs());
        let left = format!("\"{}\";r={};t={}", self.policy, self.remaining.unwrap_or(0), self.reset_sec);
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
    }
}

/// Requests per minute; 0 for no limit.
pub struct Limits {
    pub per_caller: u32,
    pub per_company: u32,
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    counts: HashMap<Counted, u32>,
}

impl Limits {
    pub fn new(per_caller: u32, per_company: u32) -> Self {
        Self { per_caller, per_company, window: Mutex::new(Window { began: Instant::now(), counts: HashMap::new() }) }
    }

    /// Counts a request; `None` when there is no limit.
    pub fn take(&self, counted: Counted) -> Option<Allowance> {
        self.take_at(counted, Instant::now())
    }

    fn take_at(&self, counted: Counted, now: Instant) -> Option<Allowance> {
        let limit = match counted {
            Counted::Caller(_) => self.per_caller,
            Counted::Company(_) => self.per_company,
        };
        if limit == 0 {
            return None;
        }
        let policy = counted.policy();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.began) >= WINDOW {
            *window = Window { began: now, counts: HashMap::new() };
        }
        let reset_sec = (WINDOW - now.duration_since(window.began)).as_secs().max(1);
        let count = window.counts.entry(counted).or_default();
        let remaining = limit.checked_sub(*count + 1);
        if remaining.is_some() {
            *count += 1;
        }
        Some(Allowance { policy, limit, remaining, reset_sec })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(n: u8) -> Counted {
        Counted::Caller(vec![n])
    }

    #[test]
    fn the_last_allowed_request_passes_and_the_next_one_waits_for_the_window() {
        let limits = Limits::new(3, 0);
        let begun = Instant::now();
        let remaining = |n, at: Instant| limits.take_at(caller(n), at).unwrap().remaining;
        assert_eq!([remaining(1, begun), remaining(1, begun), remaining(1, begun), remaining(1, begun)], [Some(2), Some(1), Some(0), None]);
        assert_eq!(remaining(2, begun), Some(2), "another caller has its own");
        assert_eq!(remaining(1, begun + WINDOW + Duration::from_secs(1)), Some(2));
        assert_eq!(limits.take(Counted::Company(uuid::Uuid::nil())), None, "no limit");
    }

    #[test]
    fn headers_say_what_is_left() {
        let mut headers = HeaderMap::new();
        Limits::new(3, 0).take(caller(1)).unwrap().write(&mut headers);
        assert_eq!(headers.get("ratelimit-policy").unwrap(), "\"caller\";q=3;w=60");
        assert!(headers.get("ratelimit").unwrap().to_str().unwrap().starts_with("\"caller\";r=2;t="));
    }
}
