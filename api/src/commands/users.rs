//! Users: invited by admins, who give them roles and take them away.

use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{
    Personal,
    role::Role,
    user::{User, UserCommand, UserStatus},
    validation::Invalid,
};
use eventstore::{Actor, ActorKind, CommandContext, Metadata, now};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::auth::{AUTH_BODY_MAX_BYTES, UNFINISHED_MINUTES, check_email, check_password};
use crate::{
    answer::Answer,
    app::App,
    auth::{
        Admin, By, Session, credentials,
        credentials::{NotChanged, UserChange, UserCredentials},
        hash_password,
    },
    edge::{AuditSubject, Origin},
    extract::{Body, Id},
    problem::Problem,
    queries::users::UserView,
    words::RoleName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(invite))
        .routes(routes!(invite_again))
        .routes(routes!(change))
        .routes(routes!(accept))
        .layer(DefaultBodyLimit::max(AUTH_BODY_MAX_BYTES))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Invite {
    #[schema(example = "ada@example.com")]
    email: String,
    #[schema(value_type = RoleName, example = "manager")]
    role: Role,
}

/// A user who can join with the invitation.
#[derive(Serialize, ToSchema)]
struct Invited {
    #[serde(flatten)]
    user: UserView,
    /// For `POST /auth/accept-invitation`, once; shown only here
    invitation: String,
    invitation_expires_at: DateTime<Utc>,
}

/// Invite somebody. Give them the invitation, which is shown only in this answer: they choose their password with it.
#[utoipa::path(post, path = "/users", tag = "identity", security(("bearer" = ["admin"])), request_body = Invite,
    responses((status = 201, body = Invited), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn invite(State(app): State<App>, by: By<Admin>, Body(input): Body<Invite>) -> Result<Answer<Invited>, Problem> {
    let mut invalid = Invalid::default();
    let email = check_email(&mut invalid, &input.email);
    invalid.into_result()?;
    let (id, pool) = (by.ids.make("user"), &app.access.identity);
    let credentials = UserCredentials::invited(id, by.company_id(), input.role);
    let email_hash = credentials::email_hash(&app.master, &email);
    let save = async || credentials::save_user(&mut *pool.acquire().await?, &email_hash, &credentials).await;
    if !save().await? {
        forget_unfinished_invitation(&app, by.company_id(), &email_hash).await?;
        if !save().await? {
            return Err(Problem::conflict("a user of the company has this e-mail address already, or is invited with it"));
        }
    }
    let command = UserCommand::Invite { email: Personal::new(email), role: input.role };
    let committed = app.store.execute::<User>(&by.context(), id, command).await?;
    let invited = credentials::invite(pool, id).await?;
    let (invitation, invitation_expires_at) = invited.ok_or_else(|| Problem::conflict("this user has joined already"))?;
    let user = UserView::of(id, &committed, now())?;
    Ok(Answer::created(committed.position, Invited { user, invitation, invitation_expires_at }).version(committed.version))
}

/// Gives an address free in a company whose invitation was cut off before it was given out, or was not taken up.
async fn forget_unfinished_invitation(app: &App, company_id: Uuid, email_hash: &str) -> Result<(), Problem> {
    let pool = &app.access.identity;
    credentials::forget_expired_invitation(pool, company_id, email_hash).await?;
    let stored = credentials::stored_invitation(pool, company_id, email_hash, UNFINISHED_MINUTES).await?;
    let Some(known) = stored else { return Ok(()) };
    if app.store.load_fresh::<User>(company_id, known.user_id).await?.version == 0 {
        credentials::delete_unsent_invitation(pool, known.user_id).await?;
    }
    Ok(())
}

/// A new invitation for somebody who has not joined yet; the one before counts no longer.
#[utoipa::path(post, path = "/users/{id}/invitation", tag = "identity", security(("bearer" = ["admin"])), params(("id" = Uuid, Path)),
    responses((status = 201, body = Invited), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn invite_again(State(app): State<App>, by: By<Admin>, Id(id): Id) -> Result<Answer<Invited>, Problem> {
    let loaded = app.store.load_fresh::<User>(by.company_id(), id).await?;
    let user = loaded.state.known().ok_or_else(|| Problem::not_found("user"))?;
    let invited = credentials::invite(&app.access.identity, id).await?;
    let (invitation, invitation_expires_at) = invited.ok_or_else(|| match user.status {
        UserStatus::Invited => Problem::conflict(NotChanged::NeverJoined.to_string()),
        status => Problem::conflict(format!("this user is {status}")),
    })?;
    let user = UserView::new(id, user, loaded.created_at);
    Ok(Answer::created(loaded.position, Invited { user, invitation, invitation_expires_at }).version(loaded.version))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeUser {
    #[schema(value_type = Option<RoleName>, example = "viewer")]
    role: Option<Role>,
    /// Whoever is disabled cannot log in, and their tokens count no longer; of somebody who has not joined, the invitation is withdrawn
    disabled: Option<bool>,
}

/// Change a user's role, disable them, or enable them again; it counts within seconds everywhere. The last admin stays one.
#[utoipa::path(put, path = "/users/{id}", tag = "identity", security(("bearer" = ["admin"])), params(("id" = Uuid, Path)), request_body = ChangeUser,
    responses((status = 200, body = UserView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn change(State(app): State<App>, by: By<Admin>, Id(id): Id, Body(input): Body<ChangeUser>) -> Result<Answer<UserView>, Problem> {
    let (company_id, context) = (by.company_id(), by.context());
    let _turn = app.shares.of_user_change(company_id).await?;
    let mut rights = credentials::lock_users(&app.access.identity, company_id).await?;
    let loaded = app.store.load_fresh::<User>(company_id, id).await?;
    let user = loaded.state.known().ok_or_else(|| Problem::not_found("user"))?;
    loaded.require(by.if_match)?;
    let change = UserChange { role: input.role, disabled: input.disabled };
    let changed = credentials::change_user(&mut rights, company_id, id, change).await?;
    changed.map_err(|refused| Problem::conflict(refused.to_string()))?;
    // Rights are taken away before the log says so, and given once it does: whatever happens in between, nobody has more than it says.
    let enables = input.disabled == Some(false) && user.status == UserStatus::Disabled;
    let takes_away = input.disabled == Some(true) || (input.role.is_some_and(|role| role < user.role) && !enables);
    let is_repeated = takes_away && user.status == UserStatus::Disabled;
    let mut given = Some(rights);
    if takes_away && let Some(taken) = given.take() {
        taken.commit().await?;
        // All companies' callers are looked up again then: not for a change that changes nothing.
        if !is_repeated {
            app.callers.forget_all();
        }
    }
    let command = UserCommand::Change { role: input.role, disabled: input.disabled };
    let changed = app.store.execute_if::<User>(&context, id, by.if_match, command).await?;
    match given {
        Some(given) => given.commit().await?,
        None => settle(&app, company_id, id).await?,
    }
    if !changed.events.is_empty() {
        app.callers.forget_all();
    }
    let after = app.store.load_fresh::<User>(company_id, id).await?;
    let user = after.state.known().ok_or_else(|| Problem::not_found("user"))?;
    Ok(Answer::ok(changed.position, UserView::new(id, user, after.created_at)).version(after.version))
}

/// Gives a user the rights that the log says they have: another admin may have given some after these were taken away, and before the
/// log said so.
async fn settle(app: &App, company_id: Uuid, id: Uuid) -> Result<(), Problem> {
    let mut rights = credentials::lock_users(&app.access.identity, company_id).await?;
    let loaded = app.store.load_fresh::<User>(company_id, id).await?;
    let user = loaded.state.known().ok_or_else(|| Problem::not_found("user"))?;
    let said = UserChange { role: Some(user.role), disabled: Some(user.status == UserStatus::Disabled) };
    match credentials::change_user(&mut rights, company_id, id, said).await? {
        Ok(()) => Ok(rights.commit().await?),
        // The company keeps its last admin; of who never joined there is nothing to settle.
        Err(NotChanged::NoAdminLeft | NotChanged::NeverJoined) => Ok(()),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcceptInvitation {
    invitation: String,
    password: String,
}

/// Take an invitation up: choose a password, and be logged in.
#[utoipa::path(post, path = "/auth/accept-invitation", tag = "identity", security(()), request_body = AcceptInvitation,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn accept(
    State(app): State<App>,
    Extension(origin): Extension<Origin>,
    Body(input): Body<AcceptInvitation>,
) -> Result<Response, Problem> {
    let pool = &app.access.identity;
    let refused = || Problem::unauthorized("the invitation is not valid or has expired");
    // Checking and hashing a password is work: only for who has an invitation.
    let is_invited = async || match credentials::is_invited(pool, &input.invitation).await? {
        true => Ok(()),
        false => Err(refused()),
    };
    app.guesses.unless_too_many(&origin.network(), is_invited).await?;
    let mut invalid = Invalid::default();
    check_password(&mut invalid, "password", &input.password, None);
    invalid.into_result()?;
    let accepted = credentials::accept(pool, &input.invitation, &hash_password(input.password).await?).await;
    let accepted = accepted.map_err(|error| match error {
        // Who shows the invitation is who it was sent to, and may know.
        sqlx::Error::Database(refused) if refused.is_unique_violation() => {
            Problem::conflict("this e-mail address belongs to a user of another company; ask for an invitation to another address")
        }
        error => error.into(),
    })?;
    let (accepted, user) = accepted.ok_or_else(refused)?;
    let actor = Actor { kind: ActorKind::User, id: Some(user.user_id), name: None };
    let metadata = Metadata { actor, correlation_id: origin.request_id, causation_id: None, idempotency_key: None };
    let context = CommandContext { company_id: user.company_id, metadata, identity: None, now: now() };
    app.store.execute::<User>(&context, user.user_id, UserCommand::Join).await?;
    accepted.commit().await?;
    let session = app.sessions().open(&user).await?;
    Ok((StatusCode::OK, Extension(AuditSubject::user(user.company_id, user.user_id)), Json(session)).into_response())
}
