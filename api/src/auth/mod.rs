//! Who calls: tokens, API keys, roles. A handler says in its signature which role it needs.

pub mod api_keys;
mod callers;
pub mod credentials;
pub mod operators;
mod passwords;
mod registration;
mod route_needs;
pub mod sessions;
pub mod throttle;
pub mod tickets;
pub mod tokens;

use std::marker::PhantomData;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{header, request::Parts},
};
use domain::role::Role;
use eventstore::{Actor, CommandContext, Metadata, now};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use callers::Callers;
pub use passwords::{hash_password, verify_password};
pub use registration::Registration;
pub use route_needs::RouteNeeds;
pub use sessions::{Session, Sessions};
pub use throttle::{SlowAttempts, Throttle, count_registration};

use crate::{app::App, edge::Origin, idempotency::Ids, problem::Problem};

/// Somebody who has shown who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub company_id: Uuid,
    pub role: Role,
    pub actor: Actor,
    /// Of a user who has logged in.
    #[serde(default)]
    pub session: Option<Uuid>,
    /// Whether the user runs the installation.
    #[serde(default)]
    pub is_operator: bool,
}

/// What a handler needs of its caller.
pub trait Needs: Send + Sync + 'static {
    /// 403 unless the caller has it.
    fn check(identity: &Identity) -> Result<(), Problem>;
}

macro_rules! roles {
    ($($name:ident),+) => {
        $(pub struct $name;
        impl Needs for $name {
            fn check(identity: &Identity) -> Result<(), Problem> {
                let (needed, role) = (Role::$name, identity.role);
                if role >= needed { Ok(()) } else { Err(Problem::forbidden(format!("this needs the role {needed}; you have {role}"))) }
            }
        })+
    };
}
roles!(Viewer, Agent, Manager, Admin);

/// The right to run the installation: a user whom `newvoice operator add` named, or who was the first to register. A role within a
/// company does not give it, and API keys never have it.
pub struct Operator;

impl Needs for Operator {
    fn check(identity: &Identity) -> Result<(), Problem> {
        if identity.is_operator { Ok(()) } else { Err(Problem::forbidden("this needs an operator of the installation")) }
    }
}

/// A caller who has what `R` needs: at least a role, or the operator's right; and what a command of theirs carries.
pub struct By<R: Needs> {
    pub identity: Identity,
    pub ids: Ids,
    pub if_match: Option<i64>,
    correlation_id: Uuid,
    role: PhantomData<R>,
}

impl<R: Needs> By<R> {
    pub const fn company_id(&self) -> Uuid {
        self.identity.company_id
    }

    /// The context of a command that this caller gives now.
    pub fn context(&self) -> CommandContext {
        CommandContext { company_id: self.company_id(), metadata: self.metadata(), identity: self.ids.identity(), now: now() }
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            actor: self.identity.actor.clone(),
            correlation_id: self.correlation_id,
            causation_id: None,
            idempotency_key: self.ids.key().map(str::to_owned),
        }
    }
}

impl<R: Needs, S> FromRequestParts<S> for By<R>
where
    App: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let identity = identify(parts, &App::from_ref(state)).await?;
        R::check(&identity)?;
        // An ETag that is none of ours matches no version.
        let if_match = parts.headers.get(header::IF_MATCH).and_then(|v| v.to_str().ok()).filter(|v| *v != "*");
        Ok(Self {
            identity,
            ids: parts.extensions.get::<Ids>().cloned().unwrap_or_default(),
            if_match: if_match.map(|value| value.trim_matches('"').parse().unwrap_or(-1)),
            correlation_id: parts.extensions.get::<Origin>().map_or_else(Uuid::now_v7, |origin| origin.request_id),
            role: PhantomData,
        })
    }
}

/// What a request brings to show who sends it.
pub enum Credential<'a> {
    /// A token or an API key in the Authorization header.
    Bearer(&'a str),
    /// A one-time ticket in the query, of what browsers cannot send headers with.
    Ticket(&'a str),
    /// An Authorization header of another kind.
    Unknown,
    None,
}

impl<'a> Credential<'a> {
    pub fn of(parts: &'a Parts) -> Self {
        match parts.headers.get(header::AUTHORIZATION).map(|value| value.to_str().ok().and_then(|value| value.split_once(' '))) {
            Some(Some((scheme, token))) if scheme.eq_ignore_ascii_case("bearer") => Self::Bearer(token.trim()),
            Some(_) => Self::Unknown,
            None => ticket(parts).map_or(Self::None, Self::Ticket),
        }
    }
}

fn ticket(parts: &Parts) -> Option<&str> {
    let path = parts.uri.path();
    if !path.ends_with("/events/stream") && !path.contains("/ws/") {
        return None;
    }
    parts.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("ticket="))
}

/// Who sends the request.
pub async fn identify(parts: &mut Parts, app: &App) -> Result<Identity, Problem> {
    if let Some(known) = parts.extensions.get::<Identity>() {
        return Ok(known.clone());
    }
    let identity = match Credential::of(parts) {
        Credential::Bearer(token) if token.starts_with(API_KEY_PREFIX) => {
            app.callers.by_key(token).await?.ok_or_else(|| Problem::unauthorized("the API key is not valid"))?
        }
        Credential::Bearer(token) => {
            let claims = app.tokens.verify(token).map_err(|_| Problem::unauthorized("the token is not valid or has expired"))?;
            app.callers.by_claims(&claims).await?.ok_or_else(|| Problem::unauthorized("the token has been revoked"))?
        }
        Credential::Ticket(ticket) => {
            let refused = || Problem::unauthorized("the ticket is not valid");
            let caller = tickets::redeem(&app.access.identity, ticket).await?.ok_or_else(refused)?;
            // Rights may have been taken away since it was given.
            app.callers.again(&caller).await?.ok_or_else(refused)?
        }
        Credential::Unknown => return Err(Problem::unauthorized("the Authorization header must be: Bearer <token or API key>")),
        Credential::None => return Err(Problem::unauthorized("send Authorization: Bearer <token or API key>")),
    };
    parts.extensions.insert(identity.clone());
    Ok(identity)
}

/// What every API key begins with.
pub const API_KEY_PREFIX: &str = "nvk_";

/// 256 random bits in hex, after `prefix`.
pub fn new_secret(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(rand::random::<[u8; 32]>()))
}

/// What is kept of a secret that has 256 random bits: its SHA-256.
pub fn secret_hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}
