//! Counts API keys, tickets, refresh tokens and invitations that are not valid, by the network of the sender. After too many, credentials
//! from that network are not looked up for a while.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use lru::LruCache;

use crate::problem::Problem;

pub const FAILED_CREDENTIALS_WINDOW_SEC: u32 = 60;
/// Maximum number of networks that are stored.
const NETWORKS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

pub struct FailedCredentialLimiter {
    /// `None` for no limit.
    max: Option<NonZeroU32>,
    counts: Mutex<LruCache<String, (Instant, u32)>>,
}

impl FailedCredentialLimiter {
    /// `per_minute` from one network; 0 means no limit.
    pub fn new(per_minute: u32) -> Self {
        Self { max: NonZeroU32::new(per_minute), counts: Mutex::new(LruCache::new(NETWORKS_MAX)) }
    }

    fn counts(&self) -> MutexGuard<'_, LruCache<String, (Instant, u32)>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an attempt with a secret from a network, unless too many secrets from that network were not valid.
    pub async fn attempt<T>(&self, network: &str, attempt: impl AsyncFnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
        if self.is_exceeded(network) {
            return Err(Problem::too_many("too many credentials that are not valid", FAILED_CREDENTIALS_WINDOW_SEC));
        }
        let tried = attempt().await;
        if tried.as_ref().is_err_and(|problem| problem.status == StatusCode::UNAUTHORIZED) {
            self.record_failure(network);
        }
        tried
    }

    pub fn is_exceeded(&self, network: &str) -> bool {
        let Some(max) = self.max else { return false };
        let window = Duration::from_secs(u64::from(FAILED_CREDENTIALS_WINDOW_SEC));
        self.counts().peek(network).is_some_and(|(since, count)| since.elapsed() < window && *count >= max.get())
    }

    pub fn record_failure(&self, network: &str) {
        let window = Duration::from_secs(u64::from(FAILED_CREDENTIALS_WINDOW_SEC));
        let mut counts = self.counts();
        match counts.get_mut(network).filter(|(since, _)| since.elapsed() < window) {
            Some((_, count)) => *count += 1,
            None => drop(counts.put(network.to_owned(), (Instant::now(), 1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_counted_by_network() {
        let limiter = FailedCredentialLimiter::new(3);
        for _ in 0..3 {
            assert!(!limiter.is_exceeded("a"));
            limiter.record_failure("a");
        }
        assert!(limiter.is_exceeded("a") && !limiter.is_exceeded("b"));
        let unlimited = FailedCredentialLimiter::new(0);
        unlimited.record_failure("a");
        assert!(!unlimited.is_exceeded("a"));
    }
}
