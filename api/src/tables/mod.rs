//! Lists as tables for spreadsheets: `?format=csv` or `xlsx`, or an `Accept` header that asks for one. A table has all rows of the list.

mod columns;
mod download;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, Uri, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    answer::{Answer, Items},
    auth::{By, Needs},
    extract::{Paging, QueryOf},
    problem::Problem,
    state::App,
    words::TableFormatName,
};

pub use columns::Row;
pub(crate) use columns::row;
pub use download::Exported;

/// The routes of the lists that are also answered as tables.
const ROUTES: &[&str] =
    &["GET /analytics/calls", "GET /analytics/calls/{id}/turns", "GET /calls", "GET /campaigns/{id}/tasks", "GET /campaigns/{id}/turns"];
const CSV: &str = "text/csv";
/// Without the character set, some clients read CSV as Latin-1 (RFC 4180, section 3: the parameter may be given).
const CSV_UTF8: &str = "text/csv; charset=utf-8";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// What is requested of a list.
#[derive(Debug)]
pub enum Listing {
    /// One page, as JSON.
    Page(Paging),
    /// All rows.
    Table(TableRequest),
}

#[derive(Clone, Copy, Debug)]
pub struct TableRequest {
    format: TableFormat,
    /// Whether only the headers are requested.
    is_head: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    Csv { has_mark: bool },
    Xlsx,
}

/// The values of `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormatName {
    Json,
    Csv,
    Xlsx,
}

/// The parameters that [`Listing`] reads, beside those of a page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FormatParams {
    /// `json`: one page; `csv` or `xlsx`: all rows as a table, without `limit` and `cursor`. Without it, the `Accept` header decides
    #[param(value_type = Option<TableFormatName>)]
    format: Option<FormatName>,
    /// Begin CSV with a byte-order mark, so that Excel reads it as UTF-8
    bom: Option<bool>,
}

/// An XLSX file, in the OpenAPI document.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "describes the answer")]
pub struct WorkbookFile(Vec<u8>);

/// The parameters that a table does not have.
#[derive(Deserialize)]
struct PageParams {
    limit: Option<String>,
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Listing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let QueryOf(FormatParams { format, bom }) = QueryOf::from_request_parts(parts, state).await?;
        let format = match format.unwrap_or_else(|| accepted(&parts.headers)) {
            FormatName::Csv => TableFormat::Csv { has_mark: bom.unwrap_or_default() },
            _ if bom == Some(true) => return Err(Problem::bad_request("bom is for CSV only: add format=csv")),
            FormatName::Xlsx => TableFormat::Xlsx,
            FormatName::Json => return Paging::from_request_parts(parts, state).await.map(Self::Page),
        };
        let QueryOf(PageParams { limit, cursor }) = QueryOf::from_request_parts(parts, state).await?;
        if limit.is_some() || cursor.is_some() {
            return Err(Problem::bad_request("a table has all rows: leave out limit and cursor"));
        }
        Ok(Self::Table(TableRequest { format, is_head: parts.method == Method::HEAD }))
    }
}

impl Listing {
    pub async fn answer<L: List, R: Needs>(self, app: App, by: By<R>, list: L) -> Result<Response, Problem> {
        match self {
            Self::Page(paging) => Ok(list.page(&app, paging).await?.into_response()),
            Self::Table(table) => download::answer(app, by.identity, table, list).await,
        }
    }
}

/// A list that is read page by page.
pub trait List: Send + Sync + 'static {
    type Item: Row + Serialize + Send + 'static;
    /// Name of the file with the table, without its extension.
    const NAME: &'static str;

    fn page(&self, app: &App, paging: Paging) -> impl Future<Output = Result<Answer<Items<Self::Item>>, Problem>> + Send;
}

/// Whether the request is answered with a table, whose pages are read while it is sent.
pub fn is_table(action: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let format = || form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).find(|(name, _)| name == "format");
    // HEAD is answered as GET, without the body.
    let route = action.strip_prefix("HEAD ").map_or_else(|| action.to_owned(), |path| format!("GET {path}"));
    ROUTES.contains(&route.as_str())
        && match format() {
            Some((_, format)) => format == "csv" || format == "xlsx",
            None => accepted(headers) != FormatName::Json,
        }
}

/// The format that the client prefers (RFC 9110, 12.5.1). JSON unless a table is named.
fn accepted(headers: &HeaderMap) -> FormatName {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let ranked = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let format = match parts.next()?.to_ascii_lowercase().as_str() {
            CSV => FormatName::Csv,
            XLSX => FormatName::Xlsx,
            _ => FormatName::Json,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
        (quality > 0.0).then_some((format, quality))
    });
    // Of equal ones, the first.
    ranked.reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(FormatName::Json, |(format, _)| format)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_accept_header_decides() {
        let cases = [
            ("text/csv", FormatName::Csv),
            ("Text/CSV; charset=utf-8", FormatName::Csv),
            (XLSX, FormatName::Xlsx),
            ("application/json, text/csv", FormatName::Json),
            ("application/json;q=0.5, text/csv", FormatName::Csv),
            ("text/csv;q=0, */*", FormatName::Json),
            ("text/html,application/xhtml+xml,*/*;q=0.8", FormatName::Json),
            ("*/*", FormatName::Json),
            ("", FormatName::Json),
        ];
        for (accept, format) in cases {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            assert_eq!(accepted(&headers), format, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()), FormatName::Json);
    }

    /// A page of JSON is read within a share; a table takes a share for each of its pages.
    #[test]
    fn only_the_lists_with_tables_are_answered_with_one() {
        let is_table = |action: &str, uri: &str, accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            is_table(action, &uri.parse().unwrap(), &headers)
        };
        let list = "GET /campaigns/{id}/tasks";
        assert!(is_table(list, "/x?format=csv", "*/*") && is_table(list, "/x?limit=3", CSV));
        assert!(is_table(list, "/x?form%61t=xlsx", "*/*"));
        assert!(!is_table(list, "/x?format=json", CSV) && !is_table(list, "/x", "*/*"));
        assert!(is_table("HEAD /campaigns/{id}/tasks", "/x?format=csv", "*/*"));
        assert!(!is_table("GET /events", "/x?format=csv", CSV) && !is_table("POST /calls", "/x", CSV));
    }

    #[test]
    fn the_routes_are_those_of_the_document() {
        let document = serde_json::to_value(crate::router::openapi()).unwrap();
        let mut routes = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            let content = &operations["get"]["responses"]["200"]["content"];
            if [CSV, XLSX].iter().all(|media| !content[*media].is_null()) {
                routes.push(format!("GET {path}"));
            }
        }
        assert_eq!(routes, ROUTES);
    }
}
