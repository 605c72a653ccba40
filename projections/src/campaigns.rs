//! The current state of campaigns; their counters come from `campaign_stats`.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact,
    campaign::{Campaign, CampaignEvent, CampaignSettings},
};
use eventstore::Pool;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{ApplyError, Projection, ReadModel, Recorded, Table, fit},
    page::After,
};

pub const READ_MODEL: ReadModel = ReadModel::new("campaigns");
/// What [`list`] and [`get`] read: the campaign, and the counts of its tasks.
pub const READS: &[ReadModel] = &[READ_MODEL, crate::call_tasks::READ_MODEL];

pub struct Campaigns;

pub struct CampaignRow {
    pub campaign_id: Uuid,
    pub company_id: Uuid,
    pub status: String,
    /// [`CampaignSettings`].
    pub settings: Value,
    pub total_tasks: i64,
    pub completed_tasks: i64,
    pub failed_tasks: i64,
    pub stream_version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A campaign with work for a worker.
pub struct CampaignAtWork {
    pub company_id: Uuid,
    pub campaign_id: Uuid,
    pub total_tasks: i64,
}

#[async_trait]
impl Projection for Campaigns {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("campaigns", "created_at")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Campaign::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            let Fact::Campaign(fact) = &event.fact else { continue };
            match fact {
                CampaignEvent::CampaignCreated { settings } => create(db, event, settings).await?,
                CampaignEvent::CampaignUpdated { settings } => update(db, event, Some(settings), None, 0).await?,
                CampaignEvent::TasksAdded { count, .. } => {
                    update(db, event, None, None, fit(*count)?).await?;
                }
                CampaignEvent::CallListImported { .. } => update(db, event, None, None, 0).await?,
                CampaignEvent::CampaignStarted {} | CampaignEvent::CampaignResumed {} => {
                    update(db, event, None, Some("running"), 0).await?
                }
                CampaignEvent::CampaignPaused {} => update(db, event, None, Some("paused"), 0).await?,
                CampaignEvent::CampaignCompleted {} => update(db, event, None, Some("completed"), 0).await?,
                CampaignEvent::CampaignDeleted {} => update(db, event, None, Some("deleted"), 0).await?,
            }
        }
        Ok(())
    }
}

fn to_json(settings: &CampaignSettings) -> Result<Value, ApplyError> {
    serde_json::to_value(settings).map_err(|e| ApplyError::Contradiction(e.to_string()))
}

async fn create(db: &mut PgConnection, event: &Recorded, settings: &CampaignSettings) -> Result<(), ApplyError> {
    sqlx::query!(
        "insert into campaigns (company_id, campaign_id, skillbase_id, name, status, settings, total_tasks, dialed_by, stream_version, created_at, updated_at)
         values ($1, $2, $3, $4, 'draft', $5, 0, $6, $7, $8, $8)",
        event.company_id,
        event.id,
        settings.skillbase_id,
        settings.name,
        to_json(settings)?,
        settings.dialed_by,
        event.version,
        event.recorded_at
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn update(
    db: &mut PgConnection,
    event: &Recorded,
    settings: Option<&CampaignSettings>,
    status: Option<&str>,
    more_tasks: i64,
) -> Result<(), ApplyError> {
    let updated = sqlx::query!(
        "update campaigns
            set settings = coalesce($3, settings), name = coalesce($4, name), skillbase_id = coalesce($5, skillbase_id),
                dialed_by = coalesce($6, dialed_by), status = coalesce($7, status), total_tasks = total_tasks + $8,
                stream_version = $9, updated_at = $10
          where company_id = $1 and campaign_id = $2",
        event.company_id,
        event.id,
        settings.map(to_json).transpose()?,
        settings.map(|s| &s.name),
        settings.map(|s| s.skillbase_id),
        settings.map(|s| &s.dialed_by),
        status,
        more_tasks,
        event.version,
        event.recorded_at
    )
    .execute(db)
    .await?;
    match updated.rows_affected() {
        1 => Ok(()),
        _ => Err(ApplyError::Contradiction(format!("campaign {} was never created", event.id))),
    }
}

pub async fn get(db: &mut PgConnection, company_id: Uuid, id: Uuid) -> Result<Option<CampaignRow>, sqlx::Error> {
    sqlx::query_as!(
        CampaignRow,
        r#"select c.campaign_id, c.company_id, c.status, c.settings, c.total_tasks, coalesce(s.completed, 0) as "completed_tasks!",
                  coalesce(s.failed, 0) as "failed_tasks!", c.stream_version, c.created_at, c.updated_at
             from campaigns c left join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
            where c.company_id = $1 and c.campaign_id = $2 and c.status <> 'deleted'"#,
        company_id,
        id
    )
    .fetch_optional(db)
    .await
}

/// Newest first.
pub async fn list(
    db: &mut PgConnection,
    company_id: Uuid,
    status: Option<&str>,
    skillbase_id: Option<Uuid>,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<CampaignRow>, sqlx::Error> {
    sqlx::query_as!(
        CampaignRow,
        r#"select c.campaign_id, c.company_id, c.status, c.settings, c.total_tasks, coalesce(s.completed, 0) as "completed_tasks!",
                  coalesce(s.failed, 0) as "failed_tasks!", c.stream_version, c.created_at, c.updated_at
             from campaigns c left join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
            where c.company_id = $1 and c.status <> 'deleted' and ($2::text is null or c.status = $2) and ($3::uuid is null or c.skillbase_id = $3)
              and ($4::timestamptz is null or (c.created_at, c.campaign_id) < ($4, $5::uuid))
            order by c.created_at desc, c.campaign_id desc limit $6"#,
        company_id,
        status,
        skillbase_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    )
    .fetch_all(db)
    .await
}

/// Running campaigns of every company that `dialed_by` dials.
pub async fn running(pool: &Pool, dialed_by: &str) -> Result<Vec<CampaignAtWork>, sqlx::Error> {
    sqlx::query_as!(
        CampaignAtWork,
        "select company_id, campaign_id, total_tasks from campaigns where status = 'running' and dialed_by = $1",
        dialed_by
    )
    .fetch_all(pool)
    .await
}

/// Running campaigns of every company that have no task left to do.
pub async fn finished(pool: &Pool, limit: i64) -> Result<Vec<CampaignAtWork>, sqlx::Error> {
    sqlx::query_as!(
        CampaignAtWork,
        "select c.company_id, c.campaign_id, c.total_tasks
           from campaigns c join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
          where c.status = 'running' and s.pending + s.in_progress + s.retry = 0
            and s.completed + s.failed + s.cancelled = c.total_tasks limit $1",
        limit
    )
    .fetch_all(pool)
    .await
}

/// Campaigns of every company that still have waiting tasks although the campaign is deleted, or is running and has passed its end.
pub async fn ended_with_tasks(pool: &Pool, now: DateTime<Utc>, limit: i64) -> Result<Vec<CampaignAtWork>, sqlx::Error> {
    sqlx::query_as!(
        CampaignAtWork,
        "select c.company_id, c.campaign_id, c.total_tasks
           from campaigns c join campaign_stats s on s.company_id = c.company_id and s.campaign_id = c.campaign_id
          where (c.status = 'deleted' or (c.status = 'running' and (c.settings ->> 'end_time')::timestamptz <= $1)) and s.pending + s.retry > 0
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
