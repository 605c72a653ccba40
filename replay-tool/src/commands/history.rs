//! `history`: a timeline a person likes to read.

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use domain::{Decider as _, call::Call, task::Task};
use eventstore::{ActorKind, EventStore, Metadata, StoreError, StoredEvent, StreamName};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Finding, WrongUse, output::Output};

/// Longest value that is shown in a line, in characters.
const VALUE_MAX_CHARS: usize = 100;

pub async fn run(store: &EventStore, output: &Output, stream: &str, as_of: Option<DateTime<Utc>>) -> anyhow::Result<Finding> {
    let name: StreamName = stream.parse().map_err(|e: eventstore::NoStreamName| WrongUse(e.to_string()))?;
    let mut events = store.read_stream(&name, 0, as_of).await?;
    if name.category() == Task::CATEGORY {
        for call_id in events.iter().filter_map(claimed_call).collect::<Vec<_>>() {
            events.extend(store.read_stream(&StreamName::of::<Call>(call_id), 0, as_of).await?);
        }
        events.sort_by_key(|event| event.position);
    }
    if events.is_empty() {
        return Err(anyhow!("{name} has no events{}", as_of.map(|at| format!(" as of {at}")).unwrap_or_default()));
    }
    let began = events.first().map(|event| event.recorded_at).unwrap_or_default();
    let items = events.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
    let lines = events.iter().map(|event| line(event, &name, began)).collect::<Result<Vec<_>, _>>()?;
    output.result(&json!({"stream": stream, "items": items}), || lines.join("\n"))?;
    Ok(Finding::Sound)
}

fn claimed_call(event: &StoredEvent) -> Option<Uuid> {
    (event.event_type == "TaskClaimed").then(|| event.payload().ok()?.get("call_id")?.as_str()?.parse().ok())?
}

pub fn to_json(event: &StoredEvent) -> Result<Value, StoreError> {
    Ok(json!({
        "position": event.position,
        "stream": event.stream.to_string(),
        "version": event.version,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "schema_version": event.schema_version,
        "company_id": event.company_id,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "payload": event.payload()?,
        "metadata": event.metadata()?,
    }))
}

/// `2026-11-20 10:00:00.123  +0:05.2  TurnRecorded  by dialer simulator   turn_index 3 …  (position 17)`
fn line(event: &StoredEvent, asked: &StreamName, began: DateTime<Utc>) -> Result<String, StoreError> {
    let since = event.recorded_at - began;
    let clock = format!("+{}:{:02}.{}", since.num_minutes(), since.num_seconds() % 60, since.subsec_nanos() / 100_000_000);
    let elsewhere = if event.stream == *asked { String::new() } else { format!("  [{}]", event.stream) };
    Ok(format!(
        "{}  {clock:>9}  {:<22} {}{elsewhere}\n{:>38}{}  (position {})",
        event.recorded_at.format("%Y-%m-%d %H:%M:%S%.3f"),
        event.event_type,
        who(&event.metadata()?),
        "",
        details(&event.payload()?),
        event.position
    ))
}

fn who(metadata: &Metadata) -> String {
    let kind = match metadata.actor.kind {
        ActorKind::User => "user",
        ActorKind::ApiKey => "API key",
        ActorKind::Dialer => "dialer",
        ActorKind::System => "system",
    };
    let name = metadata.actor.name.clone().or_else(|| metadata.actor.id.map(|id| id.to_string())).unwrap_or_default();
    format!("by {kind} {name}").trim_end().to_owned()
}

fn details(payload: &Value) -> String {
    let none = Map::new();
    let fields = payload.as_object().unwrap_or(&none).iter().filter(|(_, value)| !value.is_null());
    let fields = fields.map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let short: String = text.chars().take(VALUE_MAX_CHARS).collect();
        format!("{name}: {short}{}", if short.len() < text.len() { "…" } else { "" })
    });
    fields.collect::<Vec<_>>().join(" · ")
}
