//! Who calls, and their company.

use axum::extract::State;
use domain::{company::Company, user::User};
use eventstore::ActorKind;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::Fresh;
use crate::{
    answer::Answer,
    app::App,
    auth::{By, Viewer},
    commands::auth::{CompanyView, RegisteredUser},
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(me)).routes(routes!(company))
}

#[derive(Serialize, ToSchema)]
struct Me {
    /// Null for an API key
    user: Option<RegisteredUser>,
    /// Null for a user
    api_key: Option<KeyView>,
    company: CompanyView,
    /// Whether the user runs the installation: may rebuild, restore and retry projections
    is_operator: bool,
}

#[derive(Serialize, ToSchema)]
struct KeyView {
    id: Uuid,
    name: String,
    role: String,
}

/// Who I am.
#[utoipa::path(get, path = "/auth/me", tag = "identity", security(("bearer" = ["viewer"])), params(Fresh), responses((status = 200, body = Me), (status = 401, body = Problem)))]
async fn me(State(app): State<App>, by: By<Viewer>, fresh: Fresh) -> Result<Answer<Me>, Problem> {
    let position = fresh.wait(&app, &["users", "companies"]).await?;
    // Right after registering the read models may not have it yet; the log has.
    let company = app.store.load::<Company>(by.company_id(), by.company_id()).await?;
    let profile = company.state.profile.clone().ok_or_else(|| Problem::not_found("company"))?;
    let company = CompanyView { id: by.company_id(), name: profile.name, slug: profile.slug, email: profile.email };
    let actor = &by.identity.actor;
    let id = actor.id.unwrap_or_default();
    let (user, api_key) = match actor.kind {
        ActorKind::User => (app.store.load_fresh::<User>(by.company_id(), id).await?.state.known().cloned(), None),
        _ => (None, Some(KeyView { id, name: actor.name.clone().unwrap_or_default(), role: by.identity.role.to_string() })),
    };
    let user = user.map(|known| RegisteredUser { id, email: known.email.into_inner(), role: known.role.to_string() });
    Ok(Answer::ok(position, Me { user, api_key, company, is_operator: by.identity.is_operator }))
}

/// The caller's company.
#[utoipa::path(get, path = "/company", tag = "identity", security(("bearer" = ["viewer"])), params(Fresh), responses((status = 200, body = CompanyView)))]
async fn company(State(app): State<App>, by: By<Viewer>, fresh: Fresh) -> Result<Answer<CompanyView>, Problem> {
    let position = fresh.wait(&app, &["companies"]).await?;
    let (view, version) = read_company(&app, by.company_id()).await?;
    Ok(Answer::ok(position, view).version(version))
}

async fn read_company(app: &App, company_id: Uuid) -> Result<(CompanyView, i64), Problem> {
    let row = projections::companies::get(&mut *app.company(company_id).await?, company_id)
        .await?
        .ok_or_else(|| Problem::not_found("company"))?;
    Ok((CompanyView { id: row.company_id, name: row.name, slug: row.slug, email: row.email }, row.version))
}
