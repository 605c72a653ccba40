//! Pages of lists.

use chrono::{DateTime, Utc};
use eventstore::PageReader;
use serde_json::Value;
use uuid::Uuid;

/// Bytes after which a page of rows that may be long ends, and the number of such rows that are read at once.
const LONG_PAGE_MAX_BYTES: usize = 4 << 20;
const LONG_ROWS_AT_ONCE: usize = 20;

/// The place in a list that is ordered by time and id, newest first: the next page begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    pub at: DateTime<Utc>,
    pub id: Uuid,
}

/// A page of at most `limit` rows that may be long.
pub fn long_rows<T>(limit: usize) -> PageReader<T> {
    PageReader::new(limit, LONG_PAGE_MAX_BYTES, LONG_ROWS_AT_ONCE)
}

/// The approximate size of a value in an answer.
pub fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| json_bytes(item) + 1).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(name, value)| name.len() + json_bytes(value) + 4).sum::<usize>(),
    }
}
