//! The state of the workers, for operators and metrics.

use chrono::{DateTime, Utc};
use eventstore::Pool;
use uuid::Uuid;

pub use super::failures::{ATTEMPTS_MAX, retry};

#[derive(Clone, Debug)]
pub struct WorkerStatus {
    pub name: String,
    /// Whether a process holds its lease now. A worker that runs in each process has none.
    pub is_held: bool,
    /// The cursor of a worker that follows the log.
    pub position: Option<i64>,
    /// Number of events between the cursor and the end of the log.
    pub lag_events: Option<i64>,
    /// When its last round ended.
    pub round_at: Option<DateTime<Utc>>,
    /// When its next round is due; `None` before its first round.
    pub due_at: Option<DateTime<Utc>>,
    /// The error of the last round, if it failed.
    pub error: Option<String>,
    /// When a round last failed.
    pub error_at: Option<DateTime<Utc>>,
    /// Number of pieces of work that failed and will be tried again.
    pub retrying: i64,
    /// Number of pieces of work that failed too often.
    pub dead: i64,
}

#[derive(Clone, Debug)]
pub struct FailureRow {
    pub item: String,
    pub company_id: Option<Uuid>,
    pub attempts: i32,
    pub error: String,
    pub failed_at: DateTime<Utc>,
    /// When the next attempt is due; `None` for a dead letter.
    pub retry_at: Option<DateTime<Utc>>,
}

/// All workers that have run in this installation, by name.
pub async fn read(pool: &Pool) -> Result<Vec<WorkerStatus>, sqlx::Error> {
    sqlx::query_as!(
        WorkerStatus,
        r#"select w.name, w.lease_until > clock_timestamp() as "is_held!", w.position, h.position - w.position as lag_events, w.round_at,
                  nullif(w.due_at, '-infinity') as due_at, w.error, w.error_at, coalesce(f.retrying, 0) as "retrying!", coalesce(f.dead, 0) as "dead!"
             from workers w cross join log_head h
                  left join (select worker, count(retry_at) as retrying, count(*) - count(retry_at) as dead
                               from worker_failures group by worker) f on f.worker = w.name
            order by w.name"#
    )
    .fetch_all(pool)
    .await
}

/// Whether a worker of this name has run in this installation.
pub async fn exists(pool: &Pool, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"select exists (select from workers where name = $1) as "exists!""#, name).fetch_one(pool).await
}

/// What a worker failed to do, by item, after `after`.
pub async fn failures(pool: &Pool, worker: &str, after: Option<&str>, limit: i64) -> Result<Vec<FailureRow>, sqlx::Error> {
    sqlx::query_as!(
        FailureRow,
        "select item, company_id, attempts, error, failed_at, retry_at from worker_failures
          where worker = $1 and ($2::text is null or item > $2) order by item limit $3",
        worker,
        after,
        limit
    )
    .fetch_all(pool)
    .await
}
