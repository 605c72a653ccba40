//! `history`: a readable timeline.

use std::collections::{HashMap, HashSet};

use anyhow::anyhow;
use chrono::{DateTime, NaiveDate, Utc};
use domain::{Decider as _, call::Call, task::Task};
use eventstore::{ActorKind, Database, EventStore, Metadata, StoreError, StoredEvent, StreamName};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Finding, WrongUse, audit, output::Output};

/// Maximum length of a value that is shown on a shared line, in characters; a longer value gets its own lines.
const VALUE_MAX_CHARS: usize = 60;
/// The column where the content of an event begins.
const INDENT: usize = 24;

pub async fn run(
    database: &Database,
    store: &EventStore,
    output: &Output,
    stream: &str,
    as_of: Option<DateTime<Utc>>,
) -> anyhow::Result<Finding> {
    let name: StreamName = stream.parse().map_err(|e: eventstore::NoStreamName| WrongUse(e.to_string()))?;
    let mut events = store.read_stream(&name, as_of).await?;
    if name.category() == Task::CATEGORY {
        for call_id in events.iter().filter_map(claimed_call).collect::<Vec<_>>() {
            events.extend(store.read_stream(&StreamName::of::<Call>(call_id), as_of).await?);
        }
        events.sort_by_key(|event| event.position);
    }
    if events.is_empty() {
        return Err(anyhow!("{name} has no events{}", as_of.map(|at| format!(" as of {at}")).unwrap_or_default()));
    }
    // All events belong to one company.
    let company_id = events.first().map(|event| event.company_id).unwrap_or_default();
    let mut names = HashMap::new();
    if store.persons().can_read() {
        store.persons().reveal(company_id, &mut events).await?;
        audit::record(&database.pool, company_id, "replay-tool history", stream).await?;
        let actors = events.iter().map(|event| Ok(event.metadata()?.actor)).collect::<Result<Vec<_>, StoreError>>()?;
        let users: HashSet<_> = actors.iter().filter(|actor| actor.kind == ActorKind::User).filter_map(|actor| actor.id).collect();
        let users: Vec<_> = users.into_iter().collect();
        names =
            projections::users::addresses(&mut *database.access.company(company_id).await?, store.persons(), company_id, &users).await?;
    } else {
        output.note("Personal data is encrypted, and there is no master key to read it with: it shows as 'encrypted'.");
        for event in &mut events {
            event.mark_encrypted();
        }
    }
    let items = events.iter().map(|event| to_json(event, &names)).collect::<Result<Vec<_>, _>>()?;
    let timeline = Timeline { asked: &name, causes: causes(store, &events).await?, events: &events, names, as_of };
    let text = timeline.text()?;
    output.result(&json!({"stream": stream, "items": items}), || text)?;
    Ok(Finding::Sound)
}

fn claimed_call(event: &StoredEvent) -> Option<Uuid> {
    (event.event_type == "TaskClaimed").then(|| event.payload().ok()?.get("call_id")?.as_str()?.parse().ok())?
}

/// The event, with the addresses of users as their names.
fn to_json(event: &StoredEvent, names: &HashMap<Uuid, String>) -> Result<Value, StoreError> {
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
        "payload": event.payload_to_show()?,
        "metadata": named(event.metadata()?, names),
    }))
}

fn named(mut metadata: Metadata, names: &HashMap<Uuid, String>) -> Metadata {
    let actor = &mut metadata.actor;
    let known = actor.id.filter(|_| actor.kind == ActorKind::User && actor.name.is_none()).and_then(|id| names.get(&id));
    actor.name = actor.name.take().or_else(|| known.cloned());
    metadata
}

/// Events that caused other events: type and position by id, in any stream.
async fn causes(store: &EventStore, events: &[StoredEvent]) -> Result<HashMap<Uuid, String>, StoreError> {
    let ids = events.iter().map(|event| Ok(event.metadata()?.causation_id)).collect::<Result<Vec<_>, StoreError>>()?;
    let ids: Vec<_> = ids.into_iter().flatten().collect();
    let found = store.read_events(&ids).await?.into_iter();
    Ok(found.map(|event| (event.event_id, format!("{} (position {})", event.event_type, event.position))).collect())
}

struct Timeline<'a> {
    asked: &'a StreamName,
    as_of: Option<DateTime<Utc>>,
    events: &'a [StoredEvent],
    causes: HashMap<Uuid, String>,
    /// The addresses of users.
    names: HashMap<Uuid, String>,
}

impl Timeline<'_> {
    fn text(&self) -> Result<String, StoreError> {
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else { return Ok(String::new()) };
        let as_of = self.as_of.map(|at| format!(", as of {}", at.to_rfc3339())).unwrap_or_default();
        let mut lines =
            vec![format!("{}: {} events in {}{as_of}", self.asked, self.events.len(), duration(last.recorded_at - first.recorded_at))];
        let mut day: Option<NaiveDate> = None;
        for event in self.events {
            if day.replace(event.recorded_at.date_naive()) != Some(event.recorded_at.date_naive()) {
                lines.push(format!("\n{}", event.recorded_at.format("%A, %-d %B %Y, UTC")));
            }
            self.add(event, event.recorded_at - first.recorded_at, &mut lines)?;
        }
        Ok(lines.join("\n"))
    }

    /// Adds an event: its time, the time since the first event, its actor, its cause and its content.
    fn add(&self, event: &StoredEvent, since: chrono::TimeDelta, lines: &mut Vec<String>) -> Result<(), StoreError> {
        let metadata = named(event.metadata()?, &self.names);
        let elsewhere = if event.stream == *self.asked { String::new() } else { format!(", {}", event.stream) };
        let time = event.recorded_at.format("%H:%M:%S%.3f");
        lines.push(format!("{time} {:>10} {}{elsewhere}", format!("+{}", duration(since)), event.event_type));
        let mut add = |text: String| lines.push(format!("{:INDENT$}{text}", ""));
        let because =
            metadata.causation_id.map(|id| format!(", because of {}", self.causes.get(&id).cloned().unwrap_or(format!("event {id}"))));
        add(format!("by {}{}, position {}", who(&metadata), because.unwrap_or_default(), event.position));
        if (event.recorded_at - event.occurred_at).num_seconds().abs() >= 1 {
            add(format!("occurred at {}", event.occurred_at.format("%Y-%m-%d %H:%M:%S%.3f UTC")));
        }
        let (short, long) = details(&event.payload_to_show()?);
        if !short.is_empty() {
            add(short.join(" · "));
        }
        long.into_iter().for_each(add);
        Ok(())
    }
}

fn duration(span: chrono::TimeDelta) -> String {
    let (seconds, millis) = (span.num_seconds(), span.subsec_millis());
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}.{:01} s", millis / 100),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02} min"),
        (hours, minutes, _) if hours < 48 => format!("{hours}:{minutes:02} h"),
        (hours, ..) => format!("{} days", hours / 24),
    }
}

fn who(metadata: &Metadata) -> String {
    let kind = match metadata.actor.kind {
        ActorKind::User => "user",
        ActorKind::ApiKey => "API key",
        ActorKind::Dialer => "dialer",
        ActorKind::System => "system",
    };
    let name = metadata.actor.name.clone().or_else(|| metadata.actor.id.map(|id| id.to_string())).unwrap_or_default();
    format!("{kind} {name}").trim_end().to_owned()
}

/// The fields of a payload: those that share a line, and texts that need their own lines.
fn details(payload: &Value) -> (Vec<String>, Vec<String>) {
    let none = Map::new();
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for (name, value) in payload.as_object().unwrap_or(&none).iter().filter(|(_, value)| !value.is_null()) {
        let is_speech = name.ends_with("_text");
        let text = match (value.as_i64(), name.strip_suffix("_us")) {
            (Some(us), Some(name)) => format!("{name} {}.{} ms", us / 1_000, us % 1_000 / 100),
            _ => format!(
                "{name} {}",
                value.as_str().map_or_else(|| value.to_string(), |text| if is_speech { format!("“{text}”") } else { text.to_owned() })
            ),
        };
        // Control characters in what was said must not move the cursor.
        let text: String = text.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
        if is_speech || text.chars().count() > VALUE_MAX_CHARS { long.push(text) } else { short.push(text) }
    }
    (short, long)
}
