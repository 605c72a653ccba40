//! The company's profile.

use axum::extract::State;
use serde::Deserialize;
use services::CompanyChange;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::view::CompanyView;
use crate::{
    answer::Answer,
    auth::{Admin, By},
    extract::{Body, Patch, given},
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(update))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateCompany {
    /// The company's new name
    name: Option<String>,
    /// The company's new short name
    slug: Option<String>,
    /// The company's address for mail; null clears it
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    email: Patch<String>,
}

/// Change the given fields of the company.
#[utoipa::path(put, path = "/company", operation_id = "change_company", tag = "identity", security(("bearer" = ["admin"])), request_body = UpdateCompany,
    responses((status = 200, body = CompanyView), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn update(State(app): State<App>, by: By<Admin>, Body(input): Body<UpdateCompany>) -> Result<Answer<CompanyView>, Problem> {
    let change = CompanyChange { name: input.name, slug: input.slug, email: input.email };
    Ok(Answer::of(app.services.update_company(&by.op(), change).await?, |given| CompanyView::new(given.id, given.value)))
}
