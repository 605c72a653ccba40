//! The current state of calls.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact,
    call::{Call, CallEvent, CallSubject},
};
use eventstore::{
    HoldsPersonal, StreamName,
    persons::{Envelope, PersonalValues},
};
use rust_decimal::Decimal;
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    engine::{ApplyError, PersonalColumns, Projection, ReadModel, Recorded, Table, fit},
    page::After,
    personal::text_of,
};

pub const READ_MODEL: ReadModel = ReadModel::new("calls");

pub struct Calls;

const PERSONAL: &[PersonalColumns] =
    &[PersonalColumns { envelope: "personal", placeholders: &["phone_number"], stream: (Call::CATEGORY, "call_id"), bound: &[] }];

#[derive(Clone)]
pub struct CallRow {
    pub company_id: Uuid,
    pub call_id: Uuid,
    pub campaign_id: Option<Uuid>,
    pub task_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    pub skillbase_version: Option<i32>,
    pub direction: String,
    /// Number of the person that the call is with; [`ERASED`](domain::ERASED) until `personal` is opened.
    pub phone_number: String,
    pub person_id: Option<Uuid>,
    pub personal: Option<Json<Envelope>>,
    pub status: String,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub duration_sec: Option<Decimal>,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    pub outcome: Option<String>,
    pub outcome_confidence_percent: Option<i16>,
    pub outcome_method: Option<String>,
    pub last_event_at: DateTime<Utc>,
    pub stream_version: i64,
    pub created_at: DateTime<Utc>,
}

crate::register!(Calls);

#[async_trait]
impl Projection for Calls {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn version(&self) -> i32 {
        2
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("calls", "started_at").with_personal(PERSONAL)] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Call::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        let mut rows = load(db, events).await?;
        for event in events {
            let Fact::Call(fact) = &event.fact else { continue };
            fold(&mut rows, event, fact)?;
        }
        save(db, rows.into_values().collect()).await?;
        Ok(())
    }
}

fn fold(rows: &mut HashMap<Uuid, CallRow>, event: &Recorded, fact: &CallEvent) -> Result<(), ApplyError> {
    if let CallEvent::CallDialed(subject) | CallEvent::CallStarted { subject, .. } = fact {
        rows.entry(event.id).or_insert_with(|| CallRow::new(event, subject)).set_subject(subject, event)?;
    }
    let row = rows.get_mut(&event.id).ok_or_else(|| ApplyError::Contradiction(format!("call {} has not begun", event.id)))?;
    row.last_event_at = event.recorded_at;
    row.stream_version = event.version;
    match fact {
        CallEvent::CallDialed(_) => {}
        CallEvent::CallStarted { started_at, .. } => {
            row.started_at = *started_at;
            row.progress();
        }
        CallEvent::TurnRecorded(_) => row.progress(),
        CallEvent::CallEnded(end) => {
            row.status = "ended".to_owned();
            row.ended_at = Some(end.ended_at);
            row.duration_sec = Some(end.duration_sec);
            row.final_state.clone_from(&end.final_state);
            row.hangup_by.clone_from(&end.hangup_by);
        }
        CallEvent::CallOutcomeClassified(classification) => {
            row.outcome = classification.outcome.map(|o| o.to_string());
            row.outcome_confidence_percent = Some(i16::from(classification.confidence_percent));
            row.outcome_method = Some(classification.method.to_string());
        }
    }
    Ok(())
}

impl CallRow {
    fn new(event: &Recorded, subject: &CallSubject) -> Self {
        Self {
            company_id: event.company_id,
            call_id: event.id,
            campaign_id: None,
            task_id: None,
            skillbase_id: None,
            skillbase_version: None,
            direction: subject.direction.to_string(),
            phone_number: String::new(),
            person_id: None,
            personal: None,
            status: "dialing".to_owned(),
            // Until the call starts, this is the time when it was dialed, the same as in the call's own state.
            started_at: event.recorded_at,
            ended_at: None,
            duration_sec: None,
            final_state: None,
            hangup_by: None,
            outcome: None,
            outcome_confidence_percent: None,
            outcome_method: None,
            last_event_at: event.recorded_at,
            stream_version: event.version,
            created_at: event.recorded_at,
        }
    }

    fn set_subject(&mut self, subject: &CallSubject, event: &Recorded) -> Result<(), ApplyError> {
        self.campaign_id = subject.campaign_id;
        self.task_id = subject.task_id;
        self.skillbase_id = subject.skillbase_id;
        self.skillbase_version = subject.skillbase_version.map(fit).transpose()?;
        self.phone_number.clone_from(subject.phone_number.reveal());
        (self.person_id, self.personal) = (subject.person_id, event.personal.clone().map(Json));
        Ok(())
    }

    /// Its place in the list of calls.
    pub const fn place(&self) -> After {
        After { at: self.started_at, id: self.call_id }
    }

    fn progress(&mut self) {
        if self.status == "dialing" {
            self.status = "in_progress".to_owned();
        }
    }
}

impl HoldsPersonal for CallRow {
    fn stream(&self) -> String {
        StreamName::of::<Call>(self.call_id).to_string()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        self.personal.iter().map(|Json(envelope)| envelope.clone()).collect()
    }

    fn reveal(&mut self, values: PersonalValues) {
        for (field, value) in values {
            if field.ends_with("/phone_number") {
                self.phone_number = text_of(value);
            }
        }
    }
}

async fn load(db: &mut PgConnection, events: &[&Recorded]) -> Result<HashMap<Uuid, CallRow>, sqlx::Error> {
    let (companies, ids): (Vec<_>, Vec<_>) = events.iter().map(|event| (event.company_id, event.id)).unzip();
    let rows = sqlx::query_as!(
        CallRow,
        r#"select company_id, call_id, campaign_id, task_id, skillbase_id, skillbase_version, direction, phone_number, status, started_at,
                ended_at, duration_sec, final_state, hangup_by, outcome, outcome_confidence_percent, outcome_method, last_event_at,
                stream_version, created_at, person_id, personal as "personal: Json<Envelope>"
           from calls where (company_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))"#,
        &companies,
        &ids
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.call_id, row)).collect())
}

async fn save(db: &mut PgConnection, rows: Vec<CallRow>) -> Result<(), sqlx::Error> {
    fn column<T>(rows: &[CallRow], of: impl Fn(&CallRow) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let rows = &rows[..];
    sqlx::query!(
        "insert into calls (company_id, call_id, campaign_id, task_id, skillbase_id, skillbase_version, direction, phone_number, status,
                started_at, ended_at, duration_sec, final_state, hangup_by, outcome, outcome_confidence_percent, outcome_method,
                last_event_at, stream_version, created_at, person_id, personal)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::int[], $7::text[], $8::text[], $9::text[],
                $10::timestamptz[], $11::timestamptz[], $12::numeric[], $13::text[], $14::text[], $15::text[], $16::smallint[], $17::text[],
                $18::timestamptz[], $19::bigint[], $20::timestamptz[], $21::uuid[], $22::jsonb[])
         on conflict (company_id, call_id) do update
            set campaign_id = excluded.campaign_id, task_id = excluded.task_id, skillbase_id = excluded.skillbase_id,
                skillbase_version = excluded.skillbase_version, direction = excluded.direction, phone_number = excluded.phone_number,
                status = excluded.status, started_at = excluded.started_at, ended_at = excluded.ended_at, duration_sec = excluded.duration_sec,
                final_state = excluded.final_state, hangup_by = excluded.hangup_by, outcome = excluded.outcome,
                outcome_confidence_percent = excluded.outcome_confidence_percent, outcome_method = excluded.outcome_method,
                last_event_at = excluded.last_event_at, stream_version = excluded.stream_version,
                person_id = excluded.person_id, personal = excluded.personal",
        &column(rows, |r| r.company_id),
        &column(rows, |r| r.call_id),
        &column(rows, |r| r.campaign_id) as &[Option<Uuid>],
        &column(rows, |r| r.task_id) as &[Option<Uuid>],
        &column(rows, |r| r.skillbase_id) as &[Option<Uuid>],
        &column(rows, |r| r.skillbase_version) as &[Option<i32>],
        &column(rows, |r| r.direction.clone()),
        &column(rows, |r| r.phone_number.clone()),
        &column(rows, |r| r.status.clone()),
        &column(rows, |r| r.started_at),
        &column(rows, |r| r.ended_at) as &[Option<DateTime<Utc>>],
        &column(rows, |r| r.duration_sec) as &[Option<Decimal>],
        &column(rows, |r| r.final_state.clone()) as &[Option<String>],
        &column(rows, |r| r.hangup_by.clone()) as &[Option<String>],
        &column(rows, |r| r.outcome.clone()) as &[Option<String>],
        &column(rows, |r| r.outcome_confidence_percent) as &[Option<i16>],
        &column(rows, |r| r.outcome_method.clone()) as &[Option<String>],
        &column(rows, |r| r.last_event_at),
        &column(rows, |r| r.stream_version),
        &column(rows, |r| r.created_at),
        &column(rows, |r| r.person_id) as &[Option<Uuid>],
        &column(rows, |r| r.personal.clone()) as &[Option<Json<Envelope>>]
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn get(db: &mut PgConnection, company_id: Uuid, id: Uuid) -> Result<Option<CallRow>, sqlx::Error> {
    sqlx::query_as!(
        CallRow,
        r#"select company_id, call_id, campaign_id, task_id, skillbase_id, skillbase_version, direction, phone_number, status, started_at,
                ended_at, duration_sec, final_state, hangup_by, outcome, outcome_confidence_percent, outcome_method, last_event_at,
                stream_version, created_at, person_id, personal as "personal: Json<Envelope>"
           from calls where company_id = $1 and call_id = $2"#,
        company_id,
        id
    )
    .fetch_optional(db)
    .await
}

/// How far a call is: its status, or a status of NEW-VOICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CallProgress {
    Dialing,
    InProgress,
    Ended,
    /// Not ended.
    Active,
    /// Ended, with another outcome than `fail`.
    Completed,
    /// Ended with outcome `fail`.
    Failed,
}

/// Which calls to list; `from` and `to` bound `started_at`, half-open.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    pub progress: Option<CallProgress>,
    pub campaign_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    pub outcome: Option<String>,
    pub direction: Option<String>,
    pub person_id: Option<Uuid>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
}

/// Number of calls that pass the filter. It reads each of them.
pub async fn count(db: &mut PgConnection, company_id: Uuid, filter: &CallFilter) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from calls
            where company_id = $1 and ($2::uuid is null or campaign_id = $2) and ($3::uuid is null or skillbase_id = $3)
              and ($4::text is null or outcome = $4) and ($5::text is null or direction = $5) and ($6::uuid is null or person_id = $6)
              and ($7::timestamptz is null or started_at >= $7) and ($8::timestamptz is null or started_at < $8)
              and case $9::text when 'active' then status <> 'ended'
                                when 'completed' then status = 'ended' and outcome is distinct from 'fail'
                                when 'failed' then status = 'ended' and outcome = 'fail'
                                else $9::text is null or status = $9 end"#,
        company_id,
        filter.campaign_id,
        filter.skillbase_id,
        filter.outcome,
        filter.direction,
        filter.person_id,
        filter.from,
        filter.to,
        filter.progress.map(|progress| progress.to_string())
    )
    .fetch_one(db)
    .await
}

/// When the first call of a company started; `None` without calls.
pub async fn first_started_at(db: &mut PgConnection, company_id: Uuid) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!("select min(started_at) from calls where company_id = $1", company_id).fetch_one(db).await
}

/// Newest first, by `started_at`.
pub async fn list(
    db: &mut PgConnection,
    company_id: Uuid,
    filter: &CallFilter,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<CallRow>, sqlx::Error> {
    sqlx::query_as!(
        CallRow,
        r#"select company_id, call_id, campaign_id, task_id, skillbase_id, skillbase_version, direction, phone_number, status, started_at,
                ended_at, duration_sec, final_state, hangup_by, outcome, outcome_confidence_percent, outcome_method, last_event_at,
                stream_version, created_at, person_id, personal as "personal: Json<Envelope>"
           from calls
          where company_id = $1 and ($2::uuid is null or campaign_id = $2) and ($3::uuid is null or skillbase_id = $3)
            and ($4::text is null or outcome = $4) and ($5::text is null or direction = $5) and ($6::uuid is null or person_id = $6)
            and ($7::timestamptz is null or started_at >= $7) and ($8::timestamptz is null or started_at < $8)
            and ($9::timestamptz is null or (started_at, call_id) < ($9, $10::uuid))
            and case $12::text when 'active' then status <> 'ended'
                               when 'completed' then status = 'ended' and outcome is distinct from 'fail'
                               when 'failed' then status = 'ended' and outcome = 'fail'
                               else $12::text is null or status = $12 end
          order by started_at desc, call_id desc limit $11"#,
        company_id,
        filter.campaign_id,
        filter.skillbase_id,
        filter.outcome,
        filter.direction,
        filter.person_id,
        filter.from,
        filter.to,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit,
        filter.progress.map(|progress| progress.to_string())
    )
    .fetch_all(db)
    .await
}

/// The calls that belong to a task.
pub async fn of_task(db: &mut PgConnection, company_id: Uuid, task_id: Uuid) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!("select call_id from calls where company_id = $1 and task_id = $2", company_id, task_id).fetch_all(db).await
}

/// How many of a company's calls are in progress: they have not ended and gave a sign of life within the hour.
pub async fn live_count(db: &mut PgConnection, company_id: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from calls where company_id = $1 and status <> 'ended' and last_event_at > now() - interval '1 hour'"#,
        company_id
    )
    .fetch_one(db)
    .await
}
