//! Additions to all operations of the OpenAPI document.

use utoipa::{
    Modify,
    openapi::{
        Content, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{Array, ArrayItems, ObjectBuilder, Schema, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    event_schemas,
    idempotency::{self, KEY_MAX_CHARS},
    problem::Problem,
    words::{CallProgressName, CampaignStatusName, CostGroupByName, DirectionName, OutcomeName, TableFormatName, TaskStatusName},
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
    // The words that only parameters use would be missing otherwise.
    components(schemas(Problem, CallProgressName, CampaignStatusName, CostGroupByName, DirectionName, OutcomeName, TableFormatName, TaskStatusName))
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
    refer_parts(&mut document);
    event_schemas::describe(&mut document);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    for (path, item) in &mut document.paths.paths {
        for (is_get, operation) in [(true, &mut item.get), (false, &mut item.post), (false, &mut item.put), (false, &mut item.delete)] {
            let Some(operation) = operation else { continue };
            name_role(operation);
            describe_path_parameters(path, operation);
            describe_responses(is_get, operation);
            set_problem_type(operation);
            add_problem(operation);
            add_position(operation);
        }
        if let Some(operation) = item.post.as_mut().filter(|_| !idempotency::WITHOUT.contains(&path.as_str())) {
            add_parameter(
                operation,
                header(
                    "Idempotency-Key",
                    "The same key, query and body again give the same answer without a second effect.",
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

/// Lists and groups refer to the schema of their items and figures instead of repeating it, so that generated clients have one type for it.
fn refer_parts(document: &mut OpenApi) {
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let mut parts = Vec::new();
    for (name, schema) in schemas.iter_mut() {
        let (Some((generic, part)), RefOr::T(schema)) = (name.split_once('_'), schema) else { continue };
        let place = match (generic, schema) {
            ("Items", Schema::Object(list)) => match list.properties.get_mut("items") {
                Some(RefOr::T(Schema::Array(Array { items: ArrayItems::RefOrSchema(item), .. }))) => Some(item.as_mut()),
                _ => None,
            },
            ("Group", Schema::AllOf(group)) => group.items.first_mut(),
            _ => None,
        };
        if let Some(place) = place {
            let reference = Ref::from_schema_name(part).into();
            parts.push((part.to_owned(), std::mem::replace(place, reference)));
        }
    }
    for (name, schema) in parts {
        schemas.entry(name).or_insert(schema);
    }
}

/// Says in the text what `security` says to programs: the documentation's pages do not show roles.
#[expect(clippy::expect_used, reason = "it is served as JSON")]
fn name_role(operation: &mut Operation) {
    let requirements = serde_json::to_value(&operation.security).expect("the requirements can be written as JSON");
    let role = match requirements[0]["bearer"][0].as_str() {
        Some("operator") => "Only for operators of the installation.".to_owned(),
        Some(role) => format!("Role: {role}."),
        None => {
            // An empty list: generators would take the requirement of nothing for a requirement.
            operation.security = Some(Vec::new());
            "Without a credential.".to_owned()
        }
    };
    operation.description = Some(operation.description.iter().map(String::as_str).chain([role.as_str()]).collect::<Vec<_>>().join("\n\n"));
}

/// Describes the ids and names in a path by what they belong to: `/price-lists/{id}` has the id of a price list.
fn describe_path_parameters(path: &str, operation: &mut Operation) {
    let segments: Vec<_> = path.split('/').collect();
    let owner = |name: &str| segments.windows(2).find(|pair| pair[1] == format!("{{{name}}}")).map(|pair| pair[0].trim_end_matches('s'));
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if parameter.parameter_in == ParameterIn::Path && parameter.description.is_none() {
            let what = match parameter.name.as_str() {
                "id" => "Id",
                "name" => "Name",
                _ => "Number",
            };
            parameter.description = owner(&parameter.name).map(|owner| format!("{what} of the {}", owner.replace('-', " ")));
        }
    }
}

/// Describes the answers that have no description of their own.
fn describe_responses(is_get: bool, operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            response.description = match status.as_str() {
                "200" if is_get => "What was asked for",
                "200" => "Done; the answer shows the result",
                "201" => "Created; the answer shows what was created",
                "202" => "Accepted; it is done in the background",
                "204" => "Done; the answer is empty",
                "401" => "The credential is missing, wrong or expired",
                "403" => "The caller is not allowed to do this",
                "404" => "The company has nothing with this id",
                "409" => "The present state does not allow this, or something with this name exists",
                "412" => "The resource has another version than `If-Match` gives",
                "413" => "The body is too large",
                "422" => "The body is not valid: `errors` names each wrong field",
                "429" => "Too many requests: wait for the seconds of `Retry-After`",
                _ => "",
            }
            .to_owned();
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
