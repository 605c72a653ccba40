//! Detects that the database does not answer: sqlx sets no TCP keepalive, and a statement that was sent into a dead network would wait for
//! a quarter of an hour. When the database has gone away, no connection from before is trusted any more.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// When silence and a broken connection were last noticed; clones share it.
#[derive(Clone, Default)]
pub struct DatabaseHealth {
    noticed: Arc<watch::Sender<Option<Instant>>>,
    broken: Arc<watch::Sender<Option<Instant>>>,
}

impl DatabaseHealth {
    /// The database has not answered in time.
    pub(crate) fn report_silent(&self) {
        self.noticed.send_replace(Some(Instant::now()));
    }

    /// A connection was found broken.
    pub(crate) fn report_broken(&self) {
        self.broken.send_replace(Some(Instant::now()));
    }

    /// Whether the database fell silent after `moment`: connections that were made at `moment` or earlier may be dead.
    pub(super) fn silent_since(&self, moment: Instant) -> bool {
        self.noticed.borrow().is_some_and(|noticed| noticed > moment)
    }

    /// Whether a connection was found broken during the last `time`: other connections that were idle meanwhile may be broken, too.
    pub(super) fn broken_within(&self, time: Duration) -> bool {
        self.broken.borrow().is_some_and(|broken| broken.elapsed() < time)
    }

    /// Runs `work` on the database; fails if the database falls silent meanwhile.
    pub async fn or_unavailable<T>(&self, work: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        let mut health = self.noticed.subscribe();
        tokio::select! {
            result = work => Ok(result),
            _ = health.changed() => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }
}
