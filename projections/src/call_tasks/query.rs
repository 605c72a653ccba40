//! Queries on the tasks.

use chrono::{DateTime, Utc};
use domain::count;
use eventstore::{BoundedPage, HoldsPersonal as _, Pool, persons::Envelope};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::CallTaskRow;
use crate::page::{json_bytes, long_rows};

pub async fn get(db: &mut PgConnection, company_id: Uuid, id: Uuid) -> Result<Option<CallTaskRow>, sqlx::Error> {
    sqlx::query_as!(
        CallTaskRow,
        r#"select company_id, task_id, campaign_id, phone_number, contact_name, contact_data, status, priority, attempt_count, last_attempt_at,
                next_attempt_at, call_id, outcome, error_message, lease_sec, position, stream_version, created_at, updated_at,
                person_id, personal as "personal: Json<Envelope>", failure_personal as "failure_personal: Json<Envelope>", was_reopened
           from call_tasks where company_id = $1 and task_id = $2"#,
        company_id,
        id
    )
    .fetch_optional(db)
    .await
}

/// A filter for a campaign's tasks.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    pub status: Option<String>,
    /// Of the last attempt.
    pub outcome: Option<String>,
    pub person_id: Option<Uuid>,
}

/// Number of a campaign's tasks with a status, or of all. It reads one row, however many tasks there are.
pub async fn count(db: &mut PgConnection, company_id: Uuid, campaign_id: Uuid, status: Option<&str>) -> Result<i64, sqlx::Error> {
    let counts = sqlx::query_scalar!(
        r#"select case $3::text when 'pending' then pending when 'in_progress' then in_progress when 'retry' then retry
                       when 'completed' then completed when 'failed' then failed when 'cancelled' then cancelled
                       else pending + in_progress + retry + completed + failed + cancelled end as "n!"
             from campaign_stats where company_id = $1 and campaign_id = $2"#,
        company_id,
        campaign_id,
        status
    );
    // A campaign without tasks has no row.
    Ok(counts.fetch_optional(db).await?.unwrap_or(0))
}

/// A campaign's tasks below log position `before`, newest first.
pub async fn list(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    filter: &TaskFilter,
    before: Option<i64>,
    limit: usize,
) -> Result<BoundedPage<CallTaskRow>, sqlx::Error> {
    let mut reader = long_rows::<CallTaskRow>(limit);
    while let Some(count) = reader.rows_to_read() {
        let before = reader.last().map_or(before, |row| Some(row.position));
        let rows = rows(&mut *db, company_id, campaign_id, filter, before, count::to_i64(count)).await?;
        reader.add(rows, |row| json_bytes(&row.contact_data) + row.envelopes().iter().map(Envelope::size).sum::<usize>());
    }
    Ok(reader.into_page())
}

async fn rows(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    filter: &TaskFilter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<CallTaskRow>, sqlx::Error> {
    sqlx::query_as!(
        CallTaskRow,
        r#"select company_id, task_id, campaign_id, phone_number, contact_name, contact_data, status, priority, attempt_count, last_attempt_at,
                next_attempt_at, call_id, outcome, error_message, lease_sec, position, stream_version, created_at, updated_at,
                person_id, personal as "personal: Json<Envelope>", failure_personal as "failure_personal: Json<Envelope>", was_reopened
           from call_tasks
          where company_id = $1 and campaign_id = $2 and ($3::text is null or status = $3) and ($4::text is null or outcome = $4)
            and ($5::uuid is null or person_id = $5) and ($6::bigint is null or position < $6)
          order by position desc limit $7"#,
        company_id,
        campaign_id,
        filter.status.as_deref(),
        filter.outcome.as_deref(),
        filter.person_id,
        before,
        limit
    )
    .fetch_all(db)
    .await
}

/// The results of a campaign's tasks at a moment, as far as their rows show them.
pub struct TaskResultsAsOf {
    pub completed: i64,
    pub failed: i64,
    /// Tasks that may have been failed at the moment although they have changed since: their workers completed them late, or the company put
    /// them back.
    pub maybe_failed: Vec<Uuid>,
}

/// A completed task has no later event, and a failed one only if its worker completes it late or the company puts it back.
pub async fn results_as_of(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    moment: DateTime<Utc>,
) -> Result<TaskResultsAsOf, sqlx::Error> {
    sqlx::query_as!(
        TaskResultsAsOf,
        r#"select count(*) filter (where status = 'completed' and updated_at <= $3) as "completed!",
                  count(*) filter (where status = 'failed' and updated_at <= $3) as "failed!",
                  coalesce(array_agg(task_id) filter (where status = 'completed' and updated_at > $3 and last_attempt_at <= $3), '{}')
                      || array(select task_id from call_tasks
                                where company_id = $1 and campaign_id = $2 and was_reopened and updated_at > $3
                                  and not (status = 'completed' and last_attempt_at <= $3)) as "maybe_failed!"
             from call_tasks where company_id = $1 and campaign_id = $2 and status in ('completed', 'failed')"#,
        company_id,
        campaign_id,
        moment
    )
    .fetch_one(db)
    .await
}

/// Failed tasks of a campaign whose last attempts had one of the outcomes, or any if there are none, below log position `before`, newest
/// first: id and position.
pub async fn failed(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    outcomes: &[String],
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    let rows = sqlx::query!(
        "select task_id, position from call_tasks
          where company_id = $1 and campaign_id = $2 and status = 'failed' and ($3::text[] = '{}' or outcome = any($3))
            and ($4::bigint is null or position < $4)
          order by position desc limit $5",
        company_id,
        campaign_id,
        outcomes,
        before,
        limit
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.task_id, row.position)).collect())
}

/// The tasks to claim next: waiting or due, without a slot, highest priority first, then oldest.
pub async fn candidates(pool: &Pool, campaign_id: Uuid, now: DateTime<Utc>, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select task_id as "task_id!"
             from ((select task_id, priority, position from call_tasks t
                     where campaign_id = $1 and status = 'pending'
                       and not exists (select from claim_slots s where s.task_id = t.task_id and s.released_at is null)
                     order by priority desc, position limit $3)
                   union all
                   (select task_id, priority, position from call_tasks t
                     where campaign_id = $1 and status = 'retry' and next_attempt_at <= $2
                       and not exists (select from claim_slots s where s.task_id = t.task_id and s.released_at is null)
                     order by priority desc, position limit $3)) next
            order by priority desc, position limit $3"#,
        campaign_id,
        now,
        limit
    )
    .fetch_all(pool)
    .await
}

/// The waiting tasks of a campaign.
pub async fn waiting_of(pool: &Pool, campaign_id: Uuid, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select task_id as "task_id!" from (
               (select task_id from call_tasks where campaign_id = $1 and status = 'pending' limit $2)
               union all (select task_id from call_tasks where campaign_id = $1 and status = 'retry' limit $2)) waiting limit $2"#,
        campaign_id,
        limit
    )
    .fetch_all(pool)
    .await
}

/// A company's waiting tasks for a person.
pub async fn waiting_for(pool: &Pool, company_id: Uuid, person_id: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select task_id from call_tasks where company_id = $1 and person_id = $2 and status in ('pending', 'retry')",
        company_id,
        person_id
    )
    .fetch_all(pool)
    .await
}

/// An attempt whose call has given no sign of life for its lease.
pub struct ExpiredClaim {
    pub company_id: Uuid,
    pub campaign_id: Uuid,
    pub task_id: Uuid,
    pub call_id: Uuid,
    pub lease_sec: i32,
}

pub async fn expired_claims(pool: &Pool, limit: i64) -> Result<Vec<ExpiredClaim>, sqlx::Error> {
    sqlx::query_as!(
        ExpiredClaim,
        r#"select t.company_id, t.campaign_id, t.task_id, t.call_id as "call_id!", t.lease_sec as "lease_sec!"
             from call_tasks t left join calls c on c.company_id = t.company_id and c.call_id = t.call_id
                  left join claim_slots s on s.call_id = t.call_id
            where t.status = 'in_progress' and t.call_id is not null
              and greatest(t.last_attempt_at, c.last_event_at, s.alive_at) + make_interval(secs => t.lease_sec) < clock_timestamp()
            order by t.last_attempt_at limit $1"#,
        limit
    )
    .fetch_all(pool)
    .await
}
