//! What all operations of the OpenAPI document have in common.

use utoipa::openapi::{
    Content, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
    link::Link,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    schema::{ObjectBuilder, Type},
};

use crate::idempotency::{self, KEY_MAX_CHARS};

/// Adds what no handler repeats: the problem that any operation may answer, `Event-Position`, and the headers that
/// commands take.
pub fn complete(mut document: OpenApi) -> OpenApi {
    name_operations(&mut document);
    link_operations(&mut document);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    for (path, item) in &mut document.paths.paths {
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            set_problem_type(operation);
            add_problem(operation);
            add_position(operation);
        }
        if let Some(operation) = item.post.as_mut().filter(|_| !idempotency::WITHOUT.contains(&path.as_str())) {
            add_parameter(
                operation,
                header(
                    "Idempotency-Key",
                    "The same key and body again gives the same answer without a second effect.",
                    text().pattern(Some("^[ -~]+$")).max_length(Some(KEY_MAX_CHARS)),
                ),
            );
        }
        for operation in [&mut item.put, &mut item.delete].into_iter().flatten() {
            add_parameter(
                operation,
                header("If-Match", "The resource's ETag: the command succeeds only if it still has that version, else 412.", text()),
            );
        }
    }
    document
}

/// Every operation by an id of its own: its method and path.
fn name_operations(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let name = path.replace(['/', '-'], "_").replace(['{', '}'], "");
        let methods = [("get", &mut item.get), ("post", &mut item.post), ("put", &mut item.put), ("delete", &mut item.delete)];
        for (method, operation) in methods {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}{name}"));
            }
        }
    }
}

/// Where the ids in an answer lead: the path of what they are of.
const LEADS: [(&str, &str, &str); 9] = [
    ("/api-keys", "$response.body#/id", "/api-keys/{id}"),
    ("/users", "$response.body#/id", "/users/{id}"),
    ("/skillbases", "$response.body#/id", "/skillbases/{id}"),
    ("/campaigns", "$response.body#/id", "/campaigns/{id}"),
    ("/campaigns/{id}/clone", "$response.body#/id", "/campaigns/{id}"),
    ("/calls", "$response.body#/id", "/calls/{id}"),
    ("/campaigns/{id}/tasks/claim", "$response.body#/call_id", "/calls/{id}"),
    ("/campaigns/{id}/tasks/claim", "$response.body#/task/id", "/tasks/{id}"),
    ("/price-lists", "$response.body#/id", "/price-lists/{id}"),
];

/// Links (OpenAPI 3.1, 4.8.20) from what is made to everything that can be asked of it or done to it.
fn link_operations(document: &mut OpenApi) {
    let ids = |item: &PathItem| {
        let operations = [&item.get, &item.post, &item.put, &item.delete].into_iter().flatten();
        operations.filter_map(|operation| operation.operation_id.clone()).collect::<Vec<_>>()
    };
    let all: Vec<_> = document.paths.paths.iter().map(|(path, item)| (path.clone(), ids(item))).collect();
    for (from, expression, to) in LEADS {
        let of_calls = to.replace("/calls/", "/analytics/calls/");
        let leads = |path: &str| [to, of_calls.as_str()].iter().any(|start| path == *start || path.starts_with(&format!("{start}/")));
        let targets: Vec<_> = all.iter().filter(|(path, _)| leads(path)).flat_map(|(_, ids)| ids.clone()).collect();
        let Some(post) = document.paths.paths.get_mut(from).and_then(|item| item.post.as_mut()) else { continue };
        for (status, response) in &mut post.responses.responses {
            let RefOr::T(response) = response else { continue };
            if ["200", "201"].contains(&status.as_str()) {
                let link = |id: &String| Link::builder().operation_id(id).parameter("id", expression).build();
                response.links.extend(targets.iter().map(|id| (id.clone(), RefOr::T(link(id)))));
            }
        }
    }
}

fn header(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).description(Some(description)).schema(Some(schema)).build()
}

fn add_parameter(operation: &mut Operation, parameter: Parameter) {
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

fn add_problem(operation: &mut Operation) {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let description = "A problem: 400 malformed, 401, 403, 404, 408, 409, 412, 413, 415, 422 invalid, 429 and 503 with Retry-After";
    let problem: Response = ResponseBuilder::new().description(description).content("application/problem+json", content).build();
    operation.responses.responses.entry("default".to_owned()).or_insert(RefOr::T(problem));
}

/// Refusals name their schema only; it comes as problem+json.
fn set_problem_type(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with(['4', '5'])
            && let Some(content) = response.content.shift_remove("application/json")
        {
            response.content.insert("application/problem+json".to_owned(), content);
        }
    }
}

fn add_position(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with('2') {
            let position = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::Integer)));
            let description = "Position of the command's last event, or how far the read model is";
            response.headers.insert("Event-Position".to_owned(), RefOr::T(position.description(Some(description)).build()));
        }
    }
}
