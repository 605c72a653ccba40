//! How things look from outside, whether they come from a read model or from a stream folded as of a moment.

mod bills;
mod calls;
mod campaigns;
mod metrics;
mod tasks;

use chrono::{DateTime, Utc};
use eventstore::StoredEvent;
use rust_decimal::{Decimal, prelude::ToPrimitive};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

pub use bills::{BillView, PriceLists};
pub use calls::{CallView, TurnView};
pub use campaigns::{CampaignView, Counters};
pub use metrics::{AggregateView, CallMetricsView, CostView, OutcomesView};
pub use tasks::TaskView;

/// An event, wherever one is shown.
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
        // Whoever may read events need not know the keys under which commands can be repeated.
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

/// JSON of the log, or its text where only PostgreSQL can hold it (a number beyond every float).
fn readable(json: String) -> Value {
    serde_json::from_str(&json).unwrap_or(Value::String(json))
}

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 microseconds")]
pub fn ms(us: i64) -> f64 {
    us as f64 / 1_000.0
}

/// An exact number of seconds as a JSON number.
#[expect(clippy::expect_used, reason = "Decimal::to_f64 always gives one")]
pub fn seconds(exact: Decimal) -> f64 {
    exact.to_f64().expect("every decimal has a nearest f64")
}

/// `part / whole` as a share; `None` of nothing.
#[expect(clippy::cast_precision_loss, reason = "a share")]
pub fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
