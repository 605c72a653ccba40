//! How far the read models are, and waiting for them: reading one's own writes.

use eventstore::Pool;
use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::watch;

/// Longest wait of a query for its read model.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often other processes' projectors are looked up while somebody waits, and otherwise.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A look that takes longer hangs on a dead connection.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// The read model did not come to the position in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotReached {
    pub position: i64,
}

/// The positions of all projections, as far as this process knows. Clones share everything.
#[derive(Clone)]
pub struct Positions(Arc<HashMap<&'static str, watch::Sender<i64>>>);

impl Default for Positions {
    fn default() -> Self {
        Self(Arc::new(crate::all().iter().map(|p| (p.name(), watch::Sender::new(0))).collect()))
    }
}

impl Positions {
    /// The position of a projection. A name that no projection has would never be waited for: that is a mistake in the code that asks.
    fn of(&self, name: &str) -> &watch::Sender<i64> {
        match self.0.get(name) {
            Some(sender) => sender,
            None => panic!("there is no projection {name}"),
        }
    }

    /// Notes what this process has just committed.
    pub(crate) fn advance(&self, name: &str, position: i64) {
        // Another release may have had a projection that this one does not know.
        if let Some(sender) = self.0.get(name) {
            sender.send_if_modified(|known| {
                let higher = position > *known;
                *known = position.max(*known);
                higher
            });
        }
    }

    /// The lowest of the named projections' positions.
    pub fn lowest(&self, names: &[&str]) -> i64 {
        names.iter().map(|name| *self.of(name).borrow()).min().unwrap_or(0)
    }

    /// Waits until all the named projections have reached `position`; answers how far the slowest is.
    pub async fn reached(&self, names: &[&str], position: i64, patience: Duration) -> Result<i64, NotReached> {
        let all = async {
            for name in names {
                let _ = self.of(name).subscribe().wait_for(|known| *known >= position).await;
            }
        };
        match tokio::time::timeout(patience, all).await {
            Ok(()) => Ok(self.lowest(names)),
            Err(_) => Err(NotReached { position: self.lowest(names) }),
        }
    }

    /// Keeps looking at the checkpoints that other processes move; ends with the pool.
    pub async fn follow(self, pool: Pool) {
        while !pool.is_closed() {
            let look = sqlx::query!("select name, position from projection_checkpoints").fetch_all(&pool);
            match tokio::time::timeout(LOOK_DEADLINE, look).await {
                Ok(Ok(rows)) => rows.iter().for_each(|row| self.advance(&row.name, row.position)),
                Ok(Err(error)) => tracing::debug!(%error, "checkpoints could not be read"),
                Err(_) => tracing::debug!("checkpoints could not be read in time"),
            }
            // Whoever reads the borrowed value is not waiting; a subscribed receiver is.
            let somebody_waits = self.0.values().any(|sender| sender.receiver_count() > 0);
            tokio::time::sleep(if somebody_waits { LOOK_EVERY.0 } else { LOOK_EVERY.1 }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "there is no projection call_task")]
    fn a_misspelt_projection_is_not_silently_left_out() {
        Positions::default().lowest(&["calls", "call_task"]);
    }
}
