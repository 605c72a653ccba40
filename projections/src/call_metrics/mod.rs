//! Call metrics: one row per call with everything that was measured, and totals of the calls per hour, campaign and skillbase: sums and
//! counts, exact extremes, mergeable histograms. Nothing is averaged twice.

mod query;
mod rollups;

use std::{
    collections::HashMap,
    fmt::{Display, Write as _},
};

use async_trait::async_trait;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use domain::{
    Decider, Fact,
    call::{Call, CallEvent, CallSubject, Turn},
    latency::Latency,
};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

pub use query::{Aggregate, LatencyAggregate, aggregate, get_with_costs, of_calls};

use crate::engine::{ApplyError, Projection, ReadModel, Recorded, Table};

pub const READ_MODEL: ReadModel = ReadModel::new("call_metrics");

pub struct CallMetrics;

#[derive(Clone, Debug, PartialEq)]
pub struct CallMetricsRow {
    pub company_id: Uuid,
    pub call_id: Uuid,
    pub campaign_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    pub started_at: DateTime<Utc>,
    pub turn_count: i64,
    pub interruption_count: i64,
    pub stt_duration_sec: Option<Decimal>,
    pub llm_input_tokens: Option<i64>,
    pub llm_output_tokens: Option<i64>,
    pub tts_characters: Option<i64>,
    /// In ascending order.
    pub ttfb_stt_us: Vec<i64>,
    pub latency_llm_us: Vec<i64>,
    pub ttfb_tts_us: Vec<i64>,
    pub eou_latency_us: Vec<i64>,
    pub duration_sec: Option<Decimal>,
    pub outcome: Option<String>,
}

/// The key of a rollup row: company, hour, campaign and skillbase (nil when the call has none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RollupKey {
    pub company_id: Uuid,
    pub hour: DateTime<Utc>,
    pub campaign_id: Uuid,
    pub skillbase_id: Uuid,
}

impl RollupKey {
    pub(crate) fn new(company_id: Uuid, started_at: DateTime<Utc>, campaign_id: Option<Uuid>, skillbase_id: Option<Uuid>) -> Self {
        let hour = started_at.duration_trunc(TimeDelta::hours(1)).unwrap_or(started_at);
        Self { company_id, hour, campaign_id: campaign_id.unwrap_or_default(), skillbase_id: skillbase_id.unwrap_or_default() }
    }
}

/// Adds an optional value to an optional sum; a missing value changes nothing.
fn plus<T: std::ops::Add<Output = T> + Default>(sum: &mut Option<T>, value: Option<T>) {
    if let Some(value) = value {
        *sum = Some(sum.take().unwrap_or_default() + value);
    }
}

crate::register!(CallMetrics);

#[async_trait]
impl Projection for CallMetrics {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn version(&self) -> i32 {
        3
    }

    fn tables(&self) -> &'static [Table] {
        const {
            &[
                Table::by("call_metrics", "started_at"),
                Table::by("call_rollups", "hour"),
                Table::by("latency_rollups", "hour"),
                Table::new("campaign_calls"),
            ]
        }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Call::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        let before = load(db, events).await?;
        let mut rows = before.clone();
        for event in events {
            let Fact::Call(fact) = &event.fact else { continue };
            fold(&mut rows, event, fact)?;
        }
        save(db, rows.values().collect()).await?;
        rollups::add(db, &before, &rows).await?;
        Ok(())
    }
}

fn fold(rows: &mut HashMap<Uuid, CallMetricsRow>, event: &Recorded, fact: &CallEvent) -> Result<(), ApplyError> {
    if let CallEvent::CallDialed(subject) | CallEvent::CallStarted { subject, .. } = fact {
        rows.entry(event.id).or_insert_with(|| CallMetricsRow::new(event)).set_subject(subject);
    }
    let row = rows.get_mut(&event.id).ok_or_else(|| ApplyError::Contradiction(format!("call {} has not begun", event.id)))?;
    match fact {
        CallEvent::CallDialed(_) => {}
        CallEvent::CallStarted { started_at, .. } => row.started_at = *started_at,
        CallEvent::TurnRecorded(turn) => row.add(turn),
        CallEvent::CallEnded(end) => row.duration_sec = Some(end.duration_sec),
        CallEvent::CallOutcomeClassified(classification) => row.outcome = classification.outcome.map(|o| o.to_string()),
    }
    Ok(())
}

impl CallMetricsRow {
    fn new(event: &Recorded) -> Self {
        Self {
            company_id: event.company_id,
            call_id: event.id,
            campaign_id: None,
            skillbase_id: None,
            started_at: event.recorded_at,
            turn_count: 0,
            interruption_count: 0,
            stt_duration_sec: None,
            llm_input_tokens: None,
            llm_output_tokens: None,
            tts_characters: None,
            ttfb_stt_us: Vec::new(),
            latency_llm_us: Vec::new(),
            ttfb_tts_us: Vec::new(),
            eou_latency_us: Vec::new(),
            duration_sec: None,
            outcome: None,
        }
    }

    fn set_subject(&mut self, subject: &CallSubject) {
        self.campaign_id = subject.campaign_id;
        self.skillbase_id = subject.skillbase_id;
    }

    fn add(&mut self, turn: &Turn) {
        self.turn_count += 1;
        self.interruption_count += i64::from(turn.interrupted);
        plus(&mut self.stt_duration_sec, turn.stt_duration_sec);
        plus(&mut self.llm_input_tokens, turn.llm_input_tokens);
        plus(&mut self.llm_output_tokens, turn.llm_output_tokens);
        plus(&mut self.tts_characters, turn.tts_characters);
        for (latency, value) in turn.latencies() {
            let values = self.latency_mut(latency);
            values.insert(values.partition_point(|v| *v <= value), value);
        }
    }

    /// The measured values of a latency, ascending, in microseconds.
    pub fn latency(&self, latency: Latency) -> &[i64] {
        match latency {
            Latency::TtfbStt => &self.ttfb_stt_us,
            Latency::LatencyLlm => &self.latency_llm_us,
            Latency::TtfbTts => &self.ttfb_tts_us,
            Latency::EouLatency => &self.eou_latency_us,
        }
    }

    fn latency_mut(&mut self, latency: Latency) -> &mut Vec<i64> {
        match latency {
            Latency::TtfbStt => &mut self.ttfb_stt_us,
            Latency::LatencyLlm => &mut self.latency_llm_us,
            Latency::TtfbTts => &mut self.ttfb_tts_us,
            Latency::EouLatency => &mut self.eou_latency_us,
        }
    }

    pub(crate) fn key(&self) -> RollupKey {
        RollupKey::new(self.company_id, self.started_at, self.campaign_id, self.skillbase_id)
    }
}

async fn load(db: &mut PgConnection, events: &[&Recorded]) -> Result<HashMap<Uuid, CallMetricsRow>, sqlx::Error> {
    let old = events.iter().filter(|event| event.version > 1);
    let (companies, ids): (Vec<_>, Vec<_>) = old.map(|event| (event.company_id, event.id)).unzip();
    let rows = sqlx::query_as!(
        CallMetricsRow,
        "select company_id, call_id, campaign_id, skillbase_id, started_at, turn_count, interruption_count, stt_duration_sec, llm_input_tokens,
                llm_output_tokens, tts_characters, ttfb_stt_us, latency_llm_us, ttfb_tts_us, eou_latency_us, duration_sec, outcome
           from call_metrics where (company_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))",
        &companies,
        &ids
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.call_id, row)).collect())
}

/// Arrays of arrays cannot be sent: the values of each row are sent as the text of an array.
fn array_text(values: impl IntoIterator<Item = impl Display>) -> String {
    let mut text = String::from("{");
    for value in values {
        let separator = if text.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{value}");
    }
    text + "}"
}

async fn save(db: &mut PgConnection, rows: Vec<&CallMetricsRow>) -> Result<(), sqlx::Error> {
    fn column<T>(rows: &[&CallMetricsRow], of: impl Fn(&CallMetricsRow) -> T) -> Vec<T> {
        rows.iter().map(|row| of(row)).collect()
    }
    let rows = &rows[..];
    sqlx::query!(
        "insert into call_metrics (company_id, call_id, campaign_id, skillbase_id, started_at, turn_count, interruption_count, stt_duration_sec,
                llm_input_tokens, llm_output_tokens, tts_characters, ttfb_stt_us, latency_llm_us, ttfb_tts_us, eou_latency_us, duration_sec, outcome)
         select a, b, c, d, e, f, g, h, i, j, k, l::bigint[], m::bigint[], n::bigint[], o::bigint[], p, q
           from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::bigint[], $7::bigint[], $8::numeric[], $9::bigint[],
                $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], $16::numeric[], $17::text[])
                as t(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q)
         on conflict (company_id, call_id) do update
            set campaign_id = excluded.campaign_id, skillbase_id = excluded.skillbase_id, started_at = excluded.started_at,
                turn_count = excluded.turn_count, interruption_count = excluded.interruption_count,
                stt_duration_sec = excluded.stt_duration_sec, llm_input_tokens = excluded.llm_input_tokens,
                llm_output_tokens = excluded.llm_output_tokens, tts_characters = excluded.tts_characters, ttfb_stt_us = excluded.ttfb_stt_us,
                latency_llm_us = excluded.latency_llm_us, ttfb_tts_us = excluded.ttfb_tts_us, eou_latency_us = excluded.eou_latency_us,
                duration_sec = excluded.duration_sec, outcome = excluded.outcome",
        &column(rows, |r| r.company_id),
        &column(rows, |r| r.call_id),
        &column(rows, |r| r.campaign_id) as &[Option<Uuid>],
        &column(rows, |r| r.skillbase_id) as &[Option<Uuid>],
        &column(rows, |r| r.started_at),
        &column(rows, |r| r.turn_count),
        &column(rows, |r| r.interruption_count),
        &column(rows, |r| r.stt_duration_sec) as &[Option<Decimal>],
        &column(rows, |r| r.llm_input_tokens) as &[Option<i64>],
        &column(rows, |r| r.llm_output_tokens) as &[Option<i64>],
        &column(rows, |r| r.tts_characters) as &[Option<i64>],
        &column(rows, |r| array_text(&r.ttfb_stt_us)),
        &column(rows, |r| array_text(&r.latency_llm_us)),
        &column(rows, |r| array_text(&r.ttfb_tts_us)),
        &column(rows, |r| array_text(&r.eou_latency_us)),
        &column(rows, |r| r.duration_sec) as &[Option<Decimal>],
        &column(rows, |r| r.outcome.clone()) as &[Option<String>]
    )
    .execute(db)
    .await?;
    Ok(())
}
