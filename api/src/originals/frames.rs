//! Messages of a WebSocket of NEW-VOICE: `{"type": "init" | "turn" | "status" | "metrics", "data": {…}}`.

use std::{future, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    Decider as _, Fact,
    call::{Call, CallEvent, CallStatus},
};
use futures::future::BoxFuture;
use projections::{
    ReadModel, call_metrics,
    calls::{self, CallRow},
    cost_rollups,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::answers;
use crate::{analytics::CallMetricsView, calls::TurnView, live::LiveEvent, numbers::seconds, problem::Problem, state::App};

/// The metrics are sent this long after a turn, once for all turns until then; and so long after they could not be read.
const METRICS_AFTER: Duration = Duration::from_millis(300);
const RETRY_AFTER: Duration = Duration::from_secs(1);
const METRICS: [ReadModel; 3] = [calls::READ_MODEL, call_metrics::READ_MODEL, cost_rollups::READ_MODEL];

/// Reads the metrics; `None` if there are none yet.
type Reading = BoxFuture<'static, Result<Option<Value>, Problem>>;

/// The messages about one call.
pub struct Frames {
    app: App,
    company_id: Uuid,
    progress: Progress,
    /// Position of the read model from which `progress` was read: it includes the events up to there.
    known_to: i64,
    /// When the metrics are read, and the position in the log that they must include.
    due: Option<(Instant, i64)>,
    /// The metrics that are being read, and the position that they must include.
    reading: Option<(i64, Reading)>,
}

/// How far the call is.
#[derive(Clone, PartialEq, Serialize)]
struct Progress {
    call_id: Uuid,
    status: String,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    duration_sec: Option<f64>,
    outcome: Option<String>,
}

/// The part of an event's JSON that messages need.
#[derive(Deserialize)]
struct Written {
    schema_version: i16,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    payload: Value,
}

#[expect(clippy::expect_used, reason = "the data has text keys only")]
fn message(kind: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_value(data).expect("it can be written as JSON");
    json!({"type": kind, "data": data}).to_string()
}

impl Frames {
    /// The messages about a call, whose state includes the event at `position`.
    pub async fn begin(app: App, company_id: Uuid, call_id: Uuid, position: i64) -> Result<Self, Problem> {
        let mut read = app.services.read_by_key(company_id, &[calls::READ_MODEL], Some(position)).await?;
        let known_to = read.position;
        let call = calls::get(&mut read, company_id, call_id).await?.ok_or_else(|| Problem::not_found("call"))?;
        drop(read);
        Ok(Self { app, company_id, progress: call.into(), known_to, due: None, reading: None })
    }

    /// The first message.
    pub fn init(&self) -> String {
        message("init", &self.progress)
    }

    /// The messages about an event: a turn, and the state of the call if it changed.
    pub fn of(&mut self, event: &LiveEvent) -> Result<Vec<String>, Problem> {
        let internal = |error: &dyn std::fmt::Display| Problem::internal(&error);
        let written: Written = serde_json::from_str(&event.json).map_err(|error| internal(&error))?;
        let fact = Fact::decode(Call::CATEGORY, &event.event_type, written.schema_version, &written.payload.to_string());
        let Fact::Call(fact) = fact.map_err(|error| internal(&error))? else { return Ok(Vec::new()) };
        let before = self.progress.clone();
        if event.position > self.known_to {
            self.progress.apply(&fact);
        }
        let mut messages = Vec::new();
        if let CallEvent::TurnRecorded(turn) = fact {
            let turn = TurnView::of_event(self.progress.call_id, *turn, written.occurred_at, written.recorded_at);
            messages.push(message("turn", &turn));
        }
        if self.progress != before {
            messages.push(message("status", &self.progress));
        }
        let due = self.due.map_or_else(|| Instant::now() + METRICS_AFTER, |(due, _)| due);
        self.due = Some((due, event.position));
        Ok(messages)
    }

    /// The next message with metrics; waits until there are new ones. If the future is cancelled, a read that has begun goes on with the next
    /// one.
    pub async fn metrics(&mut self) -> String {
        loop {
            let Some((position, reading)) = &mut self.reading else {
                let Some((due, position)) = self.due else { return future::pending().await };
                tokio::time::sleep_until(due).await;
                self.due = None;
                let read = read_metrics(self.app.clone(), self.company_id, self.progress.call_id, position);
                self.reading = Some((position, Box::pin(read)));
                continue;
            };
            let (position, read) = (*position, reading.await);
            self.reading = None;
            match read {
                Ok(Some(metrics)) => return message("metrics", &metrics),
                // A call without turns that has not ended.
                Ok(None) => {}
                Err(problem) => {
                    tracing::debug!(problem.detail, "the metrics of a call are read again");
                    let position = self.due.map_or(position, |(_, newer)| newer);
                    self.due = Some((Instant::now() + RETRY_AFTER, position));
                }
            }
        }
    }

    /// The answer to a text of the client, which wants to know whether the connection is open.
    pub fn answer(text: &str) -> Option<&'static str> {
        (text == "ping").then_some("pong")
    }
}

async fn read_metrics(app: App, company_id: Uuid, call_id: Uuid, position: i64) -> Result<Option<Value>, Problem> {
    app.services.wait_for(&METRICS, Some(position)).await?;
    let _share = app.shares.of_page(company_id).await?;
    let mut read = app.services.read_by_key(company_id, &METRICS, None).await?;
    let call = calls::get(&mut read, company_id, call_id).await?;
    let Some((row, costs)) = call_metrics::get_with_costs(&mut read, company_id, call_id).await? else { return Ok(None) };
    let mut metrics = serde_json::to_value(CallMetricsView::new(&row, &costs)).map_err(|error| Problem::internal(&error))?;
    if let Some(fields) = metrics.as_object_mut() {
        answers::call_metrics(fields, call.as_ref());
    }
    Ok(Some(metrics))
}

impl From<CallRow> for Progress {
    fn from(row: CallRow) -> Self {
        Self {
            call_id: row.call_id,
            status: row.status,
            started_at: row.started_at,
            ended_at: row.ended_at,
            duration_sec: row.duration_sec.map(seconds),
            outcome: row.outcome,
        }
    }
}

impl Progress {
    fn apply(&mut self, fact: &CallEvent) {
        match fact {
            CallEvent::CallDialed(_) => {}
            CallEvent::CallStarted { started_at, .. } => {
                self.started_at = *started_at;
                self.begin();
            }
            CallEvent::TurnRecorded(_) => self.begin(),
            CallEvent::CallEnded(end) => {
                self.status = CallStatus::Ended.to_string();
                (self.ended_at, self.duration_sec) = (Some(end.ended_at), Some(seconds(end.duration_sec)));
            }
            CallEvent::CallOutcomeClassified(classified) => self.outcome = classified.outcome.map(|outcome| outcome.to_string()),
        }
    }

    /// Turns, and the start, may arrive after the end.
    fn begin(&mut self) {
        if self.ended_at.is_none() {
            self.status = CallStatus::InProgress.to_string();
        }
    }
}
