//! The position of each read model, and waiting for positions, so that a client reads its own writes.

use eventstore::Pool;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::engine::projection::{Projection, ReadModel};

/// Longest wait of a query for its read model.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often the positions of other processes' projectors are read: while a caller waits, and otherwise.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// If reading the positions takes longer, the connection is dead.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// The read model did not reach the position in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotReached {
    pub position: i64,
}

/// The positions of all projections that this process has seen. Clones share everything.
#[derive(Clone)]
pub struct Positions(Arc<Known>);

struct Known {
    positions: HashMap<&'static str, watch::Sender<i64>>,
    /// Whether this process folds for every projection: then no other process moves a checkpoint.
    all_here: AtomicBool,
}

impl Positions {
    /// Of these projections, all at 0.
    pub fn new(projections: &[Arc<dyn Projection>]) -> Self {
        let positions = projections.iter().map(|projection| (projection.name(), watch::Sender::new(0))).collect();
        Self(Arc::new(Known { positions, all_here: AtomicBool::new(false) }))
    }

    /// The position of a projection. One that is not in the list of all would never be waited for: that is a mistake in the code.
    fn of(&self, model: ReadModel) -> &watch::Sender<i64> {
        match self.0.positions.get(model.name()) {
            Some(sender) => sender,
            None => panic!("the projection {} is not in the list", model.name()),
        }
    }

    /// Records the position that this process has just committed.
    pub(crate) fn advance(&self, name: &str, position: i64) {
        // Another release may have had a projection that this release does not have.
        if let Some(sender) = self.0.positions.get(name) {
            sender.send_if_modified(|known| {
                let higher = position > *known;
                *known = position.max(*known);
                higher
            });
        }
    }

    /// Records whether this process folds for every projection.
    pub(crate) fn set_all_here(&self, all_here: bool) {
        self.0.all_here.store(all_here, Ordering::Relaxed);
    }

    /// The lowest of the positions of some read models.
    pub fn lowest(&self, models: &[ReadModel]) -> i64 {
        models.iter().map(|model| *self.of(*model).borrow()).min().unwrap_or(0)
    }

    /// Waits until all of the read models have reached `position`; returns how far the slowest is.
    pub async fn reached(&self, models: &[ReadModel], position: i64, wait_max: Duration) -> Result<i64, NotReached> {
        let all = async {
            for model in models {
                let _ = self.of(*model).subscribe().wait_for(|known| *known >= position).await;
            }
        };
        match tokio::time::timeout(wait_max, all).await {
            Ok(()) => Ok(self.lowest(models)),
            Err(_) => Err(NotReached { position: self.lowest(models) }),
        }
    }

    /// Reads the checkpoints that other processes move, until the pool is closed.
    pub async fn follow(self, pool: Pool) {
        while !pool.is_closed() {
            if self.0.all_here.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK_EVERY.1).await;
                continue;
            }
            let look = sqlx::query!("select name, position from projection_checkpoints").fetch_all(&pool);
            match tokio::time::timeout(LOOK_DEADLINE, look).await {
                Ok(Ok(rows)) => rows.iter().for_each(|row| self.advance(&row.name, row.position)),
                Ok(Err(error)) => tracing::debug!(%error, "checkpoints could not be read"),
                Err(_) => tracing::debug!("checkpoints could not be read in time"),
            }
            // A caller that only reads the borrowed value is not waiting; a subscribed receiver is.
            let somebody_waits = self.0.positions.values().any(|sender| sender.receiver_count() > 0);
            tokio::time::sleep(if somebody_waits { LOOK_EVERY.0 } else { LOOK_EVERY.1 }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the projection call_task is not in the list")]
    fn a_read_model_that_is_not_in_the_list_is_not_silently_left_out() {
        Positions::new(&[]).lowest(&[ReadModel::new("call_task")]);
    }
}
