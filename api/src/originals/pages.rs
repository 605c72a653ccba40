//! Parts of lists that begin after a number of entries, read page by page.

use axum::{
    body::Body,
    extract::{FromRequestParts as _, Request},
    http::request::Parts,
    middleware::Next,
};
use domain::validation::FieldFault;
use serde_json::{Value, json};
use services::identity::Identity;

use super::{
    Parsed,
    query::{CALLS, Query, Window},
};
use crate::{
    calls::CallParams,
    extract::{LIMIT_MAX, QueryOf},
    problem::Problem,
    state::App,
};

/// Longest part of a list, in bytes of JSON: twice a page of `/api/v1`.
const BYTES_MAX: usize = 8 << 20;

/// Reads pages until the part is complete. A page of long entries has fewer than its limit, so even a part without `skip` can need more than
/// one. An answer that is no page is returned as it is.
pub async fn read(app: &App, caller: &Identity, parts: Parts, window: &Window, next: Next) -> Result<Parsed, Problem> {
    let mut query = Query::parse(parts.uri.query());
    let (mut items, mut bytes, mut skip) = (Vec::new(), 0, window.skip);
    loop {
        let limit = (skip + window.limit - items.len()).min(usize::from(LIMIT_MAX));
        query.put("limit", limit.to_string());
        let mut of_page = parts.clone();
        query.write(&mut of_page)?;
        let answer = next.clone().run(Request::from_parts(of_page, Body::empty())).await;
        if !answer.status().is_success() {
            return Ok(Parsed::Other(answer));
        }
        let (head, body) = answer.into_parts();
        let text = axum::body::to_bytes(body, usize::MAX).await.map_err(|error| Problem::internal(&error))?;
        let mut page: Value = serde_json::from_slice(&text).map_err(|error| Problem::internal(&error))?;
        let Value::Array(entries) = page["items"].take() else { return Err(Problem::internal(&"a page of a list has no items")) };
        let skipped = skip.min(entries.len());
        skip -= skipped;
        bytes += if skipped < entries.len() { text.len() } else { 0 };
        let before = items.len();
        items.extend(entries.into_iter().skip(skipped));
        if bytes > BYTES_MAX && before > 0 {
            return Err(Problem::invalid("limit", FieldFault::OutOfRange { min: "1".to_owned(), max: before.to_string() }));
        }
        match page["next_cursor"].as_str() {
            Some(cursor) if items.len() < window.limit => query.put("cursor", cursor.to_owned()),
            _ => {
                page["items"] = Value::Array(items);
                if window.action == CALLS {
                    page["total"] = json!(count_calls(app, caller, parts).await?);
                }
                window.describe(&mut page);
                return Ok(Parsed::Json(head, page));
            }
        }
    }
}

/// Number of all calls that pass the filter of a page. It is counted after the page was read, and may include calls that began meanwhile.
async fn count_calls(app: &App, caller: &Identity, mut parts: Parts) -> Result<i64, Problem> {
    let QueryOf(params) = QueryOf::<CallParams>::from_request_parts(&mut parts, app).await?;
    let filter = params.filter(app, caller.company_id, parts.uri.query()).await?;
    let mut read = app.services.read(caller.company_id, &[projections::calls::READ_MODEL], None).await?;
    Ok(projections::calls::count(&mut read, caller.company_id, &filter).await?)
}
