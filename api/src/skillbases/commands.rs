//! Skillbases.

use axum::extract::State;
use domain::{
    skillbase::{LiveSkillbase, SkillbaseConfig, SkillbaseContent},
    validation::FieldFault,
};
use serde::Deserialize;
use serde_json::Value;
use services::{SkillbaseChange, Versioned};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::{Answer, Done},
    auth::{By, Manager},
    extract::{Body, Id, Patch, given},
    json::{find_nul, from_value},
    problem::Problem,
    skillbases::{queries::SkillbaseView, schema::ConfigSchema},
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(update, delete))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"name": "Reminder", "slug": "reminder", "config": super::schema::example()}))]
#[serde(deny_unknown_fields)]
struct CreateSkillbase {
    /// A name for the users of the company
    name: String,
    /// A short name, unique in the company: lower-case letters, digits and hyphens
    slug: String,
    /// What the bot is and says
    #[schema(value_type = ConfigSchema)]
    config: Value,
    /// Any text
    description: Option<String>,
    /// Campaigns start with an active skillbase only; absent: true
    is_active: Option<bool>,
    /// A note for the users of the company, without an effect; absent: false
    is_published: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateSkillbase {
    /// The new name
    name: Option<String>,
    /// The new short name
    slug: Option<String>,
    /// The whole new configuration
    #[schema(value_type = Option<ConfigSchema>)]
    config: Option<Value>,
    /// null clears it
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    /// Campaigns start with an active skillbase only
    is_active: Option<bool>,
    /// A note for the users of the company, without an effect
    is_published: Option<bool>,
}

/// Parses a configuration; the paths of problems begin with `config.`.
fn parse_config(config: Value) -> Result<SkillbaseConfig, Problem> {
    if let Some(path) = find_nul(&config) {
        return Err(Problem::invalid(format!("config{path}"), FieldFault::NulCharacter));
    }
    from_value::<SkillbaseConfig>(config).map_err(|mut problem| {
        for error in &mut problem.errors {
            error.path = if error.path.is_empty() { "config".to_owned() } else { format!("config.{}", error.path) };
        }
        problem.detail = problem.errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect::<Vec<_>>().join("; ");
        problem
    })
}

/// The view of the skillbase, from the state of its stream.
fn view(by: &By<Manager>, given: Versioned<LiveSkillbase>) -> SkillbaseView {
    let LiveSkillbase { content, version } = given.value;
    SkillbaseView {
        id: given.id,
        company_id: by.company_id(),
        name: content.name,
        slug: content.slug,
        config: content.config.to_api(),
        description: content.description,
        is_active: content.is_active,
        is_published: content.is_published,
        version: i64::from(version),
        created_at: given.created_at,
        updated_at: given.updated_at,
    }
}

/// Create a skillbase.
///
/// The whole configuration is validated; problems name the path.
#[utoipa::path(post, path = "/skillbases", operation_id = "create_skillbase", tag = "skillbases", security(("bearer" = ["manager"])), request_body = CreateSkillbase,
    responses((status = 201, body = SkillbaseView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create(State(app): State<App>, by: By<Manager>, Body(input): Body<CreateSkillbase>) -> Result<Answer<SkillbaseView>, Problem> {
    let content = SkillbaseContent {
        name: input.name,
        slug: input.slug,
        config: parse_config(input.config)?,
        description: input.description,
        is_active: input.is_active.unwrap_or(true),
        is_published: input.is_published.unwrap_or(false),
    };
    Ok(Answer::of_new(app.services.create_skillbase(&by.op(), content).await?, |skillbase| view(&by, skillbase)))
}

/// Change the given fields.
///
/// The version increases, unless nothing changes; old versions stay readable.
#[utoipa::path(put, path = "/skillbases/{id}", operation_id = "change_skillbase", tag = "skillbases", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)), request_body = UpdateSkillbase,
    responses((status = 200, body = SkillbaseView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn update(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    Body(input): Body<UpdateSkillbase>,
) -> Result<Answer<SkillbaseView>, Problem> {
    let change = SkillbaseChange {
        name: input.name,
        slug: input.slug,
        config: input.config.map(parse_config).transpose()?,
        description: input.description,
        is_active: input.is_active,
        is_published: input.is_published,
    };
    Ok(Answer::of(app.services.update_skillbase(&by.op(), id, change).await?, |skillbase| view(&by, skillbase)))
}

/// Delete a skillbase.
///
/// The request is refused while a running campaign uses the skillbase. Its versions stay readable.
#[utoipa::path(delete, path = "/skillbases/{id}", operation_id = "delete_skillbase", tag = "skillbases", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn delete(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Done, Problem> {
    Ok(Done { position: app.services.delete_skillbase(&by.op(), id).await? })
}
