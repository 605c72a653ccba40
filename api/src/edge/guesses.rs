//! API keys, tickets, refresh tokens and invitations that are not valid, by the network they come from: after too many, none from there
//! is looked up for a while.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use lru::LruCache;

use crate::problem::Problem;

pub const GUESSES_WINDOW_SEC: u32 = 60;
/// Networks that are remembered.
const NETWORKS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

pub struct Guesses {
    /// `None` for no limit.
    max: Option<NonZeroU32>,
    counts: Mutex<LruCache<String, (Instant, u32)>>,
}

impl Guesses {
    /// `per_minute` from one network; 0 for no limit.
    pub fn new(per_minute: u32) -> Self {
        Self { max: NonZeroU32::new(per_minute), counts: Mutex::new(LruCache::new(NETWORKS_MAX)) }
    }

    fn counts(&self) -> MutexGuard<'_, LruCache<String, (Instant, u32)>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries a secret that came from a network, unless there were too many from there that did not count.
    pub async fn unless_too_many<T>(&self, network: &str, attempt: impl AsyncFnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
        if self.are_too_many(network) {
            return Err(Problem::too_many("too many credentials that are not valid", GUESSES_WINDOW_SEC));
        }
        let tried = attempt().await;
        if tried.as_ref().is_err_and(|problem| problem.status == StatusCode::UNAUTHORIZED) {
            self.note(network);
        }
        tried
    }

    pub fn are_too_many(&self, network: &str) -> bool {
        let Some(max) = self.max else { return false };
        let window = Duration::from_secs(u64::from(GUESSES_WINDOW_SEC));
        self.counts().peek(network).is_some_and(|(since, count)| since.elapsed() < window && *count >= max.get())
    }

    pub fn note(&self, network: &str) {
        let window = Duration::from_secs(u64::from(GUESSES_WINDOW_SEC));
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
        let guesses = Guesses::new(3);
        for _ in 0..3 {
            assert!(!guesses.are_too_many("a"));
            guesses.note("a");
        }
        assert!(guesses.are_too_many("a") && !guesses.are_too_many("b"));
        let unlimited = Guesses::new(0);
        unlimited.note("a");
        assert!(!unlimited.are_too_many("a"));
    }
}
