//! The company's profile.

use axum::extract::State;
use domain::{
    company::{Company, CompanyCommand, CompanyProfile},
    reserved_name::{NameCommand, ReservedName},
};
use eventstore::retry_conflicts;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::auth::{CompanyView, slug_problem};
use crate::{
    answer::Answer,
    app::App,
    auth::{Admin, By},
    extract::{Body, Patch, given},
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(update))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateCompany {
    name: Option<String>,
    slug: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    email: Patch<String>,
}

/// Change the given fields of the company.
#[utoipa::path(put, path = "/company", tag = "identity", security(("bearer" = ["admin"])), request_body = UpdateCompany,
    responses((status = 200, body = CompanyView), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn update(State(app): State<App>, by: By<Admin>, Body(input): Body<UpdateCompany>) -> Result<Answer<CompanyView>, Problem> {
    let (context, company_id) = (by.context(), by.company_id());
    let updated = retry_conflicts(
        |p: &Problem| p.lost_race(by.if_match),
        || async {
            let loaded = app.store.load_fresh::<Company>(company_id, company_id).await?;
            let before = loaded.state.profile.clone().ok_or_else(|| Problem::not_found("company"))?;
            let profile = CompanyProfile {
                name: input.name.clone().unwrap_or_else(|| before.name.clone()),
                slug: input.slug.clone().unwrap_or_else(|| before.slug.clone()),
                email: input.email.clone().unwrap_or_else(|| before.email.clone()),
            };
            profile.validate()?;
            let mut unit = app.store.unit(&context);
            unit.require::<Company>(company_id, by.if_match.or(Some(loaded.version))).await?;
            if profile.slug != before.slug {
                let id = |slug: &str| ReservedName::id(Uuid::nil(), "company_slug", slug);
                unit.decide::<ReservedName>(id(&profile.slug), NameCommand::Reserve { holder_id: company_id })
                    .await
                    .map_err(slug_problem)?;
                unit.decide::<ReservedName>(id(&before.slug), NameCommand::Release { holder_id: company_id }).await?;
            }
            let decided = unit.decide::<Company>(company_id, CompanyCommand::Update(profile.clone())).await?;
            let position = unit.commit().await?;
            Ok::<_, Problem>((profile, position, decided.version))
        },
    );
    let (profile, position, version) = updated.await?;
    let view = CompanyView { id: company_id, name: profile.name, slug: profile.slug, email: profile.email };
    Ok(Answer::ok(position, view).version(version))
}
