//! When the database does not answer: sqlx sets no TCP keepalive, and a statement that was sent into a dead network would wait for
//! a quarter of an hour.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// What was noticed last; clones share it.
#[derive(Clone)]
pub struct Silence(Arc<watch::Sender<Option<Instant>>>);

impl Default for Silence {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Silence {
    /// The database has not answered in time.
    pub(crate) fn noticed(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// Whether a connection of this age was there when the database fell silent: it may be dead.
    pub(super) fn outlasted_by(&self, age: Duration) -> bool {
        self.0.borrow().is_some_and(|noticed| noticed.elapsed() < age)
    }

    /// Does `work` on the database, unless the database falls silent meanwhile.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Result<T, sqlx::Error> {
        let mut silence = self.0.subscribe();
        tokio::select! {
            result = work => Ok(result),
            _ = silence.changed() => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }
}
