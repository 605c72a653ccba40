//! The extractor with which a handler declares the rights that its caller needs.

use std::marker::PhantomData;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{header, request::Parts},
};
use domain::role::Role;
use services::{
    Ids, OpContext,
    identity::{API_KEY_PREFIX, Identity, tickets},
};
use uuid::Uuid;

use crate::{edge::Origin, problem::Problem, state::App};

/// The rights that a handler requires of its caller.
pub trait Needs: Send + Sync + 'static {
    /// Answers 403 if the caller does not have the right.
    fn check(identity: &Identity) -> Result<(), Problem>;
}

macro_rules! roles {
    ($($name:ident),+) => {
        $(pub struct $name;
        impl Needs for $name {
            fn check(identity: &Identity) -> Result<(), Problem> {
                let (needed, role) = (Role::$name, identity.role);
                if role.includes(needed) { Ok(()) } else { Err(Problem::forbidden(format!("this needs the role {needed}; you have {role}"))) }
            }
        })+
    };
}
roles!(Viewer, Auditor, Agent, Manager, Admin);

/// The right to run the installation. A user has it if `newvoice operator add` gave it to them or if they were the first to register. A
/// role within a company does not include it, and API keys never have it.
pub struct Operator;

impl Needs for Operator {
    fn check(identity: &Identity) -> Result<(), Problem> {
        if identity.is_operator { Ok(()) } else { Err(Problem::forbidden("this needs an operator of the installation")) }
    }
}

/// A caller who has the right `R` (at least a role, or the operator's right), and the data that the caller's commands carry.
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

    /// A command of this caller at the present time.
    pub fn op(&self) -> OpContext {
        OpContext::new(self.company_id(), self.identity.actor.clone(), self.correlation_id, self.ids.clone(), self.if_match)
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
        // An ETag in a format that the platform does not issue matches no version.
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

/// The credential that a request carries.
pub enum Credential<'a> {
    /// A token or an API key in the Authorization header.
    Bearer(&'a str),
    /// A one-time ticket in the query, for browser requests that cannot send headers.
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

/// Authenticates the sender of the request.
pub async fn identify(parts: &mut Parts, app: &App) -> Result<Identity, Problem> {
    if let Some(known) = parts.extensions.get::<Identity>() {
        return Ok(known.clone());
    }
    let identity = match Credential::of(parts) {
        Credential::Bearer(token) if token.starts_with(API_KEY_PREFIX) => {
            app.services.identity.callers.by_key(token).await?.ok_or_else(|| Problem::unauthorized("the API key is not valid"))?
        }
        Credential::Bearer(token) => {
            let claims =
                app.services.identity.tokens.verify(token).map_err(|_| Problem::unauthorized("the token is not valid or has expired"))?;
            app.services.identity.callers.by_claims(&claims).await?.ok_or_else(|| Problem::unauthorized("the token has been revoked"))?
        }
        Credential::Ticket(ticket) => {
            let refused = || Problem::unauthorized("the ticket is not valid");
            let caller = tickets::redeem(&app.services.identity.pool, ticket).await?.ok_or_else(refused)?;
            // Rights may have been taken away since it was given.
            app.services.identity.callers.again(&caller).await?.ok_or_else(refused)?
        }
        Credential::Unknown => return Err(Problem::unauthorized("the Authorization header must be: Bearer <token or API key>")),
        Credential::None => return Err(Problem::unauthorized("send Authorization: Bearer <token or API key>")),
    };
    parts.extensions.insert(identity.clone());
    Ok(identity)
}
