//! Credentials that are not valid, by where they come from: whoever sends too many of them is not looked up any more for a while.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

pub const GUESSES_WINDOW_SEC: u32 = 60;
const GUESSES_MAX: u32 = 600;
/// Networks that are remembered.
const NETWORKS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

pub struct Guesses(Mutex<LruCache<String, (Instant, u32)>>);

impl Default for Guesses {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NETWORKS_MAX)))
    }
}

impl Guesses {
    fn counts(&self) -> MutexGuard<'_, LruCache<String, (Instant, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn are_too_many(&self, network: &str) -> bool {
        let window = Duration::from_secs(u64::from(GUESSES_WINDOW_SEC));
        self.counts().peek(network).is_some_and(|(since, count)| since.elapsed() < window && *count >= GUESSES_MAX)
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
        let guesses = Guesses::default();
        for _ in 0..GUESSES_MAX {
            assert!(!guesses.are_too_many("a"));
            guesses.note("a");
        }
        assert!(guesses.are_too_many("a") && !guesses.are_too_many("b"));
    }
}
