//! Limits login attempts by address and client, and registrations by client. The counts are in the database. A client with too many
//! attempts has to wait. Other clients do not have to wait, nor do users on a network from which they have logged in before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eventstore::{MasterKey, Pool};
use uuid::Uuid;

use crate::ServiceError;

/// An allowance of `burst` attempts at once, then one attempt every `every_sec` seconds.
#[derive(Clone, Copy)]
struct Allowance {
    burst: u32,
    every_sec: f64,
}

/// Attempts of one client at one address; further attempts are refused.
const AT_ADDRESS_FROM_CLIENT: Allowance = Allowance { burst: 10, every_sec: 60.0 };
/// Attempts of all clients at one address, and of one client at all addresses, without users who have logged in from the same network
/// before; further attempts are slowed down.
const AT_ADDRESS: Allowance = Allowance { burst: 100, every_sec: 9.0 };
const FROM_CLIENT: Allowance = Allowance { burst: 200, every_sec: 4.5 };
/// Slow attempts run one after the other; each takes this long.
const SLOW: Duration = Duration::from_secs(3);
/// Maximum number of slow attempts that run or wait for their turn.
const SLOW_MAX: usize = 3;
/// How long a network from which a user has logged in is stored, in days.
const KNOWN_DAYS: i32 = 90;

impl Allowance {
    /// The allowance for registrations of one client; `None` for no limit.
    fn of_registrations(per_hour: u32) -> Option<Self> {
        (per_hour > 0).then(|| Self { burst: per_hour, every_sec: 3_600.0 / f64::from(per_hour) })
    }

    /// Takes an attempt before its result is known, so that concurrent attempts cannot exceed the limit. If there is none left, returns the
    /// time until the next one, in seconds. The subjects are keyed hashes: they do not reveal the client or the address.
    async fn take(self, pool: &Pool, subject: &[u8]) -> Result<Result<(), u32>, sqlx::Error> {
        let taken = sqlx::query!(
            r#"with taken as (
                   insert into attempt_allowances as a (subject, full_at) values ($1, now() + make_interval(secs => $2))
                   on conflict (subject) do update set full_at = greatest(a.full_at, now()) + make_interval(secs => $2)
                    where greatest(a.full_at, now()) + make_interval(secs => $2) <= now() + make_interval(secs => $2 * $3::int)
                   returning true)
               select exists (select from taken) as "is_taken!",
                      (select ceil(extract(epoch from full_at + make_interval(secs => $2 - $2 * $3::int) - now()))::int
                         from attempt_allowances where subject = $1) as wait_sec"#,
            subject,
            self.every_sec,
            i32::try_from(self.burst).unwrap_or(i32::MAX)
        );
        let taken = taken.fetch_one(pool).await?;
        let wait_sec = taken.wait_sec.and_then(|wait| u32::try_from(wait).ok()).unwrap_or(1).max(1);
        Ok(if taken.is_taken { Ok(()) } else { Err(wait_sec) })
    }

    /// Returns an attempt to the allowance.
    async fn give_back(self, pool: &Pool, subject: &[u8]) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update attempt_allowances set full_at = full_at - make_interval(secs => $2) where subject = $1",
            subject,
            self.every_sec
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}

/// Counts a registration; refuses it when there were too many from this client. 0 per hour is no limit.
pub async fn count_registration(pool: &Pool, master: &MasterKey, client: &str, per_hour: u32) -> Result<(), ServiceError> {
    let Some(allowance) = Allowance::of_registrations(per_hour) else { return Ok(()) };
    let taken = allowance.take(pool, &master.derive(&format!("registrations {client}"))).await?;
    taken.map_err(|wait_sec| ServiceError::too_many("too many registrations; try again later", wait_sec))
}

/// Queues of slow attempts, by subject. Each process has its own.
#[derive(Default)]
pub struct SlowAttempts(Mutex<HashMap<Vec<u8>, Arc<tokio::sync::Mutex<()>>>>);

impl SlowAttempts {
    /// Waits for the earlier attempts, and then for the duration of one attempt; `false` at once if too many attempts are waiting.
    async fn turn(&self, subject: &[u8]) -> bool {
        let lane = {
            let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            let lane = lanes.entry(subject.to_vec()).or_default();
            // The map itself holds one reference.
            if Arc::strong_count(lane) > SLOW_MAX {
                return false;
            }
            Arc::clone(lane)
        };
        let _first = lane.lock().await;
        tokio::time::sleep(SLOW).await;
        true
    }
}

/// The limits that apply to one login attempt.
pub struct Throttle<'a> {
    pool: &'a Pool,
    slow: &'a SlowAttempts,
    own: Vec<u8>,
    shared: [(Vec<u8>, Allowance); 2],
    /// The hash of the user and this client, if the address belongs to a user.
    known: Option<Vec<u8>>,
}

impl<'a> Throttle<'a> {
    /// The limits for a client that logs in with an address; `user_id` is the user who has the address, if there is one.
    pub fn new((pool, slow): (&'a Pool, &'a SlowAttempts), master: &MasterKey, address: &str, client: &str, user_id: Option<Uuid>) -> Self {
        let subject = |what: String| master.derive(&what).to_vec();
        Self {
            pool,
            slow,
            own: subject(format!("attempt {client} {address}")),
            shared: [(subject(format!("attempt {address}")), AT_ADDRESS), (subject(format!("attempts {client}")), FROM_CLIENT)],
            known: user_id.map(|user_id| subject(format!("known {client} {user_id}"))),
        }
    }

    /// Refuses the attempt when there were too many of this client at this address, or slows it when there were too many of all at this
    /// address or of this client at all, unless the user has logged in from there before.
    pub async fn count(self) -> Result<Attempt<'a>, ServiceError> {
        let refused = |wait_sec| ServiceError::too_many("too many attempts to log in; try again later", wait_sec);
        AT_ADDRESS_FROM_CLIENT.take(self.pool, &self.own).await?.map_err(refused)?;
        let mut attempt = Attempt { pool: self.pool, own: self.own, taken: Vec::new(), known: self.known };
        if attempt.is_known().await? {
            return Ok(attempt);
        }
        for (subject, allowance) in self.shared {
            if allowance.take(self.pool, &subject).await?.is_ok() {
                attempt.taken.push((subject, allowance));
            } else if !self.slow.turn(&subject).await {
                return Err(refused(u32::try_from(SLOW.as_secs()).unwrap_or(1)));
            }
        }
        Ok(attempt)
    }
}

/// A login attempt that was counted.
pub struct Attempt<'a> {
    pool: &'a Pool,
    own: Vec<u8>,
    /// The shared allowances that the attempt has taken.
    taken: Vec<(Vec<u8>, Allowance)>,
    known: Option<Vec<u8>>,
}

impl Attempt<'_> {
    async fn is_known(&self) -> Result<bool, sqlx::Error> {
        let Some(known) = &self.known else { return Ok(false) };
        let is_known = sqlx::query_scalar!(
            r#"select exists (select from known_networks where subject = $1 and last_at > now() - make_interval(days => $2)) as "is_known!""#,
            known,
            KNOWN_DAYS
        );
        is_known.fetch_one(self.pool).await
    }

    /// It was the right password: what it has taken is given back.
    pub async fn succeeded(self) -> Result<(), ServiceError> {
        sqlx::query!("delete from attempt_allowances where subject = $1", self.own).execute(self.pool).await?;
        for (subject, allowance) in &self.taken {
            allowance.give_back(self.pool, subject).await?;
        }
        if let Some(known) = &self.known {
            sqlx::query!(
                "insert into known_networks (subject, last_at) values ($1, now()) on conflict (subject) do update set last_at = now()",
                known
            )
            .execute(self.pool)
            .await?;
        }
        Ok(())
    }
}

/// Deletes full allowances and expired networks.
pub async fn purge(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from attempt_allowances where full_at < now()").execute(pool).await?;
    sqlx::query!("delete from known_networks where last_at < now() - make_interval(days => $1)", KNOWN_DAYS).execute(pool).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_slow_attempts_wait_for_each_other_and_more_are_refused() {
        let slow = SlowAttempts::default();
        let begun = tokio::time::Instant::now();
        let turns = futures::future::join_all((0..5).map(|_| slow.turn(b"one"))).await;
        assert_eq!(turns, [true, true, true, false, false]);
        assert_eq!(begun.elapsed(), SLOW * 3);
        assert!(slow.turn(b"other").await);
        assert_eq!(slow.0.lock().unwrap().len(), 1, "lanes without an attempt are forgotten");
    }
}
