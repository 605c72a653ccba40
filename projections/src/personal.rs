//! Envelopes in the form in which rows store them.

use eventstore::persons::Envelope;
use serde_json::Value;

/// The envelopes among a row's columns.
pub(crate) fn envelopes<const N: usize>(columns: [&Option<Value>; N]) -> Vec<Envelope> {
    columns.into_iter().flatten().filter_map(|value| serde_json::from_value(value.clone()).ok()).collect()
}

/// The text of a personal value.
pub(crate) fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
