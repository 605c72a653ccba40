//! Refuses query parameters that a route does not have: without this, a misspelt filter would give all rows.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;
use utoipa::openapi::OpenApi;

use super::gate::route;
use crate::{documented::operations, problem::Problem};

/// Parameters that every GET takes: a position to wait for, and the ticket of a browser.
const OF_EVERY_GET: [&str; 2] = ["min_position", "ticket"];
/// Maximum number of characters of a parameter's name that a problem repeats.
const REPEATED_MAX_CHARS: usize = 100;

/// The query parameters of each operation, by method and route, taken from the OpenAPI document.
pub struct QueryParameters(HashMap<String, BTreeSet<String>>);

impl QueryParameters {
    pub fn of(document: &OpenApi) -> Self {
        let parameters = operations(document).into_iter().map(|(action, operation)| {
            let names = names(&action, &operation);
            (action, names)
        });
        Self(parameters.collect())
    }

    /// The problem of the first parameter that the operation does not have.
    fn refuse(&self, operation: &str, query: &str) -> Option<Problem> {
        let known = self.0.get(operation)?;
        let (name, _) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| !known.contains(name.as_ref()))?;
        let name: String = name.chars().take(REPEATED_MAX_CHARS).collect();
        let known: Vec<_> = known.iter().map(String::as_str).filter(|name| *name != "ticket").collect();
        let instead = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        Some(Problem::bad_request(format!("this operation has no query parameter {name:?}; {instead}")))
    }
}

/// The names of an operation's query parameters.
fn names(action: &str, operation: &Value) -> BTreeSet<String> {
    let declared = operation["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "query");
    let declared = declared.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned));
    let of_every_get = OF_EVERY_GET.iter().filter(|_| action.starts_with("GET ")).map(|name| (*name).to_owned());
    declared.chain(of_every_get).collect()
}

pub async fn refuse_unknown_parameters(State(known): State<Arc<QueryParameters>>, request: Request, next: Next) -> Response {
    let problem = request.uri().query().and_then(|query| {
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        known.refuse(&format!("{method} {}", route(request.extensions())), query)
    });
    match problem {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_the_operation_does_not_have_is_named() {
        let known = QueryParameters::of(&crate::router::openapi());
        let refusal = |operation, query| known.refuse(operation, query).map(|problem| problem.detail);
        let detail = refusal("GET /analytics/metrics", "from=2026-11-01T00:00:00Z&groupby=hour").unwrap();
        assert!(
            detail.starts_with("this operation has no query parameter \"groupby\"; it has ") && detail.contains("group_by"),
            "{detail}"
        );
        assert_eq!(refusal("POST /campaigns", "name=x").unwrap(), "this operation has no query parameter \"name\"; it has none");
        assert!(refusal("GET /campaigns", "%6cimit=3&status=draft&min_position=7&cursor=&ticket=x").is_none());
        assert!(refusal("POST /price-lists/what-if", "min_position=7").is_none());
        assert!(refusal("GET /unmatched", "a=b").is_none());
        assert!(refusal("GET /campaigns", &format!("{}=1", "x".repeat(10_000))).unwrap().len() < 500);
    }
}
