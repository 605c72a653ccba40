//! Skillbases.

use axum::extract::State;
use domain::{
    reserved_name::{NameCommand, NameTaken, ReservedName},
    skillbase::{Skillbase, SkillbaseCommand, SkillbaseConfig, SkillbaseContent, SkillbaseState},
};
use eventstore::{ExecuteError, StoreError, retry_conflicts};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Done},
    app::App,
    auth::{By, Manager},
    commands::skillbase_deletion::Announcement,
    extract::{Body, Id},
    json::from_value,
    problem::Problem,
    queries::skillbases::SkillbaseView,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(update, delete))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateSkillbase {
    name: String,
    slug: String,
    #[schema(value_type = Object)]
    config: Value,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateSkillbase {
    name: Option<String>,
    slug: Option<String>,
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// A configuration whose problems say `config.…`.
fn parse_config(config: Value) -> Result<SkillbaseConfig, Problem> {
    from_value::<SkillbaseConfig>(config).map_err(|mut problem| {
        for error in &mut problem.errors {
            error.path = if error.path.is_empty() { "config".to_owned() } else { format!("config.{}", error.path) };
        }
        problem.detail = problem.errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect::<Vec<_>>().join("; ");
        problem
    })
}

fn slug_id(company_id: Uuid, slug: &str) -> Uuid {
    ReservedName::id(company_id, "skillbase_slug", slug)
}

fn slug_taken(error: ExecuteError<NameTaken>) -> Problem {
    match error {
        ExecuteError::Refused(NameTaken) => Problem::conflict("another skillbase of this company has this slug"),
        ExecuteError::Store(error) => error.into(),
    }
}

/// Create a skillbase. The configuration is validated as a whole; problems name the path.
#[utoipa::path(post, path = "/skillbases", tag = "skillbases", security(("bearer" = ["manager"])), request_body = CreateSkillbase,
    responses((status = 201, body = SkillbaseView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create(State(app): State<App>, by: By<Manager>, Body(input): Body<CreateSkillbase>) -> Result<Answer<SkillbaseView>, Problem> {
    let content = SkillbaseContent { name: input.name, slug: input.slug, config: parse_config(input.config)? };
    content.validate()?;
    let (id, context) = (by.ids.make("skillbase"), by.context());
    let position = retry_conflicts(
        |p: &Problem| p.lost_race(by.if_match),
        || async {
            let mut unit = app.store.unit(&context);
            let reserve = NameCommand::Reserve { holder_id: id };
            unit.decide::<ReservedName>(slug_id(context.company_id, &content.slug), reserve).await.map_err(slug_taken)?;
            unit.decide::<Skillbase>(id, SkillbaseCommand::Create(Box::new(content.clone()))).await?;
            Ok::<_, Problem>(unit.commit().await?)
        },
    );
    let position = position.await?;
    view(&app, by.company_id(), id, position).await.map(|answer| Answer { status: axum::http::StatusCode::CREATED, ..answer })
}

/// Change the given fields. The version goes up, unless nothing changes; old versions stay readable.
#[utoipa::path(put, path = "/skillbases/{id}", tag = "skillbases", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)), request_body = UpdateSkillbase,
    responses((status = 200, body = SkillbaseView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn update(
    State(app): State<App>,
    by: By<Manager>,
    Id(id): Id,
    Body(input): Body<UpdateSkillbase>,
) -> Result<Answer<SkillbaseView>, Problem> {
    let context = by.context();
    let config = input.config.map(parse_config).transpose()?;
    let position = retry_conflicts(
        |p: &Problem| p.lost_race(by.if_match),
        || async {
            let loaded = app.store.load_fresh::<Skillbase>(context.company_id, id).await?;
            let SkillbaseState::Live { content: before, .. } = loaded.state.as_ref() else { return Err(Problem::not_found("skillbase")) };
            let content = SkillbaseContent {
                name: input.name.clone().unwrap_or_else(|| before.name.clone()),
                slug: input.slug.clone().unwrap_or_else(|| before.slug.clone()),
                config: config.clone().unwrap_or_else(|| before.config.clone()),
            };
            content.validate()?;
            let mut unit = app.store.unit(&context);
            unit.require::<Skillbase>(id, by.if_match.or(Some(loaded.version))).await?;
            if content.slug != before.slug {
                let (new, old) = (slug_id(context.company_id, &content.slug), slug_id(context.company_id, &before.slug));
                unit.decide::<ReservedName>(new, NameCommand::Reserve { holder_id: id }).await.map_err(slug_taken)?;
                unit.decide::<ReservedName>(old, NameCommand::Release { holder_id: id }).await?;
            }
            unit.decide::<Skillbase>(id, SkillbaseCommand::Update(Box::new(content))).await?;
            Ok(unit.commit().await?)
        },
    );
    let position = position.await?;
    view(&app, by.company_id(), id, position).await
}

/// Delete a skillbase; refused while a running campaign uses it. Its versions stay readable.
#[utoipa::path(delete, path = "/skillbases/{id}", tag = "skillbases", security(("bearer" = ["manager"])), params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem)))]
async fn delete(State(app): State<App>, by: By<Manager>, Id(id): Id) -> Result<Done, Problem> {
    let deleted = retry_conflicts(|p: &Problem| p.lost_race(by.if_match), || delete_unless_used(&app, &by, id));
    Ok(Done { position: deleted.await? })
}

async fn delete_unless_used(app: &App, by: &By<Manager>, id: Uuid) -> Result<i64, Problem> {
    let context = by.context();
    let loaded = app.store.load_fresh::<Skillbase>(context.company_id, id).await?;
    let mut unit = app.store.unit(&context);
    unit.require::<Skillbase>(id, by.if_match.or(Some(loaded.version))).await?;
    if let SkillbaseState::Live { content, .. } = loaded.state.as_ref() {
        let announcement = Announcement::make(app, &context, id).await?;
        // The announcement may be of an earlier deletion that was refused: what has paused since is to be seen.
        app.caught_up(&["campaigns"], Some(app.store.last_position().await?)).await?;
        if projections::campaigns::runs_on(&mut *app.company(context.company_id).await?, context.company_id, id).await? {
            return Err(Problem::conflict("a running campaign uses this skillbase"));
        }
        announcement.require(&mut unit);
        unit.decide::<ReservedName>(slug_id(context.company_id, &content.slug), NameCommand::Release { holder_id: id }).await?;
    }
    unit.decide::<Skillbase>(id, SkillbaseCommand::Delete).await?;
    Ok(unit.commit().await?)
}

/// The skillbase as its stream has it now.
async fn view(app: &App, company_id: Uuid, id: Uuid, position: i64) -> Result<Answer<SkillbaseView>, Problem> {
    let loaded = app.store.load::<Skillbase>(company_id, id).await.map_err(|e: StoreError| Problem::from(e))?;
    let SkillbaseState::Live { content, version } = loaded.state.as_ref() else { return Err(Problem::not_found("skillbase")) };
    let view = SkillbaseView {
        id,
        company_id,
        name: content.name.clone(),
        slug: content.slug.clone(),
        config: content.config.to_api(),
        version: i64::from(*version),
        created_at: loaded.created_at,
        updated_at: loaded.updated_at,
    };
    Ok(Answer::ok(position, view).version(loaded.version))
}
