//! Inputs: bodies, path and query parameters, with problems that name the field.

use std::{
    cell::Cell,
    fmt::{self, Formatter},
};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use chrono::{DateTime, Utc};
use domain::validation::Invalid;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use uuid::Uuid;

use crate::{edge::TooSlow, objects::Objects, problem::Problem};

/// Items of a list page: default and most.
const LIMIT_DEFAULT: i64 = 50;
const LIMIT_MAX: i64 = 200;
/// Values in a JSON body: numbers, strings, lists, objects and what is in them.
const VALUES_MAX: usize = 100_000;
/// Times from outside lie between these years.
const YEARS: (i32, i32) = (1970, 2200);

/// A JSON body. Not JSON is 400, another content type 415, JSON that does not fit 422 with the path.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        parse(&Raw::from_request(request, state).await?.0).map(Self)
    }
}

/// A body as it came. Too large is 413, too slow 408.
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        bytes.map(Self).map_err(|rejection| unread(rejection.status(), &rejection, rejection.body_text()))
    }
}

/// A body that could not be read to its end.
pub fn unread(status: StatusCode, error: &(dyn std::error::Error + 'static), detail: String) -> Problem {
    if TooSlow::is_in(error) { Problem::new(StatusCode::REQUEST_TIMEOUT, TooSlow.to_string()) } else { Problem::new(status, detail) }
}

/// Refuses another content type than JSON.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let mime = content_type.split(';').next().unwrap_or_default().trim();
    if mime == "application/json" || (mime.starts_with("application/") && mime.ends_with("+json")) {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"))
    }
}

/// A JSON body, or the default when there is none at all.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let Raw(bytes) = Raw::from_request(request, state).await?;
        if !bytes.is_empty() {
            require_json(&headers)?;
        }
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

/// Parses JSON: first whether it is JSON at all, then whether it fits.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    from_value(json(bytes)?)
}

/// Reads JSON. A value takes up to a hundred times the room of its text, so there may not be any number of them.
pub fn json(bytes: &[u8]) -> Result<serde_json::Value, Problem> {
    let counted = Cell::new(0);
    if bytes.len() > VALUES_MAX
        && Count(&counted).deserialize(&mut serde_json::Deserializer::from_slice(bytes)).is_err()
        && counted.get() > VALUES_MAX
    {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {VALUES_MAX} values")));
    }
    serde_json::from_slice(bytes).map_err(|e| Problem::bad_request(format!("the body is not JSON: {e}")))
}

/// Counts values and keeps none; gives up when there are too many.
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

pub fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(Objects(value)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let path = if path == "." { String::new() } else { path };
        // serde names a missing or unknown field in its message only; the path should lead to it.
        let field = ["missing field `", "unknown field `"].iter().find_map(|start| message.strip_prefix(start)?.split('`').next());
        let path = match field {
            Some(field) if path.is_empty() => field.to_owned(),
            Some(field) if !path.ends_with(field) => format!("{path}.{field}"),
            _ => path,
        };
        Problem::invalid(path, message)
    })
}

/// An id from the path; anything else than a UUID is 400.
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::<Uuid>::from_request_parts(parts, state).await?;
        Ok(Self(id))
    }
}

/// Other path parameters.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(params) = Path::<T>::from_request_parts(parts, state).await?;
        Ok(Self(params))
    }
}

/// Query parameters; malformed ones are 400.
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(query))
    }
}

/// `limit` and `cursor` of a list.
#[derive(Debug)]
pub struct Paging {
    pub limit: i64,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct PagingParams {
    limit: Option<i64>,
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let QueryOf(PagingParams { limit, cursor }) = QueryOf::from_request_parts(parts, state).await?;
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid("limit", format!("must be from 1 to {LIMIT_MAX}")));
        }
        Ok(Self { limit, cursor })
    }
}

impl Paging {
    /// Where the page begins: what the last page's `next_cursor` says.
    pub fn after<T: Cursor>(&self) -> Result<Option<T>, Problem> {
        self.cursor
            .as_deref()
            .map(|text| T::read(text).ok_or_else(|| Problem::bad_request("cursor is not one that a list answered")))
            .transpose()
    }
}

/// A place in a list as an opaque text.
pub trait Cursor: Sized {
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
}

impl Cursor for projections::page::After {
    fn read(text: &str) -> Option<Self> {
        let (micros, id) = text.split_once('.')?;
        Some(Self { at: DateTime::from_timestamp_micros(i64::from_str_radix(micros, 36).ok()?)?, id: Uuid::try_parse(id).ok()? })
    }

    fn write(&self) -> String {
        format!("{}.{}", base36(self.at.timestamp_micros()), self.id.simple())
    }
}

impl Cursor for i64 {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Cursor for i32 {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

fn base36(number: i64) -> String {
    let mut digits = Vec::new();
    let mut rest = number.unsigned_abs();
    loop {
        digits.push(char::from_digit(u32::try_from(rest % 36).unwrap_or_default(), 36).unwrap_or('0'));
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        digits.push('-');
    }
    digits.into_iter().rev().collect()
}

/// A field that may be absent, null or given: `None`, `Some(None)`, `Some(Some(value))`.
pub type Patch<T> = Option<Option<T>>;

/// For `#[serde(default, deserialize_with = "given")]` on [`Patch`] fields.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Patch<T>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Notes a time that lies outside what the platform reckons with.
pub fn check_time(invalid: &mut Invalid, path: &str, time: Option<DateTime<Utc>>) {
    use chrono::Datelike as _;
    if let Some(time) = time {
        invalid.require(
            (YEARS.0..YEARS.1).contains(&time.year()),
            path,
            &format!("must lie between the years {} and {}", YEARS.0, YEARS.1),
        );
    }
}

#[cfg(test)]
mod tests {
    use projections::page::After;

    use super::*;

    #[test]
    fn cursors_read_back_as_what_was_written() {
        for micros in [0, 1, 1_800_000_000_123_456, -62_135_596_800_000_000] {
            let after = After { at: DateTime::from_timestamp_micros(micros).unwrap(), id: Uuid::from_u128(7) };
            assert_eq!(After::read(&after.write()), Some(after));
        }
        assert_eq!(After::read("nonsense"), None);
    }

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
        assert!(json(zeros(VALUES_MAX - 1).as_bytes()).is_ok(), "the list is one, too");
        assert_eq!(json(zeros(VALUES_MAX).as_bytes()).unwrap_err().status, 413);
        let nested = format!("[{}0]", r#"{"a":[{"":1}]},"#.repeat(30_000));
        assert_eq!(json(nested.as_bytes()).unwrap_err().status, 413);
        let text = format!("[\"{}\"]", "\\u00e9".repeat(1_000_000));
        assert!(json(text.as_bytes()).is_ok(), "a long text is one value");
        assert_eq!(json(format!("{},", zeros(VALUES_MAX - 1)).as_bytes()).unwrap_err().status, 400);
    }

    #[test]
    fn problems_name_the_field() {
        let path = |text: &str| parse::<Outer>(text.as_bytes()).unwrap_err().errors.first().map(|e| e.path.clone());
        assert_eq!(path(r#"{"items": [{"name": 1}]}"#).as_deref(), Some("items[0].name"));
        assert_eq!(path(r#"{"items": [{}]}"#).as_deref(), Some("items[0].name"));
        assert_eq!(path(r#"{"items": [{"name": "a", "b": 1}]}"#).as_deref(), Some("items[0].b"));
        assert_eq!(path("{}").as_deref(), Some("items"));
        assert_eq!(parse::<Outer>(b"{").unwrap_err().status, 400);
    }
}
