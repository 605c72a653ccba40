//! Answers: a body with its position in the log and its version.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use eventstore::BoundedPage;
use serde::Serialize;
use services::Versioned;
use utoipa::ToSchema;

use crate::extract::{Cursor, Paging};

/// Position of a command's last event, or position of the read model that answered a query.
pub const EVENT_POSITION: HeaderName = HeaderName::from_static("event-position");

pub struct Answer<T> {
    pub status: StatusCode,
    pub position: i64,
    /// Stream version, for the ETag of single resources.
    pub version: Option<i64>,
    pub body: T,
}

impl<T> Answer<T> {
    pub const fn ok(position: i64, body: T) -> Self {
        Self { status: StatusCode::OK, position, version: None, body }
    }

    /// An answer with the result of a use case, in the form that `view` gives it.
    pub fn of<V>(given: Versioned<V>, view: impl FnOnce(Versioned<V>) -> T) -> Self {
        let (position, version) = (given.position, given.version);
        Self::ok(position, view(given)).version(version)
    }

    /// An answer with status 201 and the result of a use case, in the form that `view` gives it.
    pub fn of_new<V>(given: Versioned<V>, view: impl FnOnce(Versioned<V>) -> T) -> Self {
        Self { status: StatusCode::CREATED, ..Self::of(given, view) }
    }

    pub const fn created(position: i64, body: T) -> Self {
        Self { status: StatusCode::CREATED, position, version: None, body }
    }

    pub const fn version(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(EVENT_POSITION, self.position.into());
        if let Some(etag) = self.version.and_then(|v| HeaderValue::from_str(&format!("\"{v}\"")).ok()) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// An answer without a body.
pub struct Done {
    pub position: i64,
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        (StatusCode::NO_CONTENT, [(EVENT_POSITION, self.position.to_string())]).into_response()
    }
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub struct Items<T> {
    /// The entries of the page
    pub items: Vec<T>,
    /// For `?cursor=` of the next page; null on the last.
    pub next_cursor: Option<String>,
    /// Number of entries on all pages; absent where it is not known without reading them
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

impl<T> Items<T> {
    /// A page that was already limited when it was read. `cursor` gives the place of a row.
    pub fn bounded<R, C: Cursor>(page: BoundedPage<R>, cursor: impl Fn(&R) -> C, view: impl FnMut(R) -> T) -> Self {
        let next_cursor = page.rows.last().filter(|_| page.has_more).map(|row| cursor(row).write());
        Self { items: page.rows.into_iter().map(view).collect(), next_cursor, total: None }
    }

    /// The page of a list whose number of entries is known.
    pub fn of(self, total: i64) -> Self {
        Self { total: Some(total), ..self }
    }

    /// A page of `rows`. The caller reads one row more than the page holds ([`Paging::rows_to_read`]): that row shows that there is another
    /// page. `cursor` gives the place of a row.
    pub fn page<R, C: Cursor>(mut rows: Vec<R>, paging: &Paging, cursor: impl Fn(&R) -> C, view: impl FnMut(R) -> T) -> Self {
        let has_more = rows.len() > usize::from(paging.limit);
        rows.truncate(usize::from(paging.limit));
        Self::bounded(BoundedPage { rows, has_more }, cursor, view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_cursor_only_if_there_are_further_rows() {
        let page = |rows: Vec<i64>| Items::page(rows, &Paging { limit: 3, cursor: None }, |row| *row, |row| row);
        let full = page(vec![1, 2, 3]);
        assert_eq!((full.items, full.next_cursor), (vec![1, 2, 3], None));
        let more = page(vec![1, 2, 3, 4]);
        assert_eq!((more.items, more.next_cursor.as_deref()), (vec![1, 2, 3], Some("3")));
    }
}
