//! Failed work of workers: it is tried again after growing pauses; after the last attempt it is a dead letter that waits for an operator.

use std::collections::HashMap;

use eventstore::{CommandError as _, Pool, StoreError};
use services::ServiceError;
use uuid::Uuid;

/// Number of attempts after which a piece of work is a dead letter.
pub const ATTEMPTS_MAX: i32 = 10;
/// Longest error text that is stored, in characters.
const ERROR_MAX: usize = 1_000;

/// Identifies a piece of work of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemKey {
    /// The company whose work it is; `None` for work of the whole installation.
    pub company_id: Option<Uuid>,
    /// Unique within the worker.
    pub item: String,
}

/// A failed piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// Whether it may be tried now. A dead letter may not.
    pub is_due: bool,
}

/// Whether the work may succeed when it is simply repeated: the database or a part of the platform failed, not the work.
pub(super) fn is_passing(error: &ServiceError) -> bool {
    match error {
        ServiceError::Unavailable(_) => true,
        ServiceError::Database(error) => projections::is_passing_sql(error),
        ServiceError::Store(error) => {
            error.is_conflict() || matches!(error, StoreError::Overloaded | StoreError::ShuttingDown | StoreError::AppendFailed(_))
        }
        _ => false,
    }
}

/// All failures of a worker, by item.
pub(super) async fn all_of(pool: &Pool, worker: &str) -> Result<HashMap<String, Failed>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select item, coalesce(retry_at <= clock_timestamp(), false) as "is_due!" from worker_failures where worker = $1"#,
        worker
    );
    Ok(rows.fetch_all(pool).await?.into_iter().map(|row| (row.item, Failed { is_due: row.is_due })).collect())
}

/// Records a failed attempt. The next one follows after 2, 4, 8 … seconds; after [`ATTEMPTS_MAX`] attempts there is no next one.
pub(super) async fn record(pool: &Pool, worker: &str, key: &ItemKey, error: &ServiceError) -> Result<(), sqlx::Error> {
    let error: String = error.to_string().chars().take(ERROR_MAX).collect();
    let attempts = sqlx::query_scalar!(
        "insert into worker_failures as f (worker, item, company_id, attempts, error, failed_at, retry_at)
         values ($1, $2, $3, 1, $4, clock_timestamp(), clock_timestamp() + interval '2 seconds')
         on conflict (worker, item) do update
            set attempts = f.attempts + 1, error = $4, failed_at = clock_timestamp(),
                retry_at = case when f.attempts + 1 < $5 then clock_timestamp() + interval '1 second' * power(2, f.attempts + 1) end
         returning attempts",
        worker,
        key.item,
        key.company_id,
        error,
        ATTEMPTS_MAX
    );
    let attempts = attempts.fetch_one(pool).await?;
    if attempts >= ATTEMPTS_MAX {
        tracing::error!(worker, item = key.item, %error, "a worker failed too often and gives this work up; an operator can have it tried again");
    } else {
        tracing::warn!(worker, item = key.item, %error, attempts, "a worker failed; it tries again");
    }
    Ok(())
}

/// Forgets a failure, because the work is done.
pub(super) async fn forget(pool: &Pool, worker: &str, item: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from worker_failures where worker = $1 and item = $2", worker, item).execute(pool).await?;
    Ok(())
}

/// Forgets the failures of work that is no longer due.
pub(super) async fn forget_others(pool: &Pool, worker: &str, due: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from worker_failures where worker = $1 and item <> all($2)", worker, due).execute(pool).await?;
    Ok(())
}

/// Has all failed work of a worker tried again now, dead letters too; returns their number.
pub async fn retry(pool: &Pool, worker: &str) -> Result<u64, sqlx::Error> {
    let retried = sqlx::query!(
        "update worker_failures set attempts = 0, retry_at = clock_timestamp() where worker = $1 and (retry_at is null or attempts > 0)",
        worker
    );
    Ok(retried.execute(pool).await?.rows_affected())
}
