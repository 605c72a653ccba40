//! JSON from clients: read with a limit on its size, and with problems that name the field.

use std::{
    cell::Cell,
    fmt::{self, Formatter},
};

use axum::http::StatusCode;
use domain::{json::find_fault, validation::FieldFault};
use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{objects::Objects, problem::Problem};

/// Maximum number of values in a JSON body: numbers, strings, lists, objects and their contents.
const VALUES_MAX: usize = 100_000;
/// The mark of UTF-8, which some programs write before a text (RFC 8259, section 8.1: a parser may ignore it).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses JSON: first checks that it is JSON at all, then that it matches the type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    from_value(read(bytes)?)
}

/// Reads JSON, with or without a byte-order mark. A number that would be rounded and a field that is there twice are refused.
/// A value takes up to a hundred times the memory of its text, so the number of values is limited.
pub fn read(bytes: &[u8]) -> Result<Value, Problem> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let counted = Cell::new(0);
    if bytes.len() > VALUES_MAX
        && Count(&counted).deserialize(&mut serde_json::Deserializer::from_slice(bytes)).is_err()
        && counted.get() > VALUES_MAX
    {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {VALUES_MAX} values")));
    }
    let not_json = |error: &dyn fmt::Display| Problem::bad_request(format!("the body is not JSON: {error}"));
    let value = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    match find_fault(str::from_utf8(bytes).map_err(|error| not_json(&error))?) {
        Some((path, fault)) => Err(Problem::invalid(shorten(path), fault)),
        None => Ok(value),
    }
}

/// The path of the first text with a NUL character, which PostgreSQL does not store.
pub fn find_nul(value: &Value) -> Option<String> {
    let below = |place: String, value: &Value| find_nul(value).map(|path| place + &path);
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| below(format!("[{i}]"), item)),
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            let place = format!(".{name}");
            if name.contains('\0') { Some(place) } else { below(place, field) }
        }),
        _ => None,
    }
}

/// Counts values without storing them; stops when there are too many.
struct Count<'a>(&'a Cell<usize>);

impl Count<'_> {
    fn one<E: Error>(&self) -> Result<(), E> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > VALUES_MAX { Err(E::custom("too many values")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.one()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Count(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key::<IgnoredAny>()?.is_some() {
            entries.next_value_seed(Count(self.0))?;
        }
        Ok(())
    }
}

/// Maximum number of characters of a field's name or value that a problem repeats.
const REPEATED_MAX_CHARS: usize = 300;

fn shorten(text: String) -> String {
    if text.len() <= REPEATED_MAX_CHARS { text } else { text.chars().take(REPEATED_MAX_CHARS).chain(['…']).collect() }
}

/// Converts a JSON value; problems name the field.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Objects(value)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let path = if path == "." { String::new() } else { path };
        // serde names a missing or unknown field only in its message; the path must include it.
        let field = ["missing field `", "unknown field `"].iter().find_map(|start| message.strip_prefix(start)?.split('`').next());
        let path = match field {
            Some(field) if path.is_empty() => field.to_owned(),
            Some(field) if !path.ends_with(field) => format!("{path}.{field}"),
            _ => path,
        };
        Problem::invalid(shorten(path), FieldFault::Malformed { detail: shorten(message) })
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only whether it parses matters")]
        name: String,
    }

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "only whether it parses matters")]
        items: Vec<Inner>,
    }

    #[test]
    fn a_body_has_so_many_values_and_no_more() {
        let zeros = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert!(read(zeros(VALUES_MAX - 1).as_bytes()).is_ok(), "the list is one, too");
        assert_eq!(read(zeros(VALUES_MAX).as_bytes()).unwrap_err().status, 413);
        let nested = format!("[{}0]", r#"{"a":[{"":1}]},"#.repeat(30_000));
        assert_eq!(read(nested.as_bytes()).unwrap_err().status, 413);
        let text = format!("[\"{}\"]", "\\u00e9".repeat(1_000_000));
        assert!(read(text.as_bytes()).is_ok(), "a long text is one value");
        assert_eq!(read(format!("{},", zeros(VALUES_MAX - 1)).as_bytes()).unwrap_err().status, 400);
    }

    #[test]
    fn a_byte_order_mark_is_ignored() {
        assert_eq!(read(b"\xef\xbb\xbf{\"a\": 1}").unwrap(), serde_json::json!({"a": 1}));
        assert_eq!(read(b"\xef\xbb\xbf\xef\xbb\xbf1").unwrap_err().status, 400);
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused() {
        let problem = read(br#"{"rates": [{"price": 0.12345678901234567890}]}"#).unwrap_err();
        assert_eq!((problem.status, problem.errors[0].path.as_str()), (422, "rates[0].price"));
        assert_eq!(read(b"[0.5, 1e3, 12345678901234567]").unwrap(), serde_json::json!([0.5, 1e3, 12345678901234567_u64]));
    }

    #[test]
    fn a_nul_character_is_found_by_its_path() {
        for (value, path) in [
            (serde_json::json!({"a": [1, {"b": "x\0"}]}), Some(".a[1].b")),
            (serde_json::json!({"a": {"b\0": 1}}), Some(".a.b\0")),
            (serde_json::json!({"a": ["b", null, true]}), None),
        ] {
            assert_eq!(find_nul(&value).as_deref(), path);
        }
    }

    #[test]
    fn problems_name_the_field() {
        let path = |text: &str| parse::<Outer>(text.as_bytes()).unwrap_err().errors.first().map(|e| e.path.clone());
        assert_eq!(path(r#"{"items": [{"name": 1}]}"#).as_deref(), Some("items[0].name"));
        assert_eq!(path(r#"{"items": [{}]}"#).as_deref(), Some("items[0].name"));
        assert_eq!(path(r#"{"items": [{"name": "a", "b": 1}]}"#).as_deref(), Some("items[0].b"));
        assert_eq!(path("{}").as_deref(), Some("items"));
        assert!(path(&format!(r#"{{"items": [{{"{}": 1}}]}}"#, "x".repeat(20_000))).unwrap().len() < 1_000);
        assert_eq!(parse::<Outer>(b"{").unwrap_err().status, 400);
    }
}
