//! Runs projections: reads a page, folds it and moves the checkpoints in one transaction.
//!
//! Projections that are near the end of the log form a group: they stand at one position and share the page, the transaction and the
//! statement that moves their checkpoints. A projection goes on alone, with a transaction of its own for each page, while it is far behind,
//! when a page may take it long, and when a page of the group has failed: then each one finds out whether the failing event is its own.

use std::{num::NonZeroUsize, panic::AssertUnwindSafe, slice, sync::Arc, time::Duration};

use domain::count;
use eventstore::{Pool, StoreError};
use futures::FutureExt as _;
use sqlx::{Connection as _, PgConnection, Postgres, pool::PoolConnection};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use uuid::Uuid;

use crate::engine::{
    checkpoints::{self, Lease, Leased},
    feed::{Feed, Page},
    fold::{apply_caught, is_passing, wanted},
    positions::Positions,
    projection::{ApplyError, Projection},
    rebuild,
};

/// How often leases are renewed at least, and requested for projections that another process has or that have stopped.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How often they are requested after one was lost: a rebuild that swaps its tables gives it back within moments.
const REGAIN_EVERY: Duration = Duration::from_millis(100);
/// For how long after the loss.
const REGAIN_FOR: Duration = Duration::from_secs(5);
/// Wait after a failed transaction before it is tried again; doubled each time, up to the second of these.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// If one transaction takes longer, its connection is dead; a price list for the past may price millions of calls again.
const WORK_TIMEOUT: Duration = Duration::from_secs(3_600);
/// If moving checkpoints or renewing leases takes longer, the connection is dead: these statements wait for no lock.
const CHECKPOINTS_TIMEOUT: Duration = Duration::from_secs(5);
/// Tables grow from nothing: a plan that was made for an empty table must not be reused.
const BEGIN_ALONE: &str = "begin; set local plan_cache_mode = force_custom_plan";
/// If a statement of one member takes longer, for example because its table is locked, the other members do not wait: each goes on alone.
const BEGIN_AS_GROUP: &str = "begin; set local plan_cache_mode = force_custom_plan; set local statement_timeout = '5s'";
/// After so many failures of the connection or the server in a row, the members go on alone: they may be the failure of one of them.
const GROUP_FAILURES_MAX: u32 = 3;
/// A projection with at most so many events left joins the group.
const NEAR: i64 = 1_000;
/// If a group has more events left, its projections leave it and fold at the same time, each on its own connection.
const FAR: i64 = 50_000;

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

/// What folding needs; clones share everything.
#[derive(Clone)]
struct Folder {
    pool: Pool,
    feed: Feed,
    positions: Positions,
    holder: Uuid,
}

impl Folder {
    fn left(&self, position: i64) -> i64 {
        self.feed.store().head().position() - position
    }

    /// Folds a page for projections that stand at its beginning, and moves their checkpoints to its end, in one transaction. Returns the
    /// names of those that it did this for; the other ones have lost their lease.
    async fn apply(&self, db: &mut PgConnection, begin: &'static str, members: &[Leased], page: &Page) -> Result<Vec<String>, ApplyError> {
        let mut work = async || -> Result<Vec<String>, ApplyError> {
            let moves = (page.after, page.last_position);
            let each = members.iter().map(|member| Ok((member, wanted(page, member.projection.as_ref())?)));
            let each: Vec<_> = each.collect::<Result<_, ApplyError>>()?;
            if each.iter().all(|(_, events)| events.is_empty()) {
                return Ok(in_time(checkpoints::advance(db, members, self.holder, moves)).await?);
            }
            let mut tx = db.begin_with(begin).await?;
            let held = in_time(checkpoints::advance(&mut tx, members, self.holder, moves)).await?;
            for (member, events) in each.iter().filter(|(member, events)| !events.is_empty() && holds(&held, member)) {
                apply_caught(member.projection.as_ref(), &mut tx, events).await?;
            }
            tx.commit().await?;
            Ok(held)
        };
        let held = timeout(WORK_TIMEOUT, work()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut.into()))?;
        for member in members.iter().filter(|member| holds(&held, member)) {
            self.positions.advance(member.name(), page.last_position);
        }
        Ok(held)
    }

    /// Folds at least one page for one projection alone, and more until it is near the end of the log. Ends early when it has lost the
    /// lease, or has stopped at an event. A page that fails is halved until the one event that cannot be applied is found.
    async fn fold_alone(&self, mut alone: Leased) -> Result<(), ApplyError> {
        // A page that failed ends at `beyond`; the failing event may be in its second half.
        let (mut limit, mut beyond): (Option<NonZeroUsize>, _) = (None, alone.position);
        loop {
            let page = self.feed.page(alone.position, limit).await;
            if page.as_ref().is_ok_and(|page| page.is_empty()) {
                return Ok(());
            }
            let mut db = self.pool.acquire().await?;
            let page = match page {
                Ok(page) => page,
                // To continue as if the event had never existed would make the tables wrong permanently.
                Err(StoreError::Unreadable { position, reason }) => {
                    return Ok(checkpoints::stop_at(&mut db, &alone, position, &ApplyError::Contradiction(reason)).await?);
                }
                Err(error) => return Err(unavailable(&error)),
            };
            match self.apply(&mut db, BEGIN_ALONE, slice::from_ref(&alone), &page).await {
                Ok(held) if held.is_empty() => return Ok(()),
                Ok(_) => (alone.position, limit) = (page.last_position, None),
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => match NonZeroUsize::new(page.len() / 2) {
                    Some(half) => (limit, beyond) = (Some(half), beyond.max(page.last_position)),
                    None => return Ok(checkpoints::stop_at(&mut db, &alone, page.last_position, &error).await?),
                },
            }
            if limit.is_none() && alone.position >= beyond && self.left(alone.position) <= NEAR {
                return Ok(());
            }
        }
    }

    /// Folds for one projection exactly up to `position`; false if it has lost its lease.
    async fn bring_to(&self, db: &mut PgConnection, behind: &mut Leased, position: i64) -> Result<bool, ApplyError> {
        while let Some(limit) = NonZeroUsize::new(count::to_usize(position - behind.position)) {
            let page = self.feed.page(behind.position, Some(limit)).await.map_err(|error| match error {
                StoreError::Unreadable { reason, .. } => ApplyError::Contradiction(reason),
                error => unavailable(&error),
            })?;
            if page.is_empty() || page.may_take_long(behind.projection.as_ref()) {
                return Err(ApplyError::Contradiction(format!("it must fold alone from position {}", behind.position)));
            }
            if self.apply(db, BEGIN_AS_GROUP, slice::from_ref(behind), &page).await?.is_empty() {
                return Ok(false);
            }
            behind.position = page.last_position;
        }
        Ok(true)
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(CHECKPOINTS_TIMEOUT, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn holds(held: &[String], member: &Leased) -> bool {
    held.iter().any(|name| name == member.name())
}

fn unavailable(error: &StoreError) -> ApplyError {
    sqlx::Error::Protocol(error.to_string()).into()
}

/// What a step of the group was.
enum Step {
    /// A page was folded, or the log has no new events.
    Folded,
    Other,
}

/// All projections of a process. Each is in one of three places, and stays in one when the work is cut off at an `await`.
struct Group {
    folder: Folder,
    /// Those without a lease, those that have stopped, and those whose lease is being renewed.
    outside: Vec<Arc<dyn Projection>>,
    /// Those that fold together; all of them stand at the same position.
    members: Vec<Leased>,
    /// Those that fold alone. Each ends when it can join the members, or needs a new lease; and tells whether it failed.
    alone: JoinSet<(Arc<dyn Projection>, bool)>,
    /// Names of those that have stopped, and of those that failed alone. They fold alone before they join the members.
    failed: Vec<&'static str>,
    /// Of the members: each connection prepares every statement once.
    connection: Option<PoolConnection<Postgres>>,
    /// Failures of the members in a row that may pass.
    failures: u32,
    renew_at: Instant,
    /// When a member last lost its lease.
    lost_at: Option<Instant>,
}

impl Group {
    fn new(folder: Folder, projections: Vec<Arc<dyn Projection>>) -> Self {
        Self {
            folder,
            outside: projections,
            members: Vec::new(),
            alone: JoinSet::new(),
            failed: Vec::new(),
            connection: None,
            failures: 0,
            renew_at: Instant::now(),
            lost_at: None,
        }
    }

    async fn run(mut self) {
        let health = self.folder.feed.store().head().health().clone();
        let mut wait = RETRY_AFTER.0;
        loop {
            match health.or_unavailable(self.step()).await.unwrap_or_else(|silent| Err(silent.into())) {
                Ok(Step::Folded) => wait = RETRY_AFTER.0,
                Ok(Step::Other) => {}
                Err(error) => {
                    tracing::warn!(%error, "projections were interrupted");
                    // The connection may be dead. The checkpoints may have moved although the answer was lost.
                    self.connection = None;
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
        let mut db = self.take_connection().await?;
        let mut leases = in_time(checkpoints::lease(&mut db, &self.outside, self.folder.holder)).await?;
        if leases.iter().any(|lease| matches!(lease, Lease::Refused)) && checkpoints::ensure(&mut db, &self.outside).await? {
            leases = in_time(checkpoints::lease(&mut db, &self.outside, self.folder.holder)).await?;
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
        self.join(&mut db, joining).await?;
        self.connection = (!self.members.is_empty()).then_some(db);
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
        let mut db = self.take_connection().await?;
        match self.folder.apply(&mut db, BEGIN_AS_GROUP, &self.members, page).await {
            Ok(held) => {
                (self.connection, self.failures) = (Some(db), 0);
                if self.members_leave(|member| !holds(&held, member)) > 0 {
                    (self.lost_at, self.renew_at) = (Some(Instant::now()), Instant::now());
                }
                self.members.iter_mut().for_each(|member| member.position = page.last_position);
                Ok(())
            }
            Err(error) if is_passing(&error) && self.failures < GROUP_FAILURES_MAX => {
                self.failures += 1;
                Err(error)
            }
            Err(error) => {
                self.failures = 0;
                tracing::debug!(%error, "a page failed for a group of projections; each tries it alone");
                self.members_go_alone(|_| true);
                Ok(())
            }
        }
    }

    /// The connection of the members; it is given up when a statement on it fails.
    async fn take_connection(&mut self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.folder.pool.acquire().await,
        }
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
            self.connection = None;
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
