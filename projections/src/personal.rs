//! Personal values as texts.

use serde_json::Value;

/// The text of a personal value.
pub(crate) fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
