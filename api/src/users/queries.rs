//! The company's users.

use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::user::KnownUser;
use serde::Serialize;
use services::Versioned;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{Admin, By},
    extract::{Id, Paging, PagingParams},
    freshness::Fresh,
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

#[derive(Serialize, ToSchema)]
pub struct UserView {
    pub id: Uuid,
    pub email: String,
    pub role: String,
    /// `invited`, `active` or `disabled`
    pub status: String,
    pub created_at: DateTime<Utc>,
}

impl UserView {
    pub fn new(given: Versioned<KnownUser>) -> Self {
        let Versioned { id, value: user, created_at, .. } = given;
        Self { id, email: user.email.into_inner(), role: user.role.to_string(), status: user.status.to_string(), created_at }
    }
}

/// The company's users, newest first.
#[utoipa::path(get, path = "/users", tag = "identity", security(("bearer" = ["admin"])), params(Fresh, PagingParams), responses((status = 200, body = Items<UserView>)))]
async fn list(State(app): State<App>, by: By<Admin>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<UserView>>, Problem> {
    let mut read = fresh.read(&app, by.company_id(), &[projections::users::READ_MODEL]).await?;
    let position = read.position;
    let mut rows = projections::users::list(&mut read, by.company_id(), paging.after()?, paging.rows_to_read()).await?;
    drop(read);
    app.store.persons().reveal(by.company_id(), &mut rows).await?;
    let users = rows.into_iter().map(|row| Versioned::of_document(row, position)).collect::<Result<Vec<_>, _>>()?;
    Ok(Answer::ok(position, Items::page(users, &paging, Versioned::after, UserView::new)))
}

/// One user.
#[utoipa::path(get, path = "/users/{id}", tag = "identity", security(("bearer" = ["admin"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = UserView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Admin>, Id(id): Id, fresh: Fresh) -> Result<Answer<UserView>, Problem> {
    let position = fresh.of_log(&app).await?;
    let user = app.services.user(by.company_id(), id).await?;
    Ok(Answer { position, ..Answer::of(user, UserView::new) })
}
