//! Runs all projections of a process, and the rebuilds that it serves.

use std::sync::Arc;

use eventstore::Pool;
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use crate::engine::{checkpoints, feed::Feed, folder::Folder, group::Group, positions::Positions, projection::Projection, rebuild};

/// Runs projections until shutdown.
pub struct Projectors {
    /// All of them, in a platform.
    pub projections: Vec<Arc<dyn Projection>>,
    pub pool: Pool,
    /// Connections as the owner of the tables: rebuilds create and swap tables.
    pub owner: Pool,
    pub feed: Feed,
    pub positions: Positions,
}

impl Projectors {
    /// Runs until `shutdown` is true, then releases the leases.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let holder = Uuid::now_v7();
        let positions = self.positions.clone();
        let mut tasks = JoinSet::new();
        let store = self.feed.store().clone();
        tasks.spawn(rebuild::serve_requests(self.projections.clone(), self.owner, store, holder, shutdown.clone()));
        let folder = Folder { pool: self.pool, feed: self.feed, positions: self.positions, holder };
        let group = Group::new(folder.clone(), self.projections);
        tasks.spawn(async move {
            tokio::select! {
                () = group.run() => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
            checkpoints::release(&folder.pool, holder).await;
        });
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "projections or rebuilds ended unexpectedly");
            }
            positions.set_all_here(false);
        }
    }
}
