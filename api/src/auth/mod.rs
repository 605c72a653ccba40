//! Who calls: tokens, API keys, roles. A handler says in its signature which role it needs.

pub mod credentials;
mod passwords;
pub mod tokens;

use std::marker::PhantomData;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{header, request::Parts},
};
use domain::role::Role;
use eventstore::{Actor, ActorKind, CommandContext, Metadata, now};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use passwords::{hash_password, verify_password};

use crate::{app::App, idempotency::Ids, problem::Problem};

/// Somebody who has shown who they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    pub company_id: Uuid,
    pub role: Role,
    pub actor: Actor,
}

/// A role that a handler can need.
pub trait Needs: Send + Sync + 'static {
    const ROLE: Role;
}

macro_rules! roles {
    ($($name:ident),+) => {
        $(pub struct $name;
        impl Needs for $name {
            const ROLE: Role = Role::$name;
        })+
    };
}
roles!(Viewer, Agent, Manager, Admin);

/// A caller with at least the role `R`, and what a command of theirs carries.
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
        if identity.role < R::ROLE {
            return Err(Problem::forbidden(format!("this needs the role {}; you have {}", R::ROLE, identity.role)));
        }
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
        // An ETag that is none of ours matches no version.
        let if_match = header("if-match").filter(|v| *v != "*").map(|value| value.trim_matches('"').parse().unwrap_or(-1));
        Ok(Self {
            identity,
            ids: parts.extensions.get::<Ids>().cloned().unwrap_or_default(),
            if_match,
            correlation_id: header("x-request-id").and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(Uuid::now_v7),
            role: PhantomData,
        })
    }
}

/// Who sends the request: by the Authorization header, or by a one-time ticket in the query.
pub async fn identify(parts: &mut Parts, app: &App) -> Result<Identity, Problem> {
    if let Some(known) = parts.extensions.get::<Identity>() {
        return Ok(known.clone());
    }
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let identity = match bearer.map(|value| value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))) {
        Some(Some((_, token))) => by_token(app, token.trim()).await?,
        Some(None) => return Err(Problem::unauthorized("the Authorization header must be: Bearer <token or API key>")),
        None => match ticket(parts) {
            Some(ticket) => {
                credentials::redeem_ticket(&app.pool, &ticket).await?.ok_or_else(|| Problem::unauthorized("the ticket is not valid"))?
            }
            None => return Err(Problem::unauthorized("send Authorization: Bearer <token or API key>")),
        },
    };
    parts.extensions.insert(identity.clone());
    Ok(identity)
}

async fn by_token(app: &App, token: &str) -> Result<Identity, Problem> {
    if token.starts_with(API_KEY_PREFIX) {
        let key = credentials::api_key(&app.pool, &key_hash(token)).await?;
        return key.ok_or_else(|| Problem::unauthorized("the API key is not valid"));
    }
    let claims = app.tokens.verify(token).map_err(|_| Problem::unauthorized("the token is not valid or has expired"))?;
    let actor = Actor { kind: ActorKind::User, id: Some(claims.sub), name: None };
    Ok(Identity { company_id: claims.company_id, role: claims.role, actor })
}

/// Tickets are for what browsers cannot send headers with.
fn ticket(parts: &Parts) -> Option<String> {
    let path = parts.uri.path();
    if !path.ends_with("/events/stream") && !path.contains("/ws/") {
        return None;
    }
    parts.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("ticket=").map(str::to_owned))
}

/// What every API key begins with.
pub const API_KEY_PREFIX: &str = "nvk_";

/// 256 random bits in hex, after `prefix`.
pub fn new_secret(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(rand::random::<[u8; 32]>()))
}

/// What is kept of an API key or a ticket.
pub fn key_hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}
