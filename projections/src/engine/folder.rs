//! Folds pages for projections: the events, the checkpoints and their leases in one transaction.

use std::{num::NonZeroUsize, time::Duration};

use domain::count;
use eventstore::{Pool, StoreError};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::engine::{
    checkpoints::{self, Leased},
    feed::{Feed, Page},
    fold::{apply_caught, is_passing, wanted},
    positions::Positions,
    projection::ApplyError,
};

/// If one transaction takes longer, its connection is dead; a price list for the past may price millions of calls again.
const WORK_TIMEOUT: Duration = Duration::from_secs(3_600);
/// If moving checkpoints or renewing leases takes longer, the connection is dead: these statements wait for no lock.
const CHECKPOINTS_TIMEOUT: Duration = Duration::from_secs(5);
/// Tables grow from nothing: a plan that was made for an empty table must not be reused.
const BEGIN_ALONE: &str = "begin; set local plan_cache_mode = force_custom_plan";
/// If a statement of one member takes longer, for example because its table is locked, the other members do not wait: each goes on alone.
pub(super) const BEGIN_AS_GROUP: &str = "begin; set local plan_cache_mode = force_custom_plan; set local statement_timeout = '5s'";
/// A projection with at most so many events left joins the group.
pub(super) const NEAR: i64 = 1_000;

/// What folding needs; clones share everything.
#[derive(Clone)]
pub(super) struct Folder {
    pub pool: Pool,
    pub feed: Feed,
    pub positions: Positions,
    pub holder: Uuid,
}

impl Folder {
    pub fn left(&self, position: i64) -> i64 {
        self.feed.store().head().position() - position
    }

    /// Folds a page for projections that stand at its beginning, and moves them to its end, in one transaction. Those that it does not move
    /// have lost their lease.
    pub async fn apply(
        &self,
        db: &mut PgConnection,
        begin: &'static str,
        members: &mut [&mut Leased],
        page: &Page,
    ) -> Result<(), ApplyError> {
        let held =
            timeout(WORK_TIMEOUT, self.apply_held(db, begin, members, page)).await.unwrap_or(Err(sqlx::Error::PoolTimedOut.into()))?;
        for member in members.iter_mut().filter(|member| holds(&held, member)) {
            member.position = page.last_position;
            self.positions.advance(member.name(), page.last_position);
        }
        Ok(())
    }

    /// The names of those whose checkpoint it moved.
    async fn apply_held(
        &self,
        db: &mut PgConnection,
        begin: &'static str,
        members: &mut [&mut Leased],
        page: &Page,
    ) -> Result<Vec<String>, ApplyError> {
        let moves = (page.after, page.last_position);
        let each = members.iter().map(|member| wanted(page, member.projection.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if each.iter().all(Vec::is_empty) {
            return Ok(in_time(checkpoints::advance(db, members, self.holder, moves)).await?);
        }
        let mut tx = db.begin_with(begin).await?;
        let held = in_time(checkpoints::advance(&mut tx, members, self.holder, moves)).await?;
        for (member, events) in members.iter_mut().zip(each).filter(|(member, events)| !events.is_empty() && holds(&held, member)) {
            let begun = Instant::now();
            apply_caught(member.projection.as_ref(), &mut tx, &events).await?;
            member.took = begun.elapsed();
        }
        tx.commit().await?;
        Ok(held)
    }

    /// Folds at least one page for one projection alone, and more until it is near the end of the log. Ends early when it has lost the
    /// lease, or has stopped at an event. A page that fails is halved until the one event that cannot be applied is found.
    pub async fn fold_alone(&self, mut alone: Leased) -> Result<(), ApplyError> {
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
            match self.apply(&mut db, BEGIN_ALONE, &mut [&mut alone], &page).await {
                Ok(()) if alone.position == page.after => return Ok(()),
                Ok(()) => limit = None,
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
    pub async fn bring_to(&self, db: &mut PgConnection, behind: &mut Leased, position: i64) -> Result<bool, ApplyError> {
        while let Some(limit) = NonZeroUsize::new(count::to_usize(position - behind.position)) {
            let page = self.feed.page(behind.position, Some(limit)).await.map_err(|error| match error {
                StoreError::Unreadable { reason, .. } => ApplyError::Contradiction(reason),
                error => unavailable(&error),
            })?;
            if page.is_empty() || page.may_take_long(behind.projection.as_ref()) {
                return Err(ApplyError::Contradiction(format!("it must fold alone from position {}", behind.position)));
            }
            self.apply(db, BEGIN_AS_GROUP, &mut [&mut *behind], &page).await?;
            if behind.position == page.after {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(CHECKPOINTS_TIMEOUT, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn holds(held: &[String], member: &Leased) -> bool {
    held.iter().any(|name| name == member.name())
}

pub(super) fn unavailable(error: &StoreError) -> ApplyError {
    sqlx::Error::Protocol(error.to_string()).into()
}
