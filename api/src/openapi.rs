//! Additions to all operations of the OpenAPI document.

use utoipa::{
    Modify,
    openapi::{
        Content, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
        link::Link,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    idempotency::{self, KEY_MAX_CHARS},
    problem::Problem,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "newvoice",
        version = env!("CARGO_PKG_VERSION"),
        description = "Campaigns of AI voice calls on an event log. Every command answers `Event-Position`; every GET of a company's data takes `?min_position=` and waits for it. \
                       Errors are RFC 9457 problems; a query parameter that an operation does not have is answered with 400. A POST that lists an `Idempotency-Key` can be sent again under it."
    ),
    servers((url = "/api/v1")),
    modifiers(&Bearer),
    security(("bearer" = [])),
    components(schemas(Problem))
)]
pub struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token from /auth/login, or an API key")).build();
        document.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Adds the parts that handlers do not repeat: the problem that any operation may answer, `Event-Position`, and the headers of commands.
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

/// Gives every operation its own id: its method and path.
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

/// Where ids in an answer lead that are not the id of what the path creates: path, id, path of the resource.
const OTHER_LEADS: [(&str, &str, &str); 3] = [
    ("/campaigns/{id}/clone", "$response.body#/id", "/campaigns/{id}"),
    ("/campaigns/{id}/tasks/claim", "$response.body#/call_id", "/calls/{id}"),
    ("/campaigns/{id}/tasks/claim", "$response.body#/task/id", "/tasks/{id}"),
];

/// Adds links (OpenAPI 3.1, 4.8.20) from created resources to all operations on them: what `POST /users` creates is `/users/{id}`.
fn link_operations(document: &mut OpenApi) {
    let ids = |item: &PathItem| {
        let operations = [&item.get, &item.post, &item.put, &item.delete].into_iter().flatten();
        operations.filter_map(|operation| operation.operation_id.clone()).collect::<Vec<_>>()
    };
    let all: Vec<_> = document.paths.paths.iter().map(|(path, item)| (path.clone(), ids(item))).collect();
    let created = all.iter().map(|(path, _)| (path.clone(), "$response.body#/id", format!("{path}/{{id}}")));
    let created = created.filter(|(_, _, to)| all.iter().any(|(path, _)| path.starts_with(to.as_str())));
    let others = OTHER_LEADS.map(|(from, expression, to)| (from.to_owned(), expression, to.to_owned()));
    for (from, expression, to) in created.chain(others) {
        let of_calls = to.replace("/calls/", "/analytics/calls/");
        let leads =
            |path: &str| [to.as_str(), of_calls.as_str()].iter().any(|start| path == *start || path.starts_with(&format!("{start}/")));
        let targets: Vec<_> = all.iter().filter(|(path, _)| leads(path)).flat_map(|(_, ids)| ids.clone()).collect();
        let Some(post) = document.paths.paths.get_mut(&from).and_then(|item| item.post.as_mut()) else { continue };
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

/// Handlers declare only the schema of refusals; this sets their content type to problem+json.
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
