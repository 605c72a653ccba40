//! Registering, logging in, tickets.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use domain::{
    Personal,
    company::{Company, CompanyCommand, CompanyProfile, is_email},
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

use crate::{
    answer::Answer,
    app::App,
    auth::{By, Viewer, credentials, credentials::UserCredentials, hash_password, verify_password},
    extract::Body,
    problem::Problem,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(register)).routes(routes!(login)).routes(routes!(ticket))
}

/// Fewest and most characters of a password.
const PASSWORD_CHARS: (usize, usize) = (8, 200);

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
    pub token: String,
    pub expires_at: DateTime<Utc>,
    pub user: UserView,
    pub company: CompanyView,
}

#[derive(Serialize, ToSchema)]
pub struct UserView {
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

/// Register a company and its first user, who is admin.
#[utoipa::path(post, path = "/auth/register", tag = "identity", security(()), request_body = Register,
    responses((status = 201, body = Registered), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn register(State(app): State<App>, Body(input): Body<Register>) -> Result<Answer<Registered>, Problem> {
    create_company(&app, input).await
}

/// Registers a company with its first user and the price list every company starts with.
pub async fn create_company(app: &App, input: Register) -> Result<Answer<Registered>, Problem> {
    let (email, profile) = validate(&input)?;
    let (user_id, company_id) = (Uuid::now_v7(), Uuid::now_v7());
    let credentials =
        UserCredentials { user_id, company_id, role: Role::Admin.to_string(), password_hash: hash_password(input.password).await? };
    if !credentials::save_user(&app.pool, &email, &credentials).await? {
        forget_unfinished(app, &email).await?;
        if !credentials::save_user(&app.pool, &email, &credentials).await? {
            return Err(Problem::conflict("this e-mail address is registered already"));
        }
    }
    let mut profile = profile;
    let mut appended = append(app, user_id, company_id, &email, &profile).await;
    // A slug of our own making that is taken is made longer; one that was asked for is refused.
    if appended.as_ref().is_err_and(|problem| problem.status == 409) && input.company_slug.is_none() {
        let short: String = profile.slug.chars().take(70).collect();
        profile.slug = format!("{}-{:06x}", short.trim_end_matches('-'), rand::random::<u32>() & 0xff_ffff);
        appended = append(app, user_id, company_id, &email, &profile).await;
    }
    let position = match appended {
        Ok(position) => position,
        Err(problem) => {
            if problem.status < 500 {
                credentials::forget_user(&app.pool, user_id).await?;
            }
            return Err(problem);
        }
    };
    let (token, expires_at) = app.tokens.issue(user_id, company_id, Role::Admin).map_err(|e| Problem::internal(&e))?;
    let user = UserView { id: user_id, email, role: Role::Admin.to_string() };
    let company = CompanyView { id: company_id, name: profile.name, slug: profile.slug, email: profile.email };
    Ok(Answer::created(position, Registered { token, expires_at, user, company }))
}

/// How long a registration may be under way before its address is free again, in minutes.
const UNFINISHED_MINUTES: i32 = 2;

/// Gives an address free whose registration was cut off between its credentials and the log.
async fn forget_unfinished(app: &App, email: &str) -> Result<(), Problem> {
    let Some(known) = credentials::older_user(&app.pool, email, UNFINISHED_MINUTES).await? else { return Ok(()) };
    if app.store.load_fresh::<User>(known.company_id, known.user_id).await?.version == 0 {
        credentials::forget_user(&app.pool, known.user_id).await?;
    }
    Ok(())
}

fn validate(input: &Register) -> Result<(String, CompanyProfile), Problem> {
    let mut invalid = Invalid::default();
    let email = input.email.trim().to_lowercase();
    invalid.require(is_email(&email) && !email.contains('\0'), "email", "must be an e-mail address");
    let length = input.password.chars().count();
    invalid.range("password", length, PASSWORD_CHARS.0, PASSWORD_CHARS.1);
    let slug = input.company_slug.clone().unwrap_or_else(|| slug_from(&input.company_name));
    let profile = CompanyProfile { name: input.company_name.trim().to_owned(), slug, email: None };
    if let Err(Invalid(errors)) = profile.validate() {
        let renamed = errors.into_iter().map(|e| (format!("company_{}", e.path), e.message));
        renamed.for_each(|(path, message)| invalid.add(path, message));
    }
    invalid.into_result()?;
    Ok((email, profile))
}

async fn append(app: &App, user_id: Uuid, company_id: Uuid, email: &str, profile: &CompanyProfile) -> Result<i64, Problem> {
    let actor = Actor { kind: ActorKind::User, id: Some(user_id), name: None };
    let metadata = Metadata { actor, correlation_id: Uuid::now_v7(), causation_id: None, idempotency_key: None };
    let context = CommandContext { company_id, metadata, identity: None, now: now() };
    let mut unit = app.store.unit(&context);
    let slug = ReservedName::id(Uuid::nil(), "company_slug", &profile.slug);
    unit.decide::<ReservedName>(slug, NameCommand::Reserve { holder_id: company_id }).await.map_err(slug_problem)?;
    unit.decide::<Company>(company_id, CompanyCommand::Register(profile.clone())).await?;
    unit.decide::<User>(user_id, UserCommand::Register { email: Personal::new(email.to_owned()), role: Role::Admin }).await?;
    let list = PriceListCommand::Publish { name: "Default".to_owned(), effective_from: DateTime::UNIX_EPOCH, rates: default_rates() };
    unit.decide::<PriceList>(Uuid::now_v7(), list).await?;
    unit.commit().await.map_err(|error| slug_problem(error.into()))
}

/// A slug belongs to whoever reserved it first; nobody else learns whose it is.
pub(super) fn slug_problem(error: ExecuteError<NameTaken>) -> Problem {
    match error {
        ExecuteError::Refused(NameTaken) | ExecuteError::Store(StoreError::OtherCompany(_) | StoreError::Conflict(_)) => {
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

#[derive(Serialize, ToSchema)]
struct LoggedIn {
    token: String,
    expires_at: DateTime<Utc>,
}

/// Log in: a token for `Authorization: Bearer`.
#[utoipa::path(post, path = "/auth/login", tag = "identity", security(()), request_body = Login,
    responses((status = 200, body = LoggedIn), (status = 401, body = Problem)))]
async fn login(State(app): State<App>, Body(input): Body<Login>) -> Result<Json<LoggedIn>, Problem> {
    let email = input.email.trim().to_lowercase();
    let user = if email.contains('\0') { None } else { credentials::user(&app.pool, &email).await? };
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let verified = verify_password(input.password, hash).await?;
    let user = user.filter(|_| verified).ok_or_else(|| Problem::unauthorized("e-mail address or password is wrong"))?;
    let role = user.role.parse().map_err(|_| Problem::unauthorized("this user has no role"))?;
    let (token, expires_at) = app.tokens.issue(user.user_id, user.company_id, role).map_err(|e| Problem::internal(&e))?;
    Ok(Json(LoggedIn { token, expires_at }))
}

#[derive(Serialize, ToSchema)]
struct Ticket {
    ticket: String,
}

/// A one-time ticket, good for 30 s, with which a browser opens a WebSocket or an event stream: `?ticket=`.
#[utoipa::path(post, path = "/auth/ticket", tag = "identity", responses((status = 200, body = Ticket)))]
async fn ticket(State(app): State<App>, by: By<Viewer>) -> Result<Json<Ticket>, Problem> {
    Ok(Json(Ticket { ticket: credentials::issue_ticket(&app.pool, &by.identity).await? }))
}
