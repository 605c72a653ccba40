//! Users: admins invite them, give them roles, and disable them.

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{role::Role, user::KnownUser};
use serde::{Deserialize, Serialize};
use services::{InvitedUser, Versioned, identity::credentials::UserChange};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{Admin, Auditor, By, routes::SessionView},
    edge::{AuditSubject, Origin},
    extract::{Body, Id, Paging, PagingParams},
    freshness::Fresh,
    problem::Problem,
    state::App,
    words::{RoleName, UserStatusName},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, invite)).routes(routes!(get, change)).routes(routes!(invite_again)).routes(routes!(accept))
}

#[derive(Serialize, ToSchema)]
pub struct UserView {
    /// Id of the user
    pub id: Uuid,
    /// The user's address
    pub email: String,
    /// What the user may do
    #[schema(value_type = RoleName)]
    pub role: String,
    /// Whether the user can log in
    #[schema(value_type = UserStatusName)]
    pub status: String,
    /// When the user was invited or registered
    pub created_at: DateTime<Utc>,
}

impl UserView {
    pub fn new(given: Versioned<KnownUser>) -> Self {
        let Versioned { id, value: user, created_at, .. } = given;
        Self { id, email: user.email.into_inner(), role: user.role.to_string(), status: user.status.to_string(), created_at }
    }
}

/// The company's users, newest first.
#[utoipa::path(get, path = "/users", operation_id = "list_users", tag = "identity", security(("bearer" = ["auditor"])), params(Fresh, PagingParams), responses((status = 200, body = Items<UserView>)))]
async fn list(State(app): State<App>, by: By<Auditor>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<UserView>>, Problem> {
    let mut read = fresh.read(&app, by.company_id(), &[projections::users::READ_MODEL]).await?;
    let position = read.position;
    let mut rows = projections::users::list(&mut read, by.company_id(), paging.after()?, paging.rows_to_read()).await?;
    drop(read);
    app.store.persons().reveal(by.company_id(), &mut rows).await?;
    let users = rows.into_iter().map(|row| Versioned::of_document(row, position)).collect::<Result<Vec<_>, _>>()?;
    Ok(Answer::ok(position, Items::page(users, &paging, Versioned::after, UserView::new)))
}

/// One user.
#[utoipa::path(get, path = "/users/{id}", operation_id = "get_user", tag = "identity", security(("bearer" = ["auditor"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = UserView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Auditor>, Id(id): Id, fresh: Fresh) -> Result<Answer<UserView>, Problem> {
    let position = fresh.of_log(&app).await?;
    let user = app.services.user(by.company_id(), id).await?;
    Ok(Answer { position, ..Answer::of(user, UserView::new) })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Invite {
    /// The user's address, with which they log in
    #[schema(example = "ada@example.com")]
    email: String,
    /// What the user may do
    #[schema(value_type = RoleName, example = "manager")]
    role: Role,
}

/// A user who can join with the invitation.
#[derive(Serialize, ToSchema)]
struct Invited {
    #[serde(flatten)]
    user: UserView,
    /// Secret for `POST /auth/accept-invitation`, can be used once; only this answer shows it
    invitation: String,
    /// Until when the invitation can be accepted
    invitation_expires_at: DateTime<Utc>,
}

/// Invite a user.
///
/// Send the invitation to the user, who chooses a password with it. Only this answer shows it.
#[utoipa::path(post, path = "/users", operation_id = "invite_user", tag = "identity", security(("bearer" = ["admin"])), request_body = Invite,
    responses((status = 201, body = Invited), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn invite(State(app): State<App>, by: By<Admin>, Body(input): Body<Invite>) -> Result<Answer<Invited>, Problem> {
    Ok(invited(app.services.invite_user(&by.op(), &input.email, input.role).await?))
}

/// Issue a new invitation for a user who has not joined yet; the earlier invitation is revoked.
#[utoipa::path(post, path = "/users/{id}/invitation", operation_id = "renew_invitation", tag = "identity", security(("bearer" = ["admin"])), params(("id" = Uuid, Path)),
    responses((status = 201, body = Invited), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn invite_again(State(app): State<App>, by: By<Admin>, Id(id): Id) -> Result<Answer<Invited>, Problem> {
    Ok(invited(app.services.renew_invitation(&by.op(), id).await?))
}

fn invited(given: InvitedUser) -> Answer<Invited> {
    let InvitedUser { user, invitation, expires_at } = given;
    Answer::of_new(user, |user| Invited { user: UserView::new(user), invitation, invitation_expires_at: expires_at })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeUser {
    /// The user's new role
    #[schema(value_type = Option<RoleName>, example = "viewer")]
    role: Option<Role>,
    /// true: the user can no longer log in and existing tokens are rejected; a pending invitation is revoked
    disabled: Option<bool>,
}

/// Change a user's role, disable or enable a user.
///
/// The change takes effect in all processes within seconds. The last admin of a company cannot be disabled or get another role.
#[utoipa::path(put, path = "/users/{id}", operation_id = "change_user", tag = "identity", security(("bearer" = ["admin"])), params(("id" = Uuid, Path)), request_body = ChangeUser,
    responses((status = 200, body = UserView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn change(State(app): State<App>, by: By<Admin>, Id(id): Id, Body(input): Body<ChangeUser>) -> Result<Answer<UserView>, Problem> {
    let _turn = app.shares.of_user_change(by.company_id()).await?;
    let change = UserChange { role: input.role, disabled: input.disabled };
    Ok(Answer::of(app.services.change_user(&by.op(), id, change).await?, UserView::new))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcceptInvitation {
    /// The secret from the invitation
    invitation: String,
    /// The password that the user chooses, 8 to 200 characters
    password: String,
}

/// Accept an invitation: choose a password and log in.
#[utoipa::path(post, path = "/auth/accept-invitation", operation_id = "accept_invitation", tag = "identity", security(()), request_body = AcceptInvitation,
    responses((status = 200, body = SessionView), (status = 401, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn accept(
    State(app): State<App>,
    Extension(origin): Extension<Origin>,
    Body(input): Body<AcceptInvitation>,
) -> Result<Response, Problem> {
    // Checking and hashing a password is work: only for a client that has an invitation.
    let is_invited = async || Ok(app.services.require_invitation(&input.invitation).await?);
    app.failed_credentials.attempt(&origin.network(), is_invited).await?;
    let (session, user) = app.services.accept_invitation(origin.request_id, &input.invitation, input.password).await?;
    Ok((StatusCode::OK, Extension(AuditSubject::from(user)), Json(SessionView::from(session))).into_response())
}
