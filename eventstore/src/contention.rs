//! Commands that have lost a race for a stream: they queue up, and are decided anew.

use std::time::Duration;

use crate::event::StreamName;

/// How often a command is decided anew because somebody else was first.
const CONFLICT_RETRIES_MAX: u32 = 100;
/// Rounds after which contenders spread out, and over how long at most, in milliseconds.
const CONFLICT_CALM_ROUNDS: u32 = 3;
const CONFLICT_SPREAD_MAX_MS: u64 = 10;

/// Queues of contended streams; streams share them, which costs a wait at worst.
const QUEUES: usize = 256;

/// Where commands wait that have lost a race for a stream.
pub(crate) struct Contended(Vec<tokio::sync::Mutex<()>>);

impl Default for Contended {
    fn default() -> Self {
        Self((0..QUEUES).map(|_| tokio::sync::Mutex::default()).collect())
    }
}

impl Contended {
    /// Waits for the turn of a command on the stream; it lasts as long as what is given.
    pub async fn turn(&self, stream: &StreamName) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let queue = usize::from(stream.id().as_bytes()[15]) % QUEUES;
        match self.0.get(queue) {
            Some(queue) => Some(queue.lock().await),
            None => None,
        }
    }
}

/// Runs `attempt` again while `is_conflict` says that somebody else was first, a bounded number of times.
pub async fn retry_conflicts<T, E, F>(is_conflict: impl Fn(&E) -> bool, mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    for round in 0..CONFLICT_RETRIES_MAX {
        match attempt().await {
            Err(error) if is_conflict(&error) && round >= CONFLICT_CALM_ROUNDS => {
                tokio::time::sleep(Duration::from_millis(rand::random_range(0..=CONFLICT_SPREAD_MAX_MS))).await;
            }
            Err(error) if is_conflict(&error) => {}
            result => return result,
        }
    }
    attempt().await
}
