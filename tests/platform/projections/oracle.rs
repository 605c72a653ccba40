//! Compares read models with the rules of the aggregates: each stream is folded by its decider, and its row must be equal. A rebuild runs
//! the same fold twice and can only show that order, pages and crashes have no effect; this test shows that the fold is correct.

use chrono::{DateTime, Utc};
use domain::{
    call::{Call, CallStatus},
    campaign::Campaign,
    task::Task,
    user::User,
};
use eventstore::{EventStore, Pool};
use rust_decimal::Decimal;
use sqlx::FromRow;
use uuid::Uuid;

#[derive(Debug, PartialEq, FromRow)]
struct TaskRow {
    company_id: Uuid,
    task_id: Uuid,
    campaign_id: Uuid,
    status: String,
    priority: i32,
    attempt_count: i32,
    last_attempt_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    call_id: Option<Uuid>,
    outcome: Option<String>,
    stream_version: i64,
}

#[derive(Debug, PartialEq, FromRow)]
struct CallRow {
    company_id: Uuid,
    call_id: Uuid,
    campaign_id: Option<Uuid>,
    task_id: Option<Uuid>,
    skillbase_version: Option<i32>,
    status: String,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    duration_sec: Option<Decimal>,
    outcome: Option<String>,
    stream_version: i64,
}

#[derive(Debug, PartialEq, FromRow)]
struct CampaignRow {
    company_id: Uuid,
    campaign_id: Uuid,
    skillbase_id: Uuid,
    name: String,
    status: String,
    total_tasks: i64,
    stream_version: i64,
}

#[derive(Debug, PartialEq, FromRow)]
struct UserRow {
    company_id: Uuid,
    user_id: Uuid,
    role: String,
    status: String,
}

/// Returns the number of compared rows; panics at the first row that differs from its stream.
pub async fn compare_with_deciders(pool: &Pool, store: &EventStore) -> usize {
    tasks(pool, store).await + calls(pool, store).await + campaigns(pool, store).await + users(pool, store).await
}

async fn tasks(pool: &Pool, store: &EventStore) -> usize {
    let sql =
        "select company_id, task_id, campaign_id, status, priority, attempt_count, last_attempt_at, next_attempt_at, call_id, outcome,
                      stream_version from call_tasks";
    let rows: Vec<TaskRow> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    for row in &rows {
        let loaded = store.load_fresh::<Task>(row.company_id, row.task_id).await.unwrap();
        let task = loaded.state.present().unwrap();
        let told = TaskRow {
            company_id: row.company_id,
            task_id: row.task_id,
            campaign_id: task.contact.campaign_id,
            status: task.status.to_string(),
            priority: task.contact.priority,
            attempt_count: task.attempt_count.try_into().unwrap(),
            last_attempt_at: task.last_attempt_at,
            next_attempt_at: task.next_attempt_at,
            call_id: task.call_id,
            outcome: task.outcome.map(|outcome| outcome.to_string()),
            stream_version: loaded.version,
        };
        assert_eq!(*row, told);
    }
    rows.len()
}

async fn calls(pool: &Pool, store: &EventStore) -> usize {
    let sql = "select company_id, call_id, campaign_id, task_id, skillbase_version, status, started_at, ended_at, duration_sec, outcome,
                      stream_version from calls";
    let rows: Vec<CallRow> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    for row in &rows {
        let loaded = store.load_fresh::<Call>(row.company_id, row.call_id).await.unwrap();
        let call = loaded.state.present().unwrap();
        let told = CallRow {
            company_id: row.company_id,
            call_id: row.call_id,
            campaign_id: call.subject.campaign_id,
            task_id: call.subject.task_id,
            skillbase_version: call.subject.skillbase_version.map(|version| version.try_into().unwrap()),
            status: call.status().to_string(),
            // Until a call has started, its row has the time at which it was dialed.
            started_at: call.started_at.unwrap_or(loaded.created_at),
            ended_at: call.end.as_ref().map(|end| end.ended_at),
            duration_sec: call.end.as_ref().map(|end| end.duration_sec),
            outcome: call.classification.and_then(|told| told.outcome).map(|outcome| outcome.to_string()),
            stream_version: loaded.version,
        };
        assert_eq!(*row, told);
        assert_eq!(call.status() == CallStatus::Ended, row.ended_at.is_some());
    }
    rows.len()
}

async fn campaigns(pool: &Pool, store: &EventStore) -> usize {
    let sql = "select company_id, campaign_id, skillbase_id, name, status, total_tasks, stream_version from campaigns";
    let rows: Vec<CampaignRow> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    for row in &rows {
        let loaded = store.load_fresh::<Campaign>(row.company_id, row.campaign_id).await.unwrap();
        let Some(live) = loaded.state.present() else {
            assert_eq!((row.status.as_str(), row.stream_version), ("deleted", loaded.version));
            continue;
        };
        let told = CampaignRow {
            company_id: row.company_id,
            campaign_id: row.campaign_id,
            skillbase_id: live.settings.skillbase_id,
            name: live.settings.name.clone(),
            status: live.status.to_string(),
            total_tasks: live.total_tasks.try_into().unwrap(),
            stream_version: loaded.version,
        };
        assert_eq!(*row, told);
    }
    rows.len()
}

async fn users(pool: &Pool, store: &EventStore) -> usize {
    let sql = "select company_id, user_id, role, status from users";
    let rows: Vec<UserRow> = sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    for row in &rows {
        let loaded = store.load_fresh::<User>(row.company_id, row.user_id).await.unwrap();
        let user = loaded.state.present().unwrap();
        let (role, status) = (user.role.to_string(), user.status.to_string());
        assert_eq!(*row, UserRow { company_id: row.company_id, user_id: row.user_id, role, status });
    }
    rows.len()
}
