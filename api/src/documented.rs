//! What the OpenAPI document says of each operation, for the layers that apply it to requests.

use serde_json::Value;
use utoipa::openapi::OpenApi;

/// The operations of a document: method and path, `POST /campaigns`, and what the document says of them.
#[expect(clippy::expect_used, reason = "it is served as JSON")]
pub fn operations(document: &OpenApi) -> Vec<(String, Value)> {
    let document = serde_json::to_value(document).expect("the OpenAPI document can be written as JSON");
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation.clone()))
    });
    operations.collect()
}
