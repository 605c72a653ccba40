//! The right of one process to run a worker.

use std::time::Duration;

use eventstore::{Pool, database::process_name};
use services::ServiceError;
use uuid::Uuid;

use super::Runs;

/// How long a process may be silent before another process takes its workers over, in seconds. If it has no connection to the database any
/// more, they are taken over at once.
const LEASE_SEC: f64 = 5.0;

/// A lease that is held. Each new holder has a higher token; what a worker does outside of the log carries the token, so that the other
/// side can refuse an earlier holder that is still running.
#[derive(Clone, Debug)]
pub struct Lease {
    pool: Pool,
    worker: &'static str,
    holder: Uuid,
    pub token: i64,
}

/// How a round ended, for the worker's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundEnd {
    /// When the next round is due, in seconds from now.
    pub due_in_sec: u32,
    pub error: Option<String>,
}

impl Lease {
    /// Acquires or renews the worker's lease; `None` while another process holds it or the worker is not due yet. It is also due when its
    /// pause, which may have been longer before, is over, and when the last round is in the future because a clock was set back.
    pub(super) async fn acquire(pool: &Pool, worker: &'static str, holder: Uuid, pause: Duration) -> Result<Option<Self>, sqlx::Error> {
        let token = sqlx::query_scalar!(
            "update workers
                set token = case when holder = $2 then token else token + 1 end, holder = $2, holder_process = $4,
                    lease_until = clock_timestamp() + make_interval(secs => $3)
              where name = $1
                and (holder = $2
                     or ((least(due_at, round_at + make_interval(secs => $5)) <= clock_timestamp() or round_at > clock_timestamp())
                         and (lease_until < clock_timestamp() or is_process_gone(holder_process))))
             returning token",
            worker,
            holder,
            LEASE_SEC,
            process_name(),
            pause.as_secs_f64()
        );
        let token = token.fetch_optional(pool).await?;
        Ok(token.map(|token| Self { pool: pool.clone(), worker, holder, token }))
    }

    /// The place of a worker without a lease.
    pub(super) fn none(pool: &Pool, worker: &'static str, holder: Uuid) -> Self {
        Self { pool: pool.clone(), worker, holder, token: 0 }
    }

    /// Extends the lease during a round; false if another process has it now.
    pub(super) async fn renew(&self) -> Result<bool, sqlx::Error> {
        let renewed = sqlx::query!(
            "update workers set lease_until = clock_timestamp() + make_interval(secs => $4)
               from (select set_config('synchronous_commit', 'off', true)) as asynchronous
              where name = $1 and holder = $2 and token = $3",
            self.worker,
            self.holder,
            self.token,
            LEASE_SEC
        );
        Ok(renewed.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// Records how a round ended. The holder keeps the lease during short pauses; during longer ones, any process may begin the next round.
    /// Returns whether it is kept. Processes without a lease share the row: an error of one of them stays for ten seconds. Does not wait for the disk, like a renewal: if the server crashes, an older row does no harm.
    pub(super) async fn record(&self, runs: Runs, end: &RoundEnd) -> Result<bool, sqlx::Error> {
        let keeps = f64::from(end.due_in_sec) < LEASE_SEC / 2.0;
        let recorded = sqlx::query!(
            "update workers
                set round_at = clock_timestamp(), due_at = clock_timestamp() + make_interval(secs => $5),
                    error = case when $6::text is null and $8 and error_at > clock_timestamp() - interval '10 seconds' then error else $6 end,
                    error_at = case when $6::text is null then error_at else clock_timestamp() end,
                    lease_until = case when $4 and not $8 then clock_timestamp() + make_interval(secs => $7) else '-infinity' end
               from (select set_config('synchronous_commit', 'off', true)) as asynchronous
              where name = $1 and ($8 or (holder = $2 and token = $3))",
            self.worker,
            self.holder,
            self.token,
            keeps,
            f64::from(end.due_in_sec),
            end.error,
            LEASE_SEC,
            runs == Runs::InEachProcess
        );
        Ok(recorded.execute(&self.pool).await?.rows_affected() > 0 && keeps)
    }

    /// Gives the lease back, so that another process can begin the next round at once.
    pub(super) async fn release(&self) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update workers set holder = null, lease_until = '-infinity', due_at = clock_timestamp() where name = $1 and holder = $2",
            self.worker,
            self.holder
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The worker's cursor on the log. A worker that has none yet begins at `end`: what happened before it existed is not its work.
    pub(super) async fn cursor(&self, end: i64) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar!(
            r#"update workers set position = coalesce(position, $4) where name = $1 and holder = $2 and token = $3 returning position as "position!""#,
            self.worker,
            self.holder,
            self.token,
            end
        )
        .fetch_one(&self.pool)
        .await
    }

    /// Moves the cursor; refused if another process has the lease now.
    pub(super) async fn move_cursor(&self, position: i64) -> Result<(), ServiceError> {
        let moved = sqlx::query!(
            "update workers set position = $4 where name = $1 and holder = $2 and token = $3",
            self.worker,
            self.holder,
            self.token,
            position
        );
        if moved.execute(&self.pool).await?.rows_affected() == 0 {
            return Err(ServiceError::unavailable("another process has this worker's lease now"));
        }
        Ok(())
    }
}
