//! Decides which projections fold together.
//!
//! Projections that are near the end of the log form a group: they stand at one position and share the page, the transaction and the
//! statement that moves their checkpoints. For a page with many events, the group uses two transactions at once. A projection goes on alone,
//! with a transaction of its own for each page, while it is far behind, when a page may take it long, and when a page of the group has
//! failed: then each one finds out whether the failing event is its own.

use std::{cmp::Reverse, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use eventstore::StoreError;
use futures::{FutureExt as _, future::join_all};
use sqlx::{PgConnection, Postgres, pool::PoolConnection};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::engine::{
    checkpoints::{self, Lease, Leased},
    feed::Page,
    fold::is_passing,
    folder::{BEGIN_AS_GROUP, Folder, NEAR, in_time, unavailable},
    projection::{ApplyError, Projection},
};

/// How often leases are renewed at least, and requested for projections that another process has or that have stopped.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How often they are requested after one was lost: a rebuild that swaps its tables gives it back within moments.
const REGAIN_EVERY: Duration = Duration::from_millis(100);
/// For how long after the loss.
const REGAIN_FOR: Duration = Duration::from_secs(5);
/// Wait after a failed transaction before it is tried again; doubled each time, up to the second of these.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// After so many failures of the connection or the server in a row, the members go on alone: they may be the failure of one of them.
const GROUP_FAILURES_MAX: u32 = 3;
/// If a page has so many events, the members fold it in several transactions at once: one after the other, they would delay each other.
const BUSY: usize = 16;
/// In how many.
const LANES: usize = 2;
/// If the pool has no connection for another transaction within this time, the page is folded in one.
const ANOTHER_WITHIN: Duration = Duration::from_millis(20);
/// If a group has more events left, its projections leave it and fold at the same time, each on its own connection.
const FAR: i64 = 50_000;

/// What a step of the group was.
enum Step {
    /// A page was folded, or the log has no new events.
    Folded,
    Other,
}

/// All projections of a process. Each is in one of three places, and stays in one when the work is cut off at an `await`.
pub(super) struct Group {
    folder: Folder,
    /// Those without a lease, those that have stopped, and those whose lease is being renewed.
    outside: Vec<Arc<dyn Projection>>,
    /// Those that fold together; all of them stand at the same position.
    members: Vec<Leased>,
    /// Those that fold alone. Each ends when it can join the members, or needs a new lease; and tells whether it failed.
    alone: JoinSet<(Arc<dyn Projection>, bool)>,
    /// Names of those that have stopped, and of those that failed alone. They fold alone before they join the members.
    failed: Vec<&'static str>,
    /// Of the members, one for each lane that was needed: each connection prepares every statement once.
    connections: Vec<PoolConnection<Postgres>>,
    /// Failures of the members in a row that may pass.
    failures: u32,
    renew_at: Instant,
    /// When a member last lost its lease.
    lost_at: Option<Instant>,
}

impl Group {
    pub fn new(folder: Folder, projections: Vec<Arc<dyn Projection>>) -> Self {
        Self {
            folder,
            outside: projections,
            members: Vec::new(),
            alone: JoinSet::new(),
            failed: Vec::new(),
            connections: Vec::new(),
            failures: 0,
            renew_at: Instant::now(),
            lost_at: None,
        }
    }

    pub async fn run(mut self) {
        let health = self.folder.feed.store().head().health().clone();
        let mut wait = RETRY_AFTER.0;
        loop {
            match health.or_unavailable(self.step()).await.unwrap_or_else(|silent| Err(silent.into())) {
                Ok(Step::Folded) => wait = RETRY_AFTER.0,
                Ok(Step::Other) => {}
                Err(error) => {
                    tracing::warn!(%error, "projections were interrupted");
                    // The connection may be dead. The checkpoints may have moved although the answer was lost.
                    self.connections.clear();
                    self.renew_at = Instant::now();
                    sleep(wait).await;
                    wait = RETRY_AFTER.1.min(wait * 2);
                }
            }
        }
    }

    /// Renews the leases if it is time, or waits for the next page and folds it.
    async fn step(&mut self) -> Result<Step, ApplyError> {
        if Instant::now() >= self.renew_at {
            self.renew().await?;
            return Ok(Step::Other);
        }
        let position = self.members.first().map_or(0, |member| member.position);
        tokio::select! {
            Some(ended) = self.alone.join_next() => {
                match ended {
                    Ok((projection, has_failed)) => {
                        if has_failed {
                            self.failed.push(projection.name());
                        }
                        self.outside.push(projection);
                    }
                    Err(error) => tracing::error!(%error, "a projector ended unexpectedly"),
                }
                self.renew_at = Instant::now();
                Ok(Step::Other)
            }
            () = sleep_until(self.renew_at) => Ok(Step::Other),
            page = self.folder.feed.page(position, None), if !self.members.is_empty() => match page {
                Ok(page) => {
                    self.fold(&page).await?;
                    Ok(Step::Folded)
                }
                Err(StoreError::Unreadable { .. }) => {
                    self.members_go_alone(|_| true);
                    Ok(Step::Other)
                }
                Err(error) => Err(unavailable(&error)),
            }
        }
    }

    /// Requests the leases of all projections except those that fold alone, which renew theirs with each page.
    async fn renew(&mut self) -> Result<(), ApplyError> {
        let members = self.members.iter().map(Leased::name).collect::<Vec<_>>();
        self.members_leave(|_| true);
        let mut connections = self.take_connections(1).await?;
        let db = &mut connections[0];
        let mut leases = in_time(checkpoints::lease(db, &self.outside, self.folder.holder)).await?;
        if leases.iter().any(|lease| matches!(lease, Lease::Refused)) && checkpoints::ensure(db, &self.outside).await? {
            leases = in_time(checkpoints::lease(db, &self.outside, self.folder.holder)).await?;
        }
        let mut granted = Vec::new();
        for (projection, lease) in self.outside.iter().zip(leases) {
            let name = projection.name();
            let had_failed = self.failed.contains(&name);
            match lease {
                Lease::Granted(leased) => granted.push((leased, had_failed)),
                Lease::Stopped if !had_failed => self.failed.push(name),
                Lease::Stopped => {}
                Lease::Refused if members.contains(&name) => self.lost_at = Some(Instant::now()),
                Lease::Refused => {}
            }
        }
        if granted.iter().any(|(_, had_failed)| *had_failed) {
            self.failed.retain(|name| granted.iter().all(|(leased, _)| leased.name() != *name));
            // The event that a projection stopped at may have been repaired since it was read.
            self.folder.feed.forget_all();
        }
        for (leased, _) in &granted {
            self.folder.positions.advance(leased.name(), leased.position);
        }
        let mut joining = Vec::new();
        for (leased, had_failed) in granted {
            let left_max = if members.contains(&leased.name()) { FAR } else { NEAR };
            if had_failed || self.folder.left(leased.position) > left_max { self.go_alone(leased) } else { joining.push(leased) }
        }
        self.join(db, joining).await?;
        if !self.members.is_empty() {
            self.connections = connections;
        }
        self.folder.positions.set_all_here(self.outside.is_empty());
        let lost = self.lost_at.is_some_and(|lost| lost.elapsed() < REGAIN_FOR);
        self.renew_at = Instant::now() + if lost { REGAIN_EVERY } else { RENEW_EVERY };
        Ok(())
    }

    /// Brings projections from `outside` to the highest position among them, where they are members. One that is far from it goes alone.
    async fn join(&mut self, db: &mut PgConnection, joining: Vec<Leased>) -> Result<(), ApplyError> {
        let position = joining.iter().map(|leased| leased.position).max().unwrap_or(0);
        for mut leased in joining {
            if position - leased.position > NEAR {
                self.go_alone(leased);
                continue;
            }
            match self.folder.bring_to(db, &mut leased, position).await {
                Ok(true) => {
                    self.outside.retain(|projection| projection.name() != leased.name());
                    self.members.push(leased);
                }
                Ok(false) => {}
                Err(error) => {
                    self.go_alone(leased);
                    if is_passing(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Folds a page for all members, and moves them to its end.
    async fn fold(&mut self, page: &Page) -> Result<(), ApplyError> {
        self.members_go_alone(|member| page.may_take_long(member.projection.as_ref()));
        if page.is_empty() || self.members.is_empty() {
            return Ok(());
        }
        let wanted = if page.len() < BUSY { 1 } else { LANES.min(self.members.len()) };
        let mut connections = self.take_connections(wanted).await?;
        let (folder, mut lanes) = (&self.folder, lanes(&mut self.members, wanted.min(connections.len())));
        let folding = lanes.iter_mut().zip(&mut connections).map(|(members, db)| folder.apply(db, BEGIN_AS_GROUP, members, page));
        let folded = join_all(folding).await;
        let (mut undecided, mut failure) = (Vec::new(), None);
        for (members, folded) in lanes.iter().zip(folded) {
            if let Err(error) = folded {
                undecided.extend(members.iter().map(|member| member.name()));
                failure = Some(error);
            }
        }
        if self.members_leave(|member| member.position == page.after && !undecided.contains(&member.name())) > 0 {
            (self.lost_at, self.renew_at) = (Some(Instant::now()), Instant::now());
        }
        match failure {
            None => {
                (self.connections, self.failures) = (connections, 0);
                Ok(())
            }
            // The next renewal brings the members of this lane to the position of the others.
            Some(error) if is_passing(&error) && self.failures < GROUP_FAILURES_MAX => {
                self.failures += 1;
                Err(error)
            }
            Some(error) => {
                self.failures = 0;
                tracing::debug!(%error, "a page failed for several projections; each tries it alone");
                self.members_go_alone(|member| undecided.contains(&member.name()));
                Ok(())
            }
        }
    }

    /// Connections of the members: one, and more up to `wanted` if the pool has them. They are given up when a statement on one of them fails.
    async fn take_connections(&mut self, wanted: usize) -> Result<Vec<PoolConnection<Postgres>>, sqlx::Error> {
        let mut connections = std::mem::take(&mut self.connections);
        if connections.is_empty() {
            connections.push(self.folder.pool.acquire().await?);
        }
        while connections.len() < wanted
            && let Ok(Ok(another)) = timeout(ANOTHER_WITHIN, self.folder.pool.acquire()).await
        {
            connections.push(another);
        }
        Ok(connections)
    }

    fn members_leave(&mut self, leaves: impl Fn(&Leased) -> bool) -> usize {
        let left = self.members.extract_if(.., |member| leaves(member));
        let before = self.outside.len();
        self.outside.extend(left.map(|member| member.projection));
        self.outside.len() - before
    }

    fn members_go_alone(&mut self, leaves: impl Fn(&Leased) -> bool) {
        for member in self.members.extract_if(.., |member| leaves(member)).collect::<Vec<_>>() {
            self.go_alone(member);
        }
    }

    fn go_alone(&mut self, leased: Leased) {
        self.outside.retain(|projection| projection.name() != leased.name());
        if self.members.is_empty() {
            self.connections.clear();
        }
        let (folder, projection) = (self.folder.clone(), Arc::clone(&leased.projection));
        self.alone.spawn(async move {
            let health = folder.feed.store().head().health();
            let folding = health.or_unavailable(AssertUnwindSafe(folder.fold_alone(leased)).catch_unwind());
            let folded = match folding.await {
                Ok(folded) => folded.unwrap_or_else(|_| Err(ApplyError::Contradiction("the projector panicked".to_owned()))),
                Err(silent) => Err(silent.into()),
            };
            if let Err(error) = &folded {
                tracing::warn!(projection = projection.name(), %error, "a projection was interrupted");
                sleep(RETRY_AFTER.1).await;
            }
            (projection, folded.is_err())
        });
    }
}

/// Distributes members so that each lane takes about as long as the others: the slowest first, each to the lane that has least to do.
fn lanes(members: &mut [Leased], number: usize) -> Vec<Vec<&mut Leased>> {
    let mut slowest_first = members.iter_mut().collect::<Vec<_>>();
    slowest_first.sort_by_key(|member| Reverse(member.took));
    let mut lanes = (0..number).map(|_| (Duration::ZERO, Vec::new())).collect::<Vec<_>>();
    for member in slowest_first {
        if let Some((takes, lane)) = lanes.iter_mut().min_by_key(|(takes, lane)| (*takes, lane.len())) {
            *takes += member.took;
            lane.push(member);
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(millis: &[u64]) -> Vec<Leased> {
        let leased = |millis: &u64| {
            let projection = crate::by_name("calls").expect("a projection");
            Leased { projection, token: 1, position: 0, took: Duration::from_millis(*millis) }
        };
        millis.iter().map(leased).collect()
    }

    fn times(members: &mut [Leased], number: usize) -> Vec<Duration> {
        lanes(members, number).iter().map(|lane| lane.iter().map(|member| member.took).sum()).collect()
    }

    #[test]
    fn two_slow_members_are_in_different_lanes_and_unknown_times_are_spread() {
        assert_eq!(times(&mut taking(&[1, 8, 0, 3, 0, 9]), 2), [10, 11].map(Duration::from_millis));
        assert_eq!(lanes(&mut taking(&[0; 12]), 2).iter().map(Vec::len).collect::<Vec<_>>(), [6, 6]);
    }
}
