//! Registering, logging in and out, passwords, tickets.

use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::DateTime;
use domain::{
    Personal,
    company::{Company, CompanyCommand, CompanyProfile},
    email::canonical_email,
    price::default_rates,
    price_list::{PriceList, PriceListCommand},
    reserved_name::{NameCommand, NameTaken, ReservedName},
    role::Role,
    user::{User, UserCommand},
    validation::{Invalid, slug_from},
};
use eventstore::{Actor, ActorKind, CommandContext, ExecuteError, Metadata, StoreError, now};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;
use zxcvbn::zxcvbn;

use crate::{
    answer::Answer,
    app::App,
    auth::{
        By, Registration, Session, Throttle, Viewer, count_registration, credentials, credentials::UserCredentials, hash_password, tickets,
        verify_password,
    },
    edge::{AuditSubject, Origin},
    extract::{Body, OptionalBody},
    idempotency::Ids,
    problem::Problem,
    settings::BehindProxy,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(change_password))
        .routes(routes!(ticket))
        .layer(DefaultBodyLimit::max(AUTH_BODY_MAX_BYTES))
}

/// Largest body that says who somebody is, in bytes.
pub const AUTH_BODY_MAX_BYTES: usize = 16 << 10;
/// Fewest and most characters of a password (NIST SP 800-63B: length is what counts).
const PASSWORD_CHARS: (usize, usize) = (8, 200);

/// A password that is found within fewer guesses is one of the commonest (OWASP ASVS 6.2.4 asks for the 3,000 commonest to be refused).
const PASSWORD_GUESSES_MIN: u64 = 10_000;
const PASSWORD_TRIED_MAX_BYTES: usize = 40;

/// Notes what is wrong with a new password; it must not be the address it belongs to.
pub(super) fn check_password(invalid: &mut Invalid, field: &str, password: &str, email: Option<&str>) {
    let chars = password.chars().count();
    invalid.range(field, chars, PASSWORD_CHARS.0, PASSWORD_CHARS.1);
    let known: Vec<&str> = email.into_iter().flat_map(|email| email.split('@')).collect();
    // The time that it takes grows with the length; a long one is not among the commonest.
    let is_tried = chars >= PASSWORD_CHARS.0 && password.len() <= PASSWORD_TRIED_MAX_BYTES;
    let is_common = is_tried && zxcvbn(password, &known).guesses() < PASSWORD_GUESSES_MIN;
    invalid.require(!is_common, field, "is one of the first that anybody tries; choose a longer one, such as four random words");
    invalid.require(!email.is_some_and(|email| email.eq_ignore_ascii_case(password)), field, "must not be the e-mail address");
}

/// The address in the form in which it is known; notes what is wrong with it.
pub(super) fn check_email(invalid: &mut Invalid, written: &str) -> String {
    let canonical = canonical_email(written);
    invalid.require(canonical.is_some(), "email", "must be an e-mail address, without letters that look like others");
    canonical.unwrap_or_default()
}

#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    pub email: String,
    pub password: String,
    pub company_name: String,
    pub company_slug: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Registered {
    #[serde(flatten)]
    pub session: Session,
    pub user: RegisteredUser,
    pub company: CompanyView,
}

#[derive(Serialize, ToSchema)]
pub struct RegisteredUser {
    pub id: Uuid,
    pub email: String,
    pub role: String,
}

#[derive(Serialize, ToSchema)]
pub struct CompanyView {
    pub id: Uuid,
    pub name: String,
    pub slug: String,
    pub email: Option<String>,
}

/// Register a company and its first user, who is admin. The installation decides who may: only the first one, who becomes its operator
/// too (`first`), anybody (`open`), or no one (`closed`); others join a company by invitation (403).
#[utoipa::path(post, path = "/auth/register", tag = "identity", security(()), request_body = Register,
    responses((status = 201, body = Registered), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn register(
    State(app): State<App>,
    ids: Option<Extension<Ids>>,
    Extension(origin): Extension<Origin>,
    Body(input): Body<Register>,
) -> Result<Response, Problem> {
    let ids = ids.map(|Extension(ids)| ids).unwrap_or_default();
    // Clients on this machine are not counted; those behind a proxy on it are.
    let is_local = app.settings.behind_proxy == BehindProxy::No && origin.client.is_some_and(|client| client.is_loopback());
    if !is_local {
        count_registration(&app.access.identity, &app.master, &origin.network(), app.settings.registrations_per_hour).await?;
    }
    let registered = create_company(&app, &ids, origin.request_id, input).await?;
    let subject = AuditSubject::user(registered.body.company.id, registered.body.user.id);
    Ok((Extension(subject), registered).into_response())
}

/// Registers a company with its first user and the price list every company starts with.
pub async fn create_company(app: &App, ids: &Ids, correlation_id: Uuid, input: Register) -> Result<Answer<Registered>, Problem> {
    let (email, profile) = validate(&input)?;
    let (user_id, company_id) = (ids.make("user"), ids.make("company"));
    let (pool, email_hash) = (&app.access.identity, credentials::email_hash(&app.master, &email));
    let registered_already = || Problem::conflict("this e-mail address is registered already");
    let is_taken = async || Ok::<_, Problem>(credentials::user(pool, &email_hash).await?.is_some_and(|known| known.user_id != user_id));
    let mode = Registration { app, mode: app.settings.registration };
    // Where registration is not allowed, the answer does not tell which addresses are registered.
    mode.require_open(user_id).await?;
    // Hashing a password is work: not for an address that cannot be registered.
    if is_taken().await? {
        forget_unfinished(app, &email_hash).await?;
        if is_taken().await? {
            return Err(registered_already());
        }
    }
    let password_hash = hash_password(input.password).await?;
    let credentials = UserCredentials::registering(user_id, company_id, password_hash, now());
    if !mode.store(&email_hash, &credentials).await? {
        return Err(registered_already());
    }
    let mut profile = profile;
    let mut appended = append(app, ids, correlation_id, &credentials, &email, &profile).await;
    // A slug of our own making that is taken is made longer; one that was asked for is refused.
    if appended.as_ref().is_err_and(|problem| problem.status == 409) && input.company_slug.is_none() {
        let short: String = profile.slug.chars().take(70).collect();
        let suffix = ids.make("slug").simple().to_string();
        profile.slug = format!("{}-{}", short.trim_end_matches('-'), &suffix[suffix.len() - 6..]);
        appended = append(app, ids, correlation_id, &credentials, &email, &profile).await;
    }
    let position = match appended {
        Ok(position) => position,
        Err(problem) => {
            if problem.status < 500 && app.store.load_fresh::<User>(company_id, user_id).await?.version == 0 {
                credentials::delete_pending_registration(pool, user_id).await?;
            }
            return Err(problem);
        }
    };
    if !credentials::confirm_registration(pool, user_id).await? {
        return Err(Problem::conflict("this registration took too long and gave way to another one; register again"));
    }
    let session = app.sessions().open(&credentials).await?;
    let user = RegisteredUser { id: user_id, email, role: Role::Admin.to_string() };
    let company = CompanyView { id: company_id, name: profile.name, slug: profile.slug, email: profile.email };
    Ok(Answer::created(position, Registered { session, user, company }))
}

/// A registration that was cut off after its append is completed by the first login; one whose events are not in the log gives no session.
async fn confirm_pending(app: &App, user: &UserCredentials) -> Result<(), Problem> {
    if user.pending_since.is_none() {
        return Ok(());
    }
    let not_complete = || Problem::unauthorized("this registration is not complete; register again");
    if app.store.load_fresh::<User>(user.company_id, user.user_id).await?.version == 0 {
        return Err(not_complete());
    }
    match credentials::confirm_registration(&app.access.identity, user.user_id).await? {
        true => Ok(()),
        false => Err(not_complete()),
    }
}

/// How long a registration may be under way before its address is free again, in minutes.
pub(crate) const UNFINISHED_MINUTES: i32 = 2;

/// Gives an address free whose registration was cut off between its credentials and the log.
async fn forget_unfinished(app: &App, email_hash: &str) -> Result<(), Problem> {
    let pool = &app.access.identity;
    let Some(known) = credentials::pending_registration(pool, email_hash, UNFINISHED_MINUTES).await? else { return Ok(()) };
    if app.store.load_fresh::<User>(known.company_id, known.user_id).await?.version == 0 {
        // A registration that is completed at this moment stays: then the address is taken.
        credentials::delete_pending_registration(pool, known.user_id).await?;
    }
    Ok(())
}

fn validate(input: &Register) -> Result<(String, CompanyProfile), Problem> {
    let mut invalid = Invalid::default();
    let email = check_email(&mut invalid, &input.email);
    check_password(&mut invalid, "password", &input.password, Some(&email));
    let slug = input.company_slug.clone().unwrap_or_else(|| slug_from(&input.company_name));
    let profile = CompanyProfile { name: input.company_name.trim().to_owned(), slug, email: None };
    if let Err(Invalid(errors)) = profile.validate() {
        let renamed = errors.into_iter().map(|e| (format!("company_{}", e.path), e.message));
        renamed.for_each(|(path, message)| invalid.add(path, message));
    }
    invalid.into_result()?;
    Ok((email, profile))
}

async fn append(
    app: &App,
    ids: &Ids,
    correlation_id: Uuid,
    user: &UserCredentials,
    email: &str,
    profile: &CompanyProfile,
) -> Result<i64, Problem> {
    let (user_id, company_id) = (user.user_id, user.company_id);
    let actor = Actor { kind: ActorKind::User, id: Some(user_id), name: None };
    let metadata = Metadata { actor, correlation_id, causation_id: None, idempotency_key: ids.key().map(str::to_owned) };
    let context = CommandContext { company_id, metadata, identity: ids.identity(), now: now() };
    let mut unit = app.store.unit(&context);
    let slug = ReservedName::id(Uuid::nil(), "company_slug", &profile.slug);
    unit.decide::<ReservedName>(slug, NameCommand::Reserve { holder_id: company_id }).await.map_err(slug_problem)?;
    unit.decide::<Company>(company_id, CompanyCommand::Register(profile.clone())).await?;
    unit.decide::<User>(user_id, UserCommand::Register { email: Personal::new(email.to_owned()), role: Role::Admin }).await?;
    let list = PriceListCommand::Publish { name: "Default".to_owned(), effective_from: DateTime::UNIX_EPOCH, rates: default_rates() };
    unit.decide::<PriceList>(ids.make("price list"), list).await?;
    unit.commit().await.map_err(|error| slug_problem(error.into()))
}

/// A slug belongs to whoever reserved it first; nobody else learns whose it is.
pub(super) fn slug_problem(error: ExecuteError<NameTaken>) -> Problem {
    match error {
        ExecuteError::Refused(NameTaken) | ExecuteError::Store(StoreError::OtherCompany(_)) => {
            Problem::conflict("this company slug is taken")
        }
        ExecuteError::Store(error) => error.into(),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    password: String,
}

/// Log in: a token for `Authorization: Bearer`, and a refresh token to go on with when it expires. Who fails too often has to wait (429).
#[utoipa::path(post, path = "/auth/login", tag = "identity", security(()), request_body = Login,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = 429, body = Problem)))]
async fn login(State(app): State<App>, Extension(origin): Extension<Origin>, Body(input): Body<Login>) -> Result<Response, Problem> {
    let email = canonical_email(&input.email).unwrap_or_default();
    let pool = &app.access.identity;
    let user = credentials::user(pool, &credentials::email_hash(&app.master, &email)).await?;
    let user_id = user.as_ref().map(|user| user.user_id);
    let throttle = Throttle::new((pool, &app.slow_attempts), &app.master, &email, &origin.network(), user_id);
    let about = |problem: Problem| match &user {
        Some(user) => problem.about(user.company_id, user.user_id),
        None => problem,
    };
    let attempt = throttle.count().await.map_err(about)?;
    let hash = user.as_ref().filter(|user| user.disabled_at.is_none()).and_then(|user| user.password_hash.clone());
    let verified = verify_password(input.password, hash).await?;
    let refused = || about(Problem::unauthorized("e-mail address or password is wrong"));
    let user = user.as_ref().filter(|_| verified).ok_or_else(refused)?;
    confirm_pending(&app, user).await?;
    attempt.succeeded().await?;
    let session = app.sessions().open(user).await?;
    Ok((Extension(AuditSubject::user(user.company_id, user.user_id)), Json(session)).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

/// Go on with a session: a new token and the next refresh token. One that comes again later than ten
/// seconds after its first use ends the session: somebody else may have it.
#[utoipa::path(post, path = "/auth/refresh", tag = "identity", security(()), request_body = Refresh,
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = 429, body = Problem)))]
async fn refresh(State(app): State<App>, Extension(origin): Extension<Origin>, Body(input): Body<Refresh>) -> Result<Response, Problem> {
    let (network, refresh) = (origin.network(), async || app.sessions().refresh(&input.refresh_token).await);
    let (session, subject) = app.guesses.unless_too_many(&network, refresh).await?;
    Ok((Extension(subject), Json(session)).into_response())
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Logout {
    /// All of the user's sessions, on every device
    #[serde(default)]
    everywhere: bool,
}

/// Log out: the session's tokens count no longer. An API key has no session; it is revoked.
#[utoipa::path(post, path = "/auth/logout", tag = "identity", security(("bearer" = ["viewer"])), request_body = Option<Logout>, responses((status = 204), (status = 409, body = Problem)))]
async fn logout(State(app): State<App>, by: By<Viewer>, OptionalBody(input): OptionalBody<Logout>) -> Result<StatusCode, Problem> {
    let (user_id, session) = user_of(&by)?;
    if input.everywhere {
        app.sessions().end_all(user_id).await?;
    } else {
        app.sessions().end(user_id, session).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The user who calls, and their session; an API key is nobody's.
fn user_of(by: &By<Viewer>) -> Result<(Uuid, Uuid), Problem> {
    by.identity.actor.id.zip(by.identity.session).ok_or_else(|| Problem::conflict("this is for users; the caller is an API key"))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    old_password: String,
    new_password: String,
}

/// Change one's own password. All sessions end; the answer is a new one.
#[utoipa::path(put, path = "/auth/password", tag = "identity", security(("bearer" = ["viewer"])), request_body = ChangePassword,
    responses((status = 200, body = Session), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn change_password(
    State(app): State<App>,
    by: By<Viewer>,
    Extension(origin): Extension<Origin>,
    Body(input): Body<ChangePassword>,
) -> Result<Json<Session>, Problem> {
    let (user_id, _) = user_of(&by)?;
    let mut invalid = Invalid::default();
    check_password(&mut invalid, "new_password", &input.new_password, None);
    invalid.into_result()?;
    let pool = &app.access.identity;
    let throttle = Throttle::new((pool, &app.slow_attempts), &app.master, &user_id.to_string(), &origin.network(), Some(user_id));
    let attempt = throttle.count().await?;
    let user = credentials::user_by_id(pool, user_id).await?.ok_or_else(|| Problem::not_found("user"))?;
    if !verify_password(input.old_password, user.password_hash.clone()).await? {
        return Err(Problem::forbidden("the old password is wrong"));
    }
    attempt.succeeded().await?;
    let password_hash = hash_password(input.new_password).await?;
    app.sessions().change_password(user_id, &password_hash).await?;
    let user = UserCredentials { password_hash: Some(password_hash), ..user };
    Ok(Json(app.sessions().open(&user).await?))
}

#[derive(Serialize, ToSchema)]
struct Ticket {
    ticket: String,
}

/// A one-time ticket, good for 30 s, with which a browser opens a WebSocket or an event stream: `?ticket=`.
#[utoipa::path(post, path = "/auth/ticket", tag = "identity", security(("bearer" = ["viewer"])), responses((status = 200, body = Ticket)))]
async fn ticket(State(app): State<App>, by: By<Viewer>) -> Result<Json<Ticket>, Problem> {
    Ok(Json(Ticket { ticket: tickets::issue(&app.access.identity, &by.identity).await? }))
}
