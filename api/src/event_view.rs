//! The external form of an event, used by all answers that show events.

use chrono::{DateTime, Utc};
use eventstore::StoredEvent;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::words::ActorKindName;

/// Who caused an event or sent a request
#[derive(Serialize, ToSchema)]
#[schema(as = Actor)]
pub struct ActorSchema {
    /// Kind of the actor
    kind: ActorKindName,
    /// Id of the user or API key
    id: Option<Uuid>,
    /// Name of a key, a provider or a part of the system; of a user, the address, for users and for API keys of the role auditor
    /// or admin. Live events have no addresses
    name: Option<String>,
}

/// Who caused an event, and why
#[derive(Serialize, ToSchema)]
#[schema(as = EventMetadata)]
struct MetadataSchema {
    /// Who caused the event
    actor: ActorSchema,
    /// Connects all events that one request, or one call, caused
    correlation_id: Uuid,
    /// Id of the event that caused this one
    causation_id: Option<Uuid>,
}

/// An event in its external form.
#[derive(Serialize, ToSchema)]
pub struct EventView {
    /// Place in the log; positions increase
    pub position: i64,
    /// `<category>-<uuid>`
    pub stream: String,
    /// Place in the stream, from 1
    pub version: i64,
    /// Id of the event
    pub event_id: Uuid,
    /// What happened, for example `TurnRecorded`
    pub event_type: String,
    /// Version of the payload's shape
    pub schema_version: i16,
    /// When it happened; agents give it for their turns
    pub occurred_at: DateTime<Utc>,
    /// When the platform appended the event
    pub recorded_at: DateTime<Utc>,
    /// The facts of the event; its fields depend on `event_type` and `schema_version`: `docs/events.md` shows an example of each
    #[schema(value_type = HashMap<String, Value>)]
    pub payload: Value,
    /// Who caused the event, and why
    #[schema(value_type = MetadataSchema)]
    pub metadata: Value,
}

impl From<StoredEvent> for EventView {
    fn from(event: StoredEvent) -> Self {
        let payload = event.payload_to_show().unwrap_or(Value::String(event.payload));
        let mut metadata = readable(event.metadata);
        // Users who may read events must not see the keys with which commands can be repeated.
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("idempotency_key");
        }
        Self {
            position: event.position,
            stream: event.stream.to_string(),
            version: event.version,
            event_id: event.event_id,
            event_type: event.event_type,
            schema_version: event.schema_version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            payload,
            metadata,
        }
    }
}

/// JSON from the log; as text if only PostgreSQL can represent it (a number outside the range of floats).
fn readable(json: String) -> Value {
    serde_json::from_str(&json).unwrap_or(Value::String(json))
}
