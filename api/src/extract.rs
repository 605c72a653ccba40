//! Inputs: bodies, path and query parameters. Problems name the invalid field.

use std::convert::Infallible;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::validation::{FieldFault, Invalid};
use projections::{call_logs::TurnPlace, page::After};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    edge::{BodyTimeout, NoMemory},
    json,
    problem::Problem,
    times::WrittenTime,
};

/// Number of items on a list page: default and maximum.
pub const LIMIT_DEFAULT: u16 = 50;
pub const LIMIT_MAX: u16 = 200;
/// Maximum number of events in a history that is requested without a limit.
const HISTORY_LIMIT_DEFAULT: u16 = 5_000;
/// A JSON body. A body that is not JSON is answered with 400, another content type with 415, and JSON that does not match with 422 and the
/// path.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        json::parse(&Raw::from_request(request, state).await?.0).map(Self)
    }
}

/// A body as raw bytes. Too large is answered with 413, too slow with 408, compressed with 415.
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_identity(request.headers())?;
        let bytes = Bytes::from_request(request, state).await;
        bytes.map(Self).map_err(|rejection| unread(rejection.status(), &rejection, rejection.body_text()))
    }
}

/// The answer for a body that could not be read to its end.
pub fn unread(status: StatusCode, error: &(dyn std::error::Error + 'static), detail: String) -> Problem {
    if comes_from::<BodyTimeout>(error) {
        Problem::new(StatusCode::REQUEST_TIMEOUT, BodyTimeout.to_string())
    } else if comes_from::<NoMemory>(error) {
        Problem::unavailable(NoMemory.to_string())
    } else {
        Problem::new(status, detail)
    }
}

/// Whether an error of this type is among the causes of another error.
pub fn comes_from<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<E>())
}

/// Refuses a body that is compressed or otherwise encoded.
fn require_identity(headers: &HeaderMap) -> Result<(), Problem> {
    let is_identity =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.trim().is_empty() || text.trim().eq_ignore_ascii_case("identity"));
    match headers.get_all(header::CONTENT_ENCODING).iter().find(|value| !is_identity(value)) {
        Some(encoding) => {
            let detail = format!("the body must not be compressed: send it without Content-Encoding, which is {encoding:?} here");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
        None => Ok(()),
    }
}

/// Refuses a content type other than JSON.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let mime = content_type.split(';').next().unwrap_or_default().trim();
    if mime == "application/json" || (mime.starts_with("application/") && mime.ends_with("+json")) {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"))
    }
}

/// A JSON body, or the default if the request has no body.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let Raw(bytes) = Raw::from_request(request, state).await?;
        if !bytes.is_empty() {
            require_json(&headers)?;
        }
        if bytes.is_empty() { Ok(Self(T::default())) } else { json::parse(&bytes).map(Self) }
    }
}

/// An id from the path; a value that is not a UUID is answered with 400.
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

/// Whether the request came over one of the unversioned paths, those of NEW-VOICE.
pub struct IsUnversioned(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for IsUnversioned {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<MatchedPath>().is_some_and(|path| !path.as_str().starts_with("/api/v1/"))))
    }
}

/// Query parameters; malformed ones, and those with a NUL, which PostgreSQL cannot store, are answered with 400.
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Problem::bad_request("parameters must not contain a NUL character"));
        }
        let Query(query) = Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(query))
    }
}

/// `limit` and `cursor` of a list.
#[derive(Debug)]
pub struct Paging {
    /// Items of a page.
    pub limit: u16,
    pub cursor: Option<String>,
}

/// The parameters that [`Paging`] reads.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PagingParams {
    /// 1 to 200, 50 if it is absent; a page of long rows may have fewer than the limit, and a `next_cursor`
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// The `next_cursor` of the previous page
    cursor: Option<String>,
}

/// The parameters that [`HistoryPaging`] reads.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryParams {
    /// 1 to 200; without a limit the page has up to 5,000 events, or fewer if they are long
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// The `next_cursor` of the previous page
    cursor: Option<String>,
}

impl From<HistoryParams> for PagingParams {
    fn from(HistoryParams { limit, cursor }: HistoryParams) -> Self {
        Self { limit, cursor }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        QueryOf::<PagingParams>::from_request_parts(parts, state).await?.0.paging(LIMIT_DEFAULT)
    }
}

impl PagingParams {
    fn paging(self, default: u16) -> Result<Paging, Problem> {
        let within = |limit: i64| u16::try_from(limit).ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        match self.limit.map_or(Some(default), within) {
            Some(limit) => Ok(Paging { limit, cursor: self.cursor }),
            None => Err(Problem::invalid("limit", FieldFault::OutOfRange { min: "1".to_owned(), max: LIMIT_MAX.to_string() })),
        }
    }
}

/// `limit` and `cursor` of a history: without a limit the whole history is returned, unless it is long.
pub struct HistoryPaging(pub Paging);

impl<S: Send + Sync> FromRequestParts<S> for HistoryPaging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let QueryOf(params) = QueryOf::<HistoryParams>::from_request_parts(parts, state).await?;
        PagingParams::from(params).paging(HISTORY_LIMIT_DEFAULT).map(Self)
    }
}

impl Paging {
    /// Number of rows to read for a page: one more than its size, which shows whether there is another page.
    pub fn rows_to_read(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The start of the page, decoded from the `next_cursor` of the previous page.
    pub fn after<T: Cursor>(&self) -> Result<Option<T>, Problem> {
        self.cursor
            .as_deref()
            .map(|text| T::read(text).ok_or_else(|| Problem::bad_request("cursor is not one that a list answered")))
            .transpose()
    }
}

/// A place in a list, encoded as an opaque text.
pub trait Cursor: Sized {
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
}

impl Cursor for After {
    fn read(text: &str) -> Option<Self> {
        let (micros, id) = text.split_once('.')?;
        Some(Self { at: DateTime::from_timestamp_micros(i64::from_str_radix(micros, 36).ok()?)?, id: Uuid::try_parse(id).ok()? })
    }

    fn write(&self) -> String {
        format!("{}.{}", base36(self.at.timestamp_micros()), self.id.simple())
    }
}

impl Cursor for TurnPlace {
    fn read(text: &str) -> Option<Self> {
        let (call, turn_index) = text.rsplit_once('.')?;
        Some(Self { call: After::read(call)?, turn_index: turn_index.parse().ok()? })
    }

    fn write(&self) -> String {
        format!("{}.{}", self.call.write(), self.turn_index)
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

impl Cursor for String {
    fn read(text: &str) -> Option<Self> {
        // PostgreSQL stores no NUL.
        (!text.contains('\0')).then(|| text.to_owned())
    }

    fn write(&self) -> String {
        self.clone()
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

#[expect(clippy::expect_used, reason = "see the message")]
fn base36(number: i64) -> String {
    let mut digits = Vec::new();
    let mut rest = number.unsigned_abs();
    loop {
        let digit = u32::try_from(rest % 36).ok().and_then(|digit| char::from_digit(digit, 36));
        digits.push(digit.expect("a remainder by 36 is a digit to base 36"));
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

/// A field that may be absent, null or given: `None`, `Some(None)` or `Some(Some(value))`.
pub type Patch<T> = Option<Option<T>>;

/// For `#[serde(default, deserialize_with = "given")]` on [`Patch`] fields.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Patch<T>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Reads a period, with dates in a zone. A period that ends before it begins is refused.
pub fn read_period(from: Option<WrittenTime>, to: Option<WrittenTime>, timezone: Tz) -> Result<[Option<DateTime<Utc>>; 2], Problem> {
    let [from, to] = [from, to].map(|time| time.map(|time| time.in_zone(timezone)));
    let mut invalid = Invalid::default();
    invalid.time("from", from);
    invalid.time("to", to);
    invalid.into_result()?;
    match (from, to) {
        (Some(from), Some(to)) if from >= to => Err(Problem::invalid("to", FieldFault::NotAfter { field: "from".to_owned() })),
        _ => Ok([from, to]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_compressed_body_is_refused() {
        for (encoding, status) in [("gzip", Some(415)), ("identity, br", Some(415)), ("Identity", None)] {
            let request = Request::builder().header(header::CONTENT_ENCODING, encoding).body("{}".into()).unwrap();
            let read = Raw::from_request(request, &()).await;
            assert_eq!(read.err().map(|problem| problem.status), status, "{encoding}");
        }
    }

    #[test]
    fn cursors_read_back_as_what_was_written() {
        for micros in [0, 1, 1_800_000_000_123_456, -62_135_596_800_000_000] {
            let after = After { at: DateTime::from_timestamp_micros(micros).unwrap(), id: Uuid::from_u128(7) };
            assert_eq!(After::read(&after.write()), Some(after));
            let place = TurnPlace { call: after, turn_index: 12 };
            assert_eq!(TurnPlace::read(&place.write()), Some(place));
        }
        assert_eq!(After::read("nonsense"), None);
    }
}
