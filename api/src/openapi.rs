//! What all operations of the OpenAPI document have in common.

use utoipa::openapi::{
    Content, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
};

/// Adds what no handler repeats: the problem that any operation may answer, `Event-Position`, and the headers that
/// commands take.
pub fn complete(mut document: OpenApi) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            set_problem_type(operation);
            add_problem(operation);
            add_position(operation);
        }
        for operation in item.post.iter_mut() {
            add_parameter(
                operation,
                header(
                    "Idempotency-Key",
                    "The same key and body again gives the same answer without a second effect; at most 255 characters.",
                ),
            );
        }
        for operation in [&mut item.put, &mut item.delete].into_iter().flatten() {
            add_parameter(
                operation,
                header("If-Match", "The resource's ETag: the command succeeds only if it still has that version, else 412."),
            );
        }
    }
    document
}

fn header(name: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).description(Some(description)).schema(Some(text)).build()
}

fn add_parameter(operation: &mut Operation, parameter: Parameter) {
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

fn add_problem(operation: &mut Operation) {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let description = "A problem: 400 malformed, 401, 403, 404, 409, 412, 413, 415, 422 invalid, 503 with Retry-After";
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
