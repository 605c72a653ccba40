//! The requests with a key that this process runs.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The keys of the requests that this process runs. Clones share them.
#[derive(Clone, Default)]
pub struct KeyedRequests(Arc<Mutex<HashSet<String>>>);

/// One of these requests; it ends when this is dropped, also if the request is cancelled.
pub(super) struct KeyedRun {
    all: KeyedRequests,
    key_hash: String,
}

impl KeyedRequests {
    /// `None` if this process already runs a request under the key.
    pub(super) fn begin(&self, key_hash: &str) -> Option<KeyedRun> {
        self.lock().insert(key_hash.to_owned()).then(|| KeyedRun { all: self.clone(), key_hash: key_hash.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeyedRun {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key_hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_runs_under_a_key_at_a_time() {
        let requests = KeyedRequests::default();
        let run = requests.begin("key").unwrap();
        assert!(requests.begin("key").is_none(), "it runs already");
        assert!(requests.begin("another key").is_some());
        drop(run);
        assert!(requests.begin("key").is_some(), "it has ended");
    }
}
