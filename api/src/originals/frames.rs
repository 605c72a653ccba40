//! Messages of a WebSocket of NEW-VOICE: `{"type": "init" | "turn" | "status" | "metrics", "data": {…}}`.

use std::{future, time::Duration};

use projections::{call_metrics, calls, cost_rollups};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::answers;
use crate::{
    analytics::CallMetricsView,
    live::LiveEvent,
    numbers::{ms, seconds},
    problem::Problem,
    state::App,
};

/// The metrics are sent this long after a turn, once for all turns until then.
const METRICS_AFTER: Duration = Duration::from_millis(300);
/// What a client sends to learn whether the connection is open, and the answer.
const PING: &str = "ping";
const PONG: &str = "pong";

/// The messages about one call.
pub struct Frames {
    app: App,
    company_id: Uuid,
    call_id: Uuid,
    /// When the metrics are sent, and the position in the log that they include.
    metrics: Option<(Instant, i64)>,
}

fn message(kind: &str, data: &Value) -> String {
    json!({"type": kind, "data": data}).to_string()
}

impl Frames {
    pub const fn new(app: App, company_id: Uuid, call_id: Uuid) -> Self {
        Self { app, company_id, call_id, metrics: None }
    }

    /// The first message: the state of the call, which includes the event at `position`.
    pub async fn init(&self, position: i64) -> Result<String, Problem> {
        let mut read = self.app.services.read_by_key(self.company_id, &[calls::READ_MODEL], Some(position)).await?;
        let call = calls::get(&mut read, self.company_id, self.call_id).await?.ok_or_else(|| Problem::not_found("call"))?;
        Ok(message("init", &json!({"call_id": self.call_id, "status": call.status, "started_at": call.started_at})))
    }

    /// The message about an event; `None` for events that change nothing that is shown.
    pub fn of(&mut self, event: &LiveEvent) -> Option<String> {
        let shown: Value = serde_json::from_str(&event.json).ok()?;
        let payload = &shown["payload"];
        let status = |fields: Value| message("status", &json_with(fields, "call_id", json!(self.call_id)));
        let message = match event.event_type.as_str() {
            "TurnRecorded" => message("turn", &json_with(turn(payload), "call_id", json!(self.call_id))),
            "CallDialed" => return Some(status(json!({"status": "dialing"}))),
            "CallStarted" => return Some(status(json!({"status": "in_progress", "started_at": payload["started_at"]}))),
            "CallEnded" => {
                status(json!({"status": "ended", "ended_at": payload["ended_at"], "duration_sec": number(&payload["duration_sec"])}))
            }
            "CallOutcomeClassified" => status(json!({"status": "ended", "outcome": payload["outcome"]})),
            _ => return None,
        };
        let due = self.metrics.map_or_else(|| Instant::now() + METRICS_AFTER, |(due, _)| due);
        self.metrics = Some((due, event.position));
        Some(message)
    }

    /// Returns when metrics are to be sent; never, if there are no new ones.
    pub async fn metrics_due(&self) {
        match self.metrics {
            Some((due, _)) => tokio::time::sleep_until(due).await,
            None => future::pending().await,
        }
    }

    /// The metrics of the call. If the read models do not answer in time, the next turn leads to another message. If the future is
    /// cancelled, the metrics are still due.
    pub async fn metrics(&mut self) -> Option<String> {
        let (_, position) = self.metrics?;
        let metrics = self.read_metrics(position).await.unwrap_or_else(|problem| {
            tracing::debug!(problem.detail, "the metrics of a call are not sent");
            None
        });
        self.metrics = None;
        metrics.map(|metrics| message("metrics", &metrics))
    }

    async fn read_metrics(&self, position: i64) -> Result<Option<Value>, Problem> {
        let models = [calls::READ_MODEL, call_metrics::READ_MODEL, cost_rollups::READ_MODEL];
        let mut read = self.app.services.read_by_key(self.company_id, &models, Some(position)).await?;
        let call = calls::get(&mut read, self.company_id, self.call_id).await?;
        let Some((row, costs)) = call_metrics::get_with_costs(&mut read, self.company_id, self.call_id).await? else { return Ok(None) };
        let mut metrics = serde_json::to_value(CallMetricsView::new(&row, &costs)).map_err(|error| Problem::internal(&error))?;
        if let Some(fields) = metrics.as_object_mut() {
            answers::call_metrics(fields, call.as_ref());
        }
        Ok(Some(metrics))
    }

    /// The answer to a text of the client.
    pub fn answer(text: &str) -> Option<&'static str> {
        (text == PING).then_some(PONG)
    }
}

/// A turn as the API shows it: latencies in milliseconds, seconds as numbers.
fn turn(payload: &Value) -> Value {
    let fields = payload.as_object().into_iter().flatten();
    let shown = fields.map(|(name, value)| match name.strip_suffix("_us") {
        Some(latency) => (format!("{latency}_ms"), json!(value.as_i64().map(ms))),
        None if name == "stt_duration_sec" => (name.clone(), number(value)),
        None => (name.clone(), value.clone()),
    });
    Value::Object(shown.collect())
}

/// An exact decimal, which the log stores as a text, as a number.
fn number(decimal: &Value) -> Value {
    json!(decimal.as_str().and_then(|text| text.parse().ok()).map(seconds))
}

fn json_with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}
