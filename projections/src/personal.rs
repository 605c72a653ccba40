//! Envelopes as rows keep them.

use eventstore::persons::Envelope;
use serde_json::Value;

/// The envelopes among a row's columns.
pub(crate) fn envelopes<const N: usize>(columns: [&Option<Value>; N]) -> Vec<Envelope> {
    columns.into_iter().flatten().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

/// The text that a personal value is.
pub(crate) fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
