//! The current state of campaigns; the counts of their tasks come from `campaign_stats`.

use chrono::{DateTime, Utc};
use domain::campaign::{Campaign, LiveCampaign};
use eventstore::Pool;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Document, ReadModel,
    call_tasks::PacingCounts,
    engine::document::{DocumentRow, document},
    page::After,
};

document! { Campaigns stores Campaign (LiveCampaign) in "campaigns" by "campaign_id", version 2, personal [] }

/// What [`list`] and [`get_with_counts`] read: the campaign, and the counts of its tasks.
pub const READS: &[ReadModel] = &[READ_MODEL, crate::call_tasks::READ_MODEL];

/// A campaign with the counts of its tasks.
pub struct CountedCampaign {
    pub campaign: Document<Campaign>,
    pub completed_tasks: i64,
    pub failed_tasks: i64,
    pub pacing: PacingCounts,
}

/// A campaign with work for a worker.
pub struct CampaignAtWork {
    pub company_id: Uuid,
    pub campaign_id: Uuid,
}

/// Columns of [`CountedCampaign`].
struct CountedRow {
    company_id: Uuid,
    id: Uuid,
    stream_version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted_at: Option<DateTime<Utc>>,
    body: Value,
    completed_tasks: i64,
    failed_tasks: i64,
    pending: i64,
    in_progress: i64,
    claims_last_60s: i64,
    due_retries: i64,
    next_due_at: Option<DateTime<Utc>>,
}

impl From<CountedRow> for CountedCampaign {
    fn from(row: CountedRow) -> Self {
        let CountedRow { company_id, id, stream_version, created_at, updated_at, deleted_at, body, completed_tasks, failed_tasks, .. } =
            row;
        let CountedRow { pending, in_progress, claims_last_60s, due_retries, next_due_at, .. } = row;
        let pacing = PacingCounts { in_progress, claims_last_60s, due: pending + due_retries, next_due_at };
        let row = DocumentRow { company_id, id, stream_version, created_at, updated_at, deleted_at, body, personal: None };
        Self { campaign: Document::new(row), completed_tasks, failed_tasks, pacing }
    }
}

/// The campaign, also after its deletion.
pub async fn get_with_counts(db: &mut PgConnection, company_id: Uuid, id: Uuid) -> Result<Option<CountedCampaign>, sqlx::Error> {
    let row = sqlx::query_as!(
        CountedRow,
        r#"select c.company_id, c.campaign_id as id, c.stream_version, c.created_at, c.updated_at, c.deleted_at, c.body,
                  coalesce(s.completed, 0) as "completed_tasks!", coalesce(s.failed, 0) as "failed_tasks!", coalesce(s.pending, 0) as "pending!",
                  p.in_progress as "in_progress!", p.claims_last_60s as "claims_last_60s!", p.due_retries as "due_retries!",
                  p.next_due_at as "next_due_at?"
             from campaigns c cross join lateral campaign_pacing(c.company_id, c.campaign_id) p
                  left join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
            where c.company_id = $1 and c.campaign_id = $2"#,
        company_id,
        id
    );
    Ok(row.fetch_optional(db).await?.map(CountedCampaign::from))
}

/// Number of campaigns that are not deleted.
pub async fn count(db: &mut PgConnection, company_id: Uuid, status: Option<&str>, skillbase_id: Option<Uuid>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from campaigns
            where company_id = $1 and deleted_at is null and ($2::text is null or status = $2) and ($3::uuid is null or skillbase_id = $3)"#,
        company_id,
        status,
        skillbase_id
    )
    .fetch_one(db)
    .await
}

/// The campaigns that are not deleted, newest first.
pub async fn list(
    db: &mut PgConnection,
    company_id: Uuid,
    status: Option<&str>,
    skillbase_id: Option<Uuid>,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<CountedCampaign>, sqlx::Error> {
    let rows = sqlx::query_as!(
        CountedRow,
        r#"select c.company_id, c.campaign_id as id, c.stream_version, c.created_at, c.updated_at, c.deleted_at, c.body,
                  coalesce(s.completed, 0) as "completed_tasks!", coalesce(s.failed, 0) as "failed_tasks!", coalesce(s.pending, 0) as "pending!",
                  p.in_progress as "in_progress!", p.claims_last_60s as "claims_last_60s!", p.due_retries as "due_retries!",
                  p.next_due_at as "next_due_at?"
             from campaigns c cross join lateral campaign_pacing(c.company_id, c.campaign_id) p
                  left join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
            where c.company_id = $1 and c.deleted_at is null and ($2::text is null or c.status = $2)
              and ($3::uuid is null or c.skillbase_id = $3)
              and ($4::timestamptz is null or (c.created_at, c.campaign_id) < ($4, $5::uuid))
            order by c.created_at desc, c.campaign_id desc limit $6"#,
        company_id,
        status,
        skillbase_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(CountedCampaign::from).collect())
}

/// Running campaigns of every company that `dialed_by` dials.
pub async fn running(pool: &Pool, dialed_by: &str) -> Result<Vec<CampaignAtWork>, sqlx::Error> {
    sqlx::query_as!(CampaignAtWork, "select company_id, campaign_id from campaigns where status = 'running' and dialed_by = $1", dialed_by)
        .fetch_all(pool)
        .await
}

/// Running campaigns of every company that have no task left to do.
pub async fn finished(pool: &Pool, limit: i64) -> Result<Vec<CampaignAtWork>, sqlx::Error> {
    sqlx::query_as!(
        CampaignAtWork,
        "select c.company_id, c.campaign_id
           from campaigns c join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
          where c.status = 'running' and s.pending + s.in_progress + s.retry = 0
            and s.completed + s.failed + s.cancelled = c.total_tasks limit $1",
        limit
    )
    .fetch_all(pool)
    .await
}

/// Whether the campaign is running and has no task left to do.
pub async fn is_finished(pool: &Pool, company_id: Uuid, campaign_id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
               select from campaigns c join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
                where c.company_id = $1 and c.campaign_id = $2 and c.status = 'running' and s.pending + s.in_progress + s.retry = 0
                  and s.completed + s.failed + s.cancelled = c.total_tasks) as "finished!""#,
        company_id,
        campaign_id
    )
    .fetch_one(pool)
    .await
}

/// Campaigns of every company that still have waiting tasks although no further attempt may begin: the campaign is deleted, or it is running
/// and either has passed its end time or is finishing.
pub async fn ended_with_tasks(pool: &Pool, now: DateTime<Utc>, limit: i64) -> Result<Vec<CampaignAtWork>, sqlx::Error> {
    sqlx::query_as!(
        CampaignAtWork,
        "select c.company_id, c.campaign_id
           from campaigns c join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
          where (c.status = 'deleted' or (c.status = 'running' and ((c.body #>> '{settings,end_time}')::timestamptz <= $1 or c.body ->> 'is_finishing' = 'true'))) and s.pending + s.retry > 0
          limit $2",
        now,
        limit
    )
    .fetch_all(pool)
    .await
}

/// Whether a running campaign uses the skillbase.
pub async fn runs_on(db: &mut PgConnection, company_id: Uuid, skillbase_id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from campaigns where company_id = $1 and skillbase_id = $2 and status = 'running') as "runs!""#,
        company_id,
        skillbase_id
    )
    .fetch_one(db)
    .await
}
