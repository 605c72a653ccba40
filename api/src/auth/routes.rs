//! Registration, login, logout, passwords and tickets.

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use services::{Ids, NewCompany, identity::Session};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    auth::{By, Viewer},
    company::{CompanyView, RegisteredUser},
    edge::{AuditSubject, Origin},
    extract::{Body, OptionalBody},
    problem::Problem,
    settings::BehindProxy,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(change_password))
        .routes(routes!(ticket))
}

/// Tokens for the next requests.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    /// For `Authorization: Bearer`
    pub token: String,
    /// When the token expires
    pub expires_at: DateTime<Utc>,
    /// For `POST /auth/refresh`, once
    pub refresh_token: String,
    /// 30 days from now, and never more than 90 days after the login
    pub refresh_expires_at: DateTime<Utc>,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        let Session { token, expires_at, refresh_token, refresh_expires_at } = session;
        Self { token, expires_at, refresh_token, refresh_expires_at }
    }
}

#[derive(Clone, Deserialize, ToSchema)]
#[schema(example = json!({"email": "ada@example.com", "password": "nine purple lanterns", "company_name": "Example"}))]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Address of the first user, who becomes admin
    pub email: String,
    /// Password of the first user, 8 to 200 characters
    pub password: String,
    /// Name of the new company
    pub company_name: String,
    /// Short name of the company; absent: made from the name
    pub company_slug: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Registered {
    #[serde(flatten)]
    pub session: SessionView,
    /// The first user
    pub user: RegisteredUser,
    /// The new company
    pub company: CompanyView,
}

/// Register a company and its first user, who becomes admin.
///
/// The installation's setting decides who may register: only the first user, who also becomes operator (`first`), every user (`open`), or
/// no user (`closed`). Other registrations get 403; new users of an existing company join by invitation.
#[utoipa::path(post, path = "/auth/register", operation_id = "register", tag = "identity", security(()), request_body = Register,
    responses((status = 201, body = Registered), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn register(
    State(app): State<App>,
    ids: Option<Extension<Ids>>,
    Extension(origin): Extension<Origin>,
    Body(input): Body<Register>,
) -> Result<Response, Problem> {
    let ids = ids.map(|Extension(ids)| ids).unwrap_or_default();
    // Registrations from this machine are not limited; registrations through a proxy on this machine are.
    let is_local = app.settings.http.behind_proxy == BehindProxy::No && origin.client.is_some_and(|client| client.is_loopback());
    if !is_local {
        app.services.count_registration(&origin.network(), app.settings.identity.registrations_per_hour).await?;
    }
    let company =
        NewCompany { email: input.email, password: input.password, company_name: input.company_name, company_slug: input.company_slug };
    let registered = app.services.register_company(&ids, origin.request_id, company).await?;
    let subject = AuditSubject::user(registered.company_id, registered.user_id);
    let body = Registered {
        session: registered.session.into(),
        user: RegisteredUser { id: registered.user_id, email: registered.email, role: registered.role.to_string() },
        company: CompanyView::new(registered.company_id, registered.profile),
    };
    Ok((Extension(subject), Answer::created(registered.position, body)).into_response())
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"email": "ada@example.com", "password": "nine purple lanterns"}))]
#[serde(deny_unknown_fields)]
struct Login {
    /// The user's address
    email: String,
    /// The user's password
    password: String,
}

/// Log in.
///
/// The answer has a token for `Authorization: Bearer`, and a refresh token for a new token when it expires. A client with too many failed
/// attempts has to wait (429).
#[utoipa::path(post, path = "/auth/login", operation_id = "log_in", tag = "identity", security(()), request_body = Login,
    responses((status = 200, body = SessionView), (status = 401, body = Problem), (status = 429, body = Problem)))]
async fn login(State(app): State<App>, Extension(origin): Extension<Origin>, Body(input): Body<Login>) -> Result<Response, Problem> {
    let (session, user) = app.services.log_in(&input.email, input.password, &origin.network()).await?;
    Ok((Extension(AuditSubject::from(user)), Json(SessionView::from(session))).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The refresh token of the session
    refresh_token: String,
}

/// Continue a session: a new token and the next refresh token.
///
/// A refresh token that is used a second time later than ten seconds after its first use ends the session, because another client may have
/// stolen it.
#[utoipa::path(post, path = "/auth/refresh", operation_id = "refresh_session", tag = "identity", security(()), request_body = Refresh,
    responses((status = 200, body = SessionView), (status = 401, body = Problem), (status = 429, body = Problem)))]
async fn refresh(State(app): State<App>, Extension(origin): Extension<Origin>, Body(input): Body<Refresh>) -> Result<Response, Problem> {
    let (network, refresh) = (origin.network(), async || Ok(app.services.refresh_session(&input.refresh_token).await?));
    let (session, user) = app.failed_credentials.attempt(&network, refresh).await?;
    Ok((Extension(AuditSubject::from(user)), Json(SessionView::from(session))).into_response())
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Logout {
    /// true: end all of the user's sessions on all devices
    #[serde(default)]
    everywhere: bool,
}

/// Log out: the session's tokens are revoked. An API key has no session; revoke it instead.
#[utoipa::path(post, path = "/auth/logout", operation_id = "log_out", tag = "identity", security(("bearer" = ["viewer"])), request_body = Option<Logout>, responses((status = 204), (status = 409, body = Problem)))]
async fn logout(State(app): State<App>, by: By<Viewer>, OptionalBody(input): OptionalBody<Logout>) -> Result<StatusCode, Problem> {
    app.services.log_out(&by.identity, input.everywhere).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    /// The present password
    old_password: String,
    /// The new password, 8 to 200 characters
    new_password: String,
}

/// Change one's own password. All sessions end; the answer has a new session.
#[utoipa::path(put, path = "/auth/password", operation_id = "change_password", tag = "identity", security(("bearer" = ["viewer"])), request_body = ChangePassword,
    responses((status = 200, body = SessionView), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn change_password(
    State(app): State<App>,
    by: By<Viewer>,
    Extension(origin): Extension<Origin>,
    Body(input): Body<ChangePassword>,
) -> Result<Json<SessionView>, Problem> {
    let network = origin.network();
    let session = app.services.change_password(&by.identity, input.old_password, input.new_password, &network).await?;
    Ok(Json(session.into()))
}

#[derive(Serialize, ToSchema)]
struct Ticket {
    /// The ticket, for one use within 30 s
    ticket: String,
}

/// Get a one-time ticket, valid for 30 s, with which a browser opens a WebSocket or an event stream: `?ticket=`.
#[utoipa::path(post, path = "/auth/ticket", operation_id = "issue_ticket", tag = "identity", security(("bearer" = ["viewer"])), responses((status = 200, body = Ticket)))]
async fn ticket(State(app): State<App>, by: By<Viewer>) -> Result<Json<Ticket>, Problem> {
    Ok(Json(Ticket { ticket: app.services.issue_ticket(&by.identity).await? }))
}
