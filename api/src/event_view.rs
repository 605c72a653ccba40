//! The external form of an event, used by all answers that show events.

use chrono::{DateTime, Utc};
use eventstore::StoredEvent;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// An event in its external form.
#[derive(Serialize, ToSchema)]
pub struct EventView {
    pub position: i64,
    /// `<category>-<uuid>`
    pub stream: String,
    pub version: i64,
    pub event_id: Uuid,
    pub event_type: String,
    pub schema_version: i16,
    pub occurred_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    pub payload: Value,
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
