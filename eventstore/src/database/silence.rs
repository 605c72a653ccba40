//! When the database does not answer: sqlx sets no TCP keepalive, and a statement that was sent into a dead network would wait for
//! a quarter of an hour. And when it answers no more because it went away: then no connection from before is to be trusted.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// What was noticed last; clones share it.
#[derive(Clone, Default)]
pub struct Silence {
    noticed: Arc<watch::Sender<Option<Instant>>>,
    broken: Arc<watch::Sender<Option<Instant>>>,
}

impl Silence {
    /// The database has not answered in time.
    pub(crate) fn noticed(&self) {
        self.noticed.send_replace(Some(Instant::now()));
    }

    /// A connection was found broken.
    pub(crate) fn broken(&self) {
        self.broken.send_replace(Some(Instant::now()));
    }

    /// Whether the database fell silent after `moment`: connections from then may be dead.
    pub(super) fn noticed_since(&self, moment: Instant) -> bool {
        self.noticed.borrow().is_some_and(|noticed| noticed > moment)
    }

    /// Whether one was found broken in the time up to now: others that nobody used meanwhile may have broken with it.
    pub(super) fn broken_within(&self, time: Duration) -> bool {
        self.broken.borrow().is_some_and(|broken| broken.elapsed() < time)
    }

    /// Does `work` on the database, unless the database falls silent meanwhile.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        let mut silence = self.noticed.subscribe();
        tokio::select! {
            result = work => Ok(result),
            _ = silence.changed() => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }
}
