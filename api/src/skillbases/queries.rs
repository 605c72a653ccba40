//! Skillbases, their versions, and the data that an agent needs from them.

use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::skillbase::{SkillbaseConfig, prompt, scenario, tools};
use projections::{
    page::After,
    skillbases::{SkillbaseFilter, SkillbaseRow, SkillbaseVersionRow},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{By, Viewer},
    extract::{Id, Paging, PagingParams, Params, QueryOf},
    freshness::Fresh,
    problem::Problem,
    skillbases::schema::{ConfigSchema, ScenarioSchema, ToolSchema},
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(versions))
        .routes(routes!(version))
        .routes(routes!(for_call))
        .routes(routes!(prompt_text))
        .routes(routes!(scenario_of))
        .routes(routes!(tools_of))
}

#[derive(Serialize, ToSchema)]
pub struct SkillbaseView {
    /// Id of the skillbase
    pub id: Uuid,
    /// Id of the company
    pub company_id: Uuid,
    /// The skillbase's name
    pub name: String,
    /// Its short name, unique in the company
    pub slug: String,
    /// The bot's configuration, as it was given
    #[schema(value_type = ConfigSchema)]
    pub config: Value,
    /// Any text
    pub description: Option<String>,
    /// Campaigns start with an active skillbase only
    pub is_active: bool,
    /// A note for the users of the company, without an effect
    pub is_published: bool,
    /// Version of the configuration; increases with every change
    pub version: i64,
    /// When the skillbase was created
    pub created_at: DateTime<Utc>,
    /// When it last changed
    pub updated_at: DateTime<Utc>,
}

impl From<SkillbaseRow> for SkillbaseView {
    fn from(row: SkillbaseRow) -> Self {
        Self {
            id: row.skillbase_id,
            company_id: row.company_id,
            name: row.name,
            slug: row.slug,
            config: row.config,
            description: row.description,
            is_active: row.is_active,
            is_published: row.is_published,
            version: i64::from(row.version),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only skillbases whose name contains this text, without regard to case
    name: Option<String>,
    /// Only the skillbase with this slug
    slug: Option<String>,
    /// Only active skillbases, or only others
    is_active: Option<bool>,
    /// Only published skillbases, or only others
    is_published: Option<bool>,
}

/// Skillbases, newest first.
#[utoipa::path(get, path = "/skillbases", operation_id = "list_skillbases", tag = "skillbases", security(("bearer" = ["viewer"])), params(Filter, Fresh, PagingParams), responses((status = 200, body = Items<SkillbaseView>)))]
async fn list(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(filter): QueryOf<Filter>,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<SkillbaseView>>, Problem> {
    let mut read = fresh.read(&app, by.company_id(), &[projections::skillbases::READ_MODEL]).await?;
    let position = read.position;
    let filter = SkillbaseFilter {
        name: filter.name.as_deref(),
        slug: filter.slug.as_deref(),
        is_active: filter.is_active,
        is_published: filter.is_published,
    };
    let total = projections::skillbases::count(&mut read, by.company_id(), filter).await?;
    let page = projections::skillbases::list(&mut read, by.company_id(), filter, paging.after()?, usize::from(paging.limit)).await?;
    let cursor = |row: &SkillbaseRow| After { at: row.created_at, id: row.skillbase_id };
    Ok(Answer::ok(position, Items::bounded(page, cursor, SkillbaseView::from).of(total)))
}

async fn row(app: &App, by: &By<Viewer>, id: Uuid, fresh: &Fresh) -> Result<(SkillbaseRow, i64), Problem> {
    let mut read = fresh.read_by_key(app, by.company_id(), &[projections::skillbases::READ_MODEL]).await?;
    let position = read.position;
    let row = projections::skillbases::get(&mut read, by.company_id(), id).await?.ok_or_else(|| Problem::not_found("skillbase"))?;
    Ok((row, position))
}

async fn config(app: &App, by: &By<Viewer>, id: Uuid, fresh: &Fresh) -> Result<(SkillbaseConfig, SkillbaseRow, i64), Problem> {
    let (row, position) = row(app, by, id, fresh).await?;
    let config = serde_json::from_value(row.config.clone()).map_err(|e| Problem::internal(&e))?;
    Ok((config, row, position))
}

/// One skillbase.
#[utoipa::path(get, path = "/skillbases/{id}", operation_id = "get_skillbase", tag = "skillbases", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = SkillbaseView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<SkillbaseView>, Problem> {
    let (row, position) = row(&app, &by, id, &fresh).await?;
    let version = row.stream_version;
    Ok(Answer::ok(position, row.into()).version(version))
}

#[derive(Serialize, ToSchema)]
struct SkillbaseVersionView {
    /// Number of the version, from 1
    version: i64,
    /// The name at this version
    name: String,
    /// The slug at this version
    slug: String,
    /// The configuration of this version
    #[schema(value_type = ConfigSchema)]
    config: Value,
    /// When this version was made
    created_at: DateTime<Utc>,
}

impl From<SkillbaseVersionRow> for SkillbaseVersionView {
    fn from(row: SkillbaseVersionRow) -> Self {
        Self { version: i64::from(row.version), name: row.name, slug: row.slug, config: row.config, created_at: row.created_at }
    }
}

/// All versions of a skillbase, newest first; they are kept after it is deleted.
#[utoipa::path(get, path = "/skillbases/{id}/versions", operation_id = "list_skillbase_versions", tag = "skillbases", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, PagingParams),
    responses((status = 200, body = Items<SkillbaseVersionView>), (status = 404, body = Problem)))]
async fn versions(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<SkillbaseVersionView>>, Problem> {
    let mut read = fresh.read(&app, by.company_id(), &[projections::skillbases::READ_MODEL]).await?;
    let position = read.position;
    let before = paging.after::<i32>()?;
    let page = projections::skillbases::versions(&mut read, by.company_id(), id, before, usize::from(paging.limit)).await?;
    if page.rows.is_empty() && before.is_none() {
        return Err(Problem::not_found("skillbase"));
    }
    Ok(Answer::ok(position, Items::bounded(page, |row| row.version, SkillbaseVersionView::from)))
}

/// One version of a skillbase.
#[utoipa::path(get, path = "/skillbases/{id}/versions/{n}", operation_id = "get_skillbase_version", tag = "skillbases", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), ("n" = i32, Path), Fresh),
    responses((status = 200, body = SkillbaseVersionView), (status = 404, body = Problem)))]
async fn version(
    State(app): State<App>,
    by: By<Viewer>,
    Params((id, n)): Params<(Uuid, i32)>,
    fresh: Fresh,
) -> Result<Answer<SkillbaseVersionView>, Problem> {
    let mut read = fresh.read_by_key(&app, by.company_id(), &[projections::skillbases::READ_MODEL]).await?;
    let position = read.position;
    let row = projections::skillbases::version(&mut read, by.company_id(), id, n).await?;
    Ok(Answer::ok(position, row.ok_or_else(|| Problem::not_found("version of this skillbase"))?.into()))
}

#[derive(Serialize, ToSchema)]
struct ForCall {
    /// Id of the skillbase
    id: Uuid,
    /// The skillbase's name
    name: String,
    /// The bot's configuration
    #[schema(value_type = ConfigSchema)]
    config: Value,
    /// Version of the configuration
    version: i64,
    /// The system prompt for the language model
    prompt: String,
    /// The flow as a graph, for a dialog engine
    #[schema(value_type = ScenarioSchema)]
    scenario: scenario::Scenario,
    /// The enabled tools as OpenAI function schemas
    #[schema(value_type = Vec<ToolSchema>)]
    tools: Vec<Value>,
}

/// All data that an agent needs for a call, in one request.
#[utoipa::path(get, path = "/skillbases/{id}/for-call", operation_id = "get_skillbase_for_call", tag = "skillbases", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = ForCall), (status = 404, body = Problem)))]
async fn for_call(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<ForCall>, Problem> {
    let (config, row, position) = config(&app, &by, id, &fresh).await?;
    let stream_version = row.stream_version;
    let body = ForCall {
        id,
        name: row.name,
        config: row.config,
        version: i64::from(row.version),
        prompt: prompt::build(&config),
        scenario: scenario::adapt(&config),
        tools: tools::schemas(&config),
    };
    Ok(Answer::ok(position, body).version(stream_version))
}

#[derive(Serialize, ToSchema)]
struct Prompt {
    /// The system prompt for the language model
    prompt: String,
}

/// The system prompt.
#[utoipa::path(get, path = "/skillbases/{id}/prompt", operation_id = "get_prompt", tag = "skillbases", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = Prompt), (status = 404, body = Problem)))]
async fn prompt_text(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<Prompt>, Problem> {
    let (config, _, position) = config(&app, &by, id, &fresh).await?;
    Ok(Answer::ok(position, Prompt { prompt: prompt::build(&config) }))
}

/// The scenario for a dialog engine.
#[utoipa::path(get, path = "/skillbases/{id}/scenario", operation_id = "get_scenario", tag = "skillbases", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = ScenarioSchema), (status = 404, body = Problem)))]
async fn scenario_of(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<scenario::Scenario>, Problem> {
    let (config, _, position) = config(&app, &by, id, &fresh).await?;
    Ok(Answer::ok(position, scenario::adapt(&config)))
}

/// The enabled tools as OpenAI function schemas.
#[utoipa::path(get, path = "/skillbases/{id}/tools", operation_id = "get_tools", tag = "skillbases", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = Vec<ToolSchema>), (status = 404, body = Problem)))]
async fn tools_of(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<Vec<Value>>, Problem> {
    let (config, _, position) = config(&app, &by, id, &fresh).await?;
    Ok(Answer::ok(position, tools::schemas(&config)))
}
