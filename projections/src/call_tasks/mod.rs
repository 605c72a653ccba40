//! The current state of call tasks, and how many tasks of a campaign have which status.

mod query;
mod stats;

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact,
    task::{AttemptFailure, Task, TaskEvent},
};
use eventstore::{
    HoldsPersonal, StreamName,
    persons::{Envelope, PersonalValues},
};
use serde_json::{Value, json};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

pub use query::{
    ExpiredClaim, TaskFilter, TaskResultsAsOf, candidates, count, expired_claims, failed, get, list, results_as_of, waiting_for, waiting_of,
};
pub use stats::{CampaignStatsRow, PacingCounts, STATS_AS_OF_READS, STATS_READS, campaign_stats, campaign_stats_as_of};

use crate::{
    engine::{ApplyError, PersonalColumns, Projection, ReadModel, Recorded, Table, fit},
    personal::text_of,
};

pub const READ_MODEL: ReadModel = ReadModel::new("call_tasks");

pub struct CallTasks;

const PERSONAL: &[PersonalColumns] = &[
    PersonalColumns {
        envelope: "personal",
        placeholders: &["phone_number", "contact_name", "contact_data"],
        stream: (Task::CATEGORY, "task_id"),
        bound: &[],
    },
    PersonalColumns {
        envelope: "failure_personal",
        placeholders: &["error_message"],
        stream: (Task::CATEGORY, "task_id"),
        bound: &[("/failure/call_id", "call_id")],
    },
];

#[derive(Clone)]
pub struct CallTaskRow {
    pub company_id: Uuid,
    pub task_id: Uuid,
    pub campaign_id: Uuid,
    pub person_id: Option<Uuid>,
    pub phone_number: String,
    pub contact_name: Option<String>,
    pub contact_data: Value,
    pub status: String,
    pub priority: i32,
    pub attempt_count: i32,
    pub last_attempt_at: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub call_id: Option<Uuid>,
    pub outcome: Option<String>,
    pub error_message: Option<String>,
    pub lease_sec: Option<i32>,
    /// Whether the company has put it back after it had failed.
    pub was_reopened: bool,
    /// The log position at which it was created.
    pub position: i64,
    pub stream_version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// The envelope of the contact data; the columns have placeholders until it is opened.
    pub personal: Option<Json<Envelope>>,
    /// The envelope of the last failed attempt's message.
    pub failure_personal: Option<Json<Envelope>>,
}

impl HoldsPersonal for CallTaskRow {
    fn stream(&self) -> String {
        StreamName::of::<Task>(self.task_id).to_string()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        // Only the last attempt can be the failed one: when another attempt begins, the failure is removed.
        let failure = self.failure_personal.iter().map(|Json(envelope)| envelope.clone().beside("/failure/call_id", json!(self.call_id)));
        self.personal.iter().map(|Json(envelope)| envelope.clone()).chain(failure).collect()
    }

    fn reveal(&mut self, values: PersonalValues) {
        for (field, value) in values {
            match field.as_str() {
                "/phone_number" => self.phone_number = text_of(value),
                "/contact_name" => self.contact_name = Some(text_of(value)),
                "/contact_data" => self.contact_data = value,
                "/failure/error_message" => self.error_message = Some(text_of(value)),
                _ => {}
            }
        }
    }
}

crate::register!(CallTasks);

#[async_trait]
impl Projection for CallTasks {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("call_tasks", "created_at").with_personal(PERSONAL), Table::new("campaign_stats")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Task::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        let before = load(db, events).await?;
        let mut rows = before.clone();
        for event in events {
            let Fact::Task(fact) = &event.fact else { continue };
            fold(&mut rows, event, fact)?;
        }
        stats::add(db, &before, &rows, events).await?;
        save(db, rows.into_values().collect()).await?;
        Ok(())
    }
}

fn fold(rows: &mut HashMap<Uuid, CallTaskRow>, event: &Recorded, fact: &TaskEvent) -> Result<(), ApplyError> {
    if let TaskEvent::TaskCreated(contact) = fact {
        rows.insert(
            event.id,
            CallTaskRow {
                company_id: event.company_id,
                task_id: event.id,
                campaign_id: contact.campaign_id,
                person_id: contact.person_id,
                phone_number: contact.phone_number.reveal().clone(),
                contact_name: contact.contact_name.as_ref().map(|name| name.reveal().clone()),
                contact_data: Value::Object(contact.contact_data.reveal().clone()),
                status: "pending".to_owned(),
                priority: contact.priority,
                attempt_count: 0,
                last_attempt_at: None,
                next_attempt_at: None,
                call_id: None,
                outcome: None,
                error_message: None,
                lease_sec: None,
                was_reopened: false,
                position: event.position,
                stream_version: event.version,
                created_at: event.recorded_at,
                updated_at: event.recorded_at,
                personal: event.personal.clone().map(Json),
                failure_personal: None,
            },
        );
    }
    let row = rows.get_mut(&event.id).ok_or_else(|| ApplyError::Contradiction(format!("task {} was never created", event.id)))?;
    row.stream_version = event.version;
    row.updated_at = event.recorded_at;
    match fact {
        TaskEvent::TaskCreated(_) => {}
        TaskEvent::TaskClaimed { call_id, attempt, lease_sec, claimed_at, .. } => {
            row.set("in_progress", None);
            row.attempt_count = fit(*attempt)?;
            row.last_attempt_at = Some(*claimed_at);
            row.call_id = Some(*call_id);
            row.lease_sec = Some(fit(*lease_sec)?);
        }
        TaskEvent::TaskCompleted { outcome, .. } => {
            row.set("completed", None);
            row.outcome = Some(outcome.to_string());
        }
        TaskEvent::TaskRetryScheduled { failure, next_attempt_at, .. } => {
            row.set("retry", Some((failure, event)));
            row.next_attempt_at = Some(*next_attempt_at);
        }
        TaskEvent::TaskFailed { failure, .. } => row.set("failed", Some((failure, event))),
        TaskEvent::TaskCancelled { .. } => {
            row.status = "cancelled".to_owned();
            row.next_attempt_at = None;
        }
        TaskEvent::TaskReopened { next_attempt_at, .. } => {
            row.status = "retry".to_owned();
            row.next_attempt_at = Some(*next_attempt_at);
            row.was_reopened = true;
        }
    }
    Ok(())
}

impl CallTaskRow {
    fn set(&mut self, status: &str, failure: Option<(&AttemptFailure, &Recorded)>) {
        self.status = status.to_owned();
        self.outcome = failure.and_then(|(f, _)| f.outcome).map(|o| o.to_string());
        self.error_message = failure.map(|(f, _)| f.error_message.reveal().clone());
        self.failure_personal = failure.and_then(|(_, event)| event.personal.clone().map(Json));
        (self.next_attempt_at, self.lease_sec) = (None, None);
    }
}

async fn load(db: &mut PgConnection, events: &[&Recorded]) -> Result<HashMap<Uuid, CallTaskRow>, sqlx::Error> {
    let old = events.iter().filter(|event| event.version > 1);
    let (companies, ids): (Vec<_>, Vec<_>) = old.map(|event| (event.company_id, event.id)).unzip();
    let rows = sqlx::query_as!(
        CallTaskRow,
        r#"select company_id, task_id, campaign_id, phone_number, contact_name, contact_data, status, priority, attempt_count, last_attempt_at,
                next_attempt_at, call_id, outcome, error_message, lease_sec, position, stream_version, created_at, updated_at,
                person_id, personal as "personal: Json<Envelope>", failure_personal as "failure_personal: Json<Envelope>", was_reopened
           from call_tasks where (company_id, task_id) in (select * from unnest($1::uuid[], $2::uuid[]))"#,
        &companies,
        &ids
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.task_id, row)).collect())
}

async fn save(db: &mut PgConnection, rows: Vec<CallTaskRow>) -> Result<(), sqlx::Error> {
    fn column<T>(rows: &[CallTaskRow], of: impl Fn(&CallTaskRow) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let rows = &rows[..];
    sqlx::query!(
        "insert into call_tasks (company_id, task_id, campaign_id, phone_number, contact_name, contact_data, status, priority, attempt_count,
                last_attempt_at, next_attempt_at, call_id, outcome, error_message, lease_sec, position, stream_version, created_at, updated_at,
                person_id, personal, failure_personal, was_reopened)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::text[], $8::int[], $9::int[],
                $10::timestamptz[], $11::timestamptz[], $12::uuid[], $13::text[], $14::text[], $15::int[], $16::bigint[], $17::bigint[],
                $18::timestamptz[], $19::timestamptz[], $20::uuid[], $21::jsonb[], $22::jsonb[], $23::boolean[])
         on conflict (company_id, task_id) do update
            set status = excluded.status, attempt_count = excluded.attempt_count, last_attempt_at = excluded.last_attempt_at,
                next_attempt_at = excluded.next_attempt_at, call_id = excluded.call_id, outcome = excluded.outcome,
                error_message = excluded.error_message, lease_sec = excluded.lease_sec, stream_version = excluded.stream_version,
                updated_at = excluded.updated_at, failure_personal = excluded.failure_personal,
                was_reopened = excluded.was_reopened",
        &column(rows, |r| r.company_id),
        &column(rows, |r| r.task_id),
        &column(rows, |r| r.campaign_id),
        &column(rows, |r| r.phone_number.clone()),
        &column(rows, |r| r.contact_name.clone()) as &[Option<String>],
        &column(rows, |r| r.contact_data.clone()),
        &column(rows, |r| r.status.clone()),
        &column(rows, |r| r.priority),
        &column(rows, |r| r.attempt_count),
        &column(rows, |r| r.last_attempt_at) as &[Option<DateTime<Utc>>],
        &column(rows, |r| r.next_attempt_at) as &[Option<DateTime<Utc>>],
        &column(rows, |r| r.call_id) as &[Option<Uuid>],
        &column(rows, |r| r.outcome.clone()) as &[Option<String>],
        &column(rows, |r| r.error_message.clone()) as &[Option<String>],
        &column(rows, |r| r.lease_sec) as &[Option<i32>],
        &column(rows, |r| r.position),
        &column(rows, |r| r.stream_version),
        &column(rows, |r| r.created_at),
        &column(rows, |r| r.updated_at),
        &column(rows, |r| r.person_id) as &[Option<Uuid>],
        &column(rows, |r| r.personal.clone()) as &[Option<Json<Envelope>>],
        &column(rows, |r| r.failure_personal.clone()) as &[Option<Json<Envelope>>],
        &column(rows, |r| r.was_reopened)
    )
    .execute(db)
    .await?;
    Ok(())
}
