//! The caller and its company.

use axum::extract::State;
use domain::{company::Company, user::User};
use eventstore::ActorKind;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{By, Viewer},
    company::view::{CompanyView, RegisteredUser},
    freshness::Fresh,
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(me)).routes(routes!(company))
}

#[derive(Serialize, ToSchema)]
struct Me {
    /// The user; null if the caller is an API key
    user: Option<RegisteredUser>,
    /// The API key; null if the caller is a user
    api_key: Option<KeyView>,
    /// The company that the caller belongs to
    company: CompanyView,
    /// Whether the user is an operator of the installation and may rebuild, restore and retry projections
    is_operator: bool,
}

#[derive(Serialize, ToSchema)]
struct KeyView {
    /// Id of the API key
    id: Uuid,
    /// The key's name
    name: String,
    /// What the key may do
    role: String,
}

/// The authenticated caller and its company.
#[utoipa::path(get, path = "/auth/me", operation_id = "get_me", tag = "identity", security(("bearer" = ["viewer"])), params(Fresh), responses((status = 200, body = Me), (status = 401, body = Problem)))]
async fn me(State(app): State<App>, by: By<Viewer>, fresh: Fresh) -> Result<Answer<Me>, Problem> {
    let position = fresh.wait(&app, &[projections::users::READ_MODEL, projections::companies::READ_MODEL]).await?;
    // Right after the registration, the read models may not have the company yet; the log has it.
    let company = app.store.load::<Company>(by.company_id(), by.company_id()).await?;
    let profile = company.state.present().cloned().ok_or_else(|| Problem::not_found("company"))?;
    let company = CompanyView::new(by.company_id(), profile);
    let actor = &by.identity.actor;
    let id = by.identity.id();
    let (user, api_key) = match actor.kind {
        ActorKind::User => (app.store.load_fresh::<User>(by.company_id(), id).await?.state.present().cloned(), None),
        _ => (None, Some(KeyView { id, name: actor.name.clone().unwrap_or_default(), role: by.identity.role.to_string() })),
    };
    let user = user.map(|known| RegisteredUser { id, email: known.email.into_inner(), role: known.role.to_string() });
    Ok(Answer::ok(position, Me { user, api_key, company, is_operator: by.identity.is_operator }))
}

/// The caller's company.
#[utoipa::path(get, path = "/company", operation_id = "get_company", tag = "identity", security(("bearer" = ["viewer"])), params(Fresh), responses((status = 200, body = CompanyView)))]
async fn company(State(app): State<App>, by: By<Viewer>, fresh: Fresh) -> Result<Answer<CompanyView>, Problem> {
    let mut read = fresh.read_by_key(&app, by.company_id(), &[projections::companies::READ_MODEL]).await?;
    let row = projections::companies::get(&mut read, by.company_id()).await?.ok_or_else(|| Problem::not_found("company"))?;
    let version = row.version;
    let view = CompanyView { id: row.company_id, name: row.name, slug: row.slug, email: row.email };
    Ok(Answer::ok(read.position, view).version(version))
}
