//! Commands that have lost a race for a stream: they wait in a queue and are decided again.

use std::time::Duration;

use crate::{error::CommandError, event::StreamName};

/// How often a command is decided again because another one was first.
const CONFLICT_RETRIES_MAX: u32 = 100;
/// Rounds after which competing commands are spread over time, and the maximum of that time, in milliseconds.
const CONFLICT_CALM_ROUNDS: u32 = 3;
const CONFLICT_SPREAD_MAX_MS: u64 = 10;

/// Queues of contended streams; several streams may share a queue, which costs at most waiting time.
const QUEUES: usize = 256;

/// The queues for commands that have lost a race for a stream.
pub(crate) struct Contended(Vec<tokio::sync::Mutex<()>>);

impl Default for Contended {
    fn default() -> Self {
        Self((0..QUEUES).map(|_| tokio::sync::Mutex::default()).collect())
    }
}

impl Contended {
    /// Waits for the turn of a command on the stream; the turn lasts until the returned guard is dropped.
    pub async fn turn(&self, stream: &StreamName) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let queue = usize::from(stream.id().as_bytes()[15]) % QUEUES;
        match self.0.get(queue) {
            Some(queue) => Some(queue.lock().await),
            None => None,
        }
    }
}

/// Retries `attempt` while another command was first, a limited number of times.
pub(crate) async fn retry_conflicts<T, E, F>(mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    E: CommandError,
    F: Future<Output = Result<T, E>>,
{
    for round in 0..CONFLICT_RETRIES_MAX {
        match attempt().await {
            Err(error) if error.is_conflict() && round >= CONFLICT_CALM_ROUNDS => {
                tokio::time::sleep(Duration::from_millis(rand::random_range(0..=CONFLICT_SPREAD_MAX_MS))).await;
            }
            Err(error) if error.is_conflict() => {}
            result => return result,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conflict, StoreError};

    /// Number of attempts and the result, when the attempts fail with these errors one after the other.
    async fn tried(errors: Vec<StoreError>) -> (usize, Result<(), StoreError>) {
        let mut errors = errors.into_iter();
        let mut attempts = 0;
        let result = retry_conflicts(|| {
            attempts += 1;
            std::future::ready(errors.next().map_or(Ok(()), Err))
        });
        let result = result.await;
        (attempts, result)
    }

    fn conflict() -> StoreError {
        Conflict { stream: "call-1".to_owned(), expected: 1, actual: 2 }.into()
    }

    #[tokio::test]
    async fn a_command_decided_on_what_did_not_happen_is_decided_again_as_one_that_lost_a_race_is() {
        let (attempts, result) = tried(vec![StoreError::Overtaken, conflict(), StoreError::Overtaken]).await;
        assert!(attempts == 4 && result.is_ok(), "{attempts} {result:?}");
    }

    #[tokio::test]
    async fn an_error_that_is_no_lost_race_is_answered_at_once() {
        let (attempts, result) = tried(vec![StoreError::Overloaded]).await;
        assert!(attempts == 1 && matches!(result, Err(StoreError::Overloaded)), "{attempts} {result:?}");
    }
}
