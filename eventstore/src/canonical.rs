//! The form of an event that is hashed, byte for byte, so that an outsider can check the log.
//!
//! *Canonical JSON*: no white space; object keys in ascending order of their UTF-8 bytes; strings escaped as `serde_json`
//! does (`\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t`, other control characters as `\u00xx`, everything else as it is);
//! integers in decimal digits; other numbers as the shortest decimal that reads back as the same IEEE double.
//!
//! *Digest* of an event: SHA-256 of the canonical JSON object with the keys `company_id`, `event_id`, `event_type`,
//! `metadata`, `occurred_at_us` (microseconds since 1970), `payload`, `schema_version`, `stream`.
//!
//! *Hash*: SHA-256 of the hash of the event before it (32 zero bytes before the first), the digest, and position, version
//! and `recorded_at` (microseconds since 1970), each as a big-endian signed 64-bit integer.

use std::io::Write as _;

use chrono::{DateTime, Utc};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Largest canonical payload, in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 1 << 20;
/// Deepest nesting: `serde_json` reads back no more than 127.
pub const DEPTH_MAX: usize = 100;
/// Integers beyond ±2^53 in floating-point form have already lost digits.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why a value cannot be stored so that it reads back the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStorable {
    #[error("a text holds a NUL character, which PostgreSQL cannot store")]
    Nul,
    #[error("the number {0} is too large to be exact; send it as a string")]
    InexactNumber(String),
    #[error("a JSON value has {0} bytes; {PAYLOAD_MAX_BYTES} is the limit")]
    TooLarge(usize),
    #[error("a JSON value is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("{0}")]
    Json(String),
}

/// `value` as canonical JSON, with whole floating-point numbers as integers.
pub fn to_text(value: &Value) -> Result<String, NotStorable> {
    let mut text = Vec::with_capacity(512);
    write(value, DEPTH_MAX, &mut text)?;
    if text.len() > PAYLOAD_MAX_BYTES {
        return Err(NotStorable::TooLarge(text.len()));
    }
    String::from_utf8(text).map_err(|e| NotStorable::Json(e.to_string()))
}

/// `depth`: how many more levels of nesting are allowed.
fn write(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), NotStorable> {
    let deeper = || depth.checked_sub(1).ok_or(NotStorable::TooDeep);
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_string(text, out)?,
        Value::Array(items) => {
            let depth = deeper()?;
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, depth, out)?;
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, deeper()?, out)?,
    }
    Ok(())
}

fn write_object(object: &Map<String, Value>, depth: usize, out: &mut Vec<u8>) -> Result<(), NotStorable> {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    out.push(b'{');
    for (i, (key, value)) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(key, out)?;
        out.push(b':');
        write(value, depth, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), NotStorable> {
    if text.as_bytes().contains(&0) {
        return Err(NotStorable::Nul);
    }
    serde_json::to_writer(out, text).map_err(|e| NotStorable::Json(e.to_string()))
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and within ±2^53")]
fn write_number(number: &Number, out: &mut Vec<u8>) -> Result<(), NotStorable> {
    let written = match number.as_f64().filter(|_| number.is_f64()) {
        None => write!(out, "{number}"),
        Some(float) if float.fract() != 0.0 => write!(out, "{number}"),
        Some(whole) if whole.abs() < EXACT_FLOAT_MAX => write!(out, "{}", whole as i64),
        Some(_) => return Err(NotStorable::InexactNumber(number.to_string())),
    };
    written.map_err(|e| NotStorable::Json(e.to_string()))
}

/// The parts of an event that its digest covers; `metadata` and `payload` are canonical JSON.
pub struct Content<'a> {
    pub company_id: Uuid,
    pub event_id: Uuid,
    pub event_type: &'a str,
    pub metadata: &'a str,
    pub occurred_at: DateTime<Utc>,
    pub payload: &'a str,
    pub schema_version: i16,
    pub stream: &'a str,
}

impl Content<'_> {
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Hashing(Sha256::new());
        // Writing into a hash cannot fail.
        let _ = write!(
            hash,
            r#"{{"company_id":"{}","event_id":"{}","event_type":"{}","metadata":{},"occurred_at_us":{},"payload":{},"schema_version":{},"stream":"{}"}}"#,
            self.company_id,
            self.event_id,
            self.event_type,
            self.metadata,
            self.occurred_at.timestamp_micros(),
            self.payload,
            self.schema_version,
            self.stream
        );
        hash.0.finalize().into()
    }
}

struct Hashing(Sha256);

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The next link of the chain.
pub fn link(previous: &[u8; 32], digest: &[u8; 32], position: i64, version: i64, recorded_at: DateTime<Utc>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(digest);
    hash.update(position.to_be_bytes());
    hash.update(version.to_be_bytes());
    hash.update(recorded_at.timestamp_micros().to_be_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_numbers_have_one_form() {
        let value: Value = serde_json::from_str(r#"{"b": [1, 2.5, -0.0, 1e3], "a": {"é": null, "z": "\u001f\n"}}"#).unwrap();
        assert_eq!(to_text(&value).unwrap(), r#"{"a":{"z":"\u001f\n","é":null},"b":[1,2.5,0,1000]}"#);
    }

    #[test]
    fn what_could_not_be_read_back_is_refused() {
        assert_eq!(to_text(&json!("a\0b")), Err(NotStorable::Nul));
        assert_eq!(to_text(&json!({"a\0": 1})), Err(NotStorable::Nul));
        assert!(matches!(to_text(&json!(1e300)), Err(NotStorable::InexactNumber(_))));
        assert!(matches!(to_text(&json!("x".repeat(PAYLOAD_MAX_BYTES))), Err(NotStorable::TooLarge(_))));
        let nested = |depth| (0..depth).fold(json!(1), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"a": inner}) });
        let deepest = to_text(&nested(DEPTH_MAX)).unwrap();
        assert!(serde_json::from_str::<Value>(&deepest).is_ok());
        assert_eq!(to_text(&nested(DEPTH_MAX + 1)), Err(NotStorable::TooDeep));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e15..1e15_f64).prop_map(Value::from),
            "[^\0]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[^\0]{0,4}", inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_reads_back_as_itself(value in any_json()) {
            let text = to_text(&value).unwrap();
            let again: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(to_text(&again).unwrap(), text);
        }
    }
}
