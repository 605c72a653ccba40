//! Secrets at rest: password and key hashes, tickets. Ordinary tables, never events.

use domain::role::Role;
use eventstore::{Actor, ActorKind};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Identity, key_hash, new_secret};
use crate::problem::Problem;

/// How long a ticket is good for, in seconds.
pub const TICKET_SEC: i32 = 30;

pub struct UserCredentials {
    pub user_id: Uuid,
    pub company_id: Uuid,
    pub role: String,
    pub password_hash: String,
}

pub async fn user(pool: &PgPool, email: &str) -> Result<Option<UserCredentials>, sqlx::Error> {
    sqlx::query_as!(UserCredentials, "select user_id, company_id, role, password_hash from user_credentials where email = $1", email)
        .fetch_optional(pool)
        .await
}

/// A user whose credentials are at least so many minutes old.
pub async fn older_user(pool: &PgPool, email: &str, minutes: i32) -> Result<Option<UserCredentials>, sqlx::Error> {
    sqlx::query_as!(
        UserCredentials,
        "select user_id, company_id, role, password_hash from user_credentials where email = $1 and created_at < now() - make_interval(mins => $2)",
        email,
        minutes
    )
    .fetch_optional(pool)
    .await
}

/// Keeps a new user's credentials; says false when somebody else has the address.
pub async fn save_user(pool: &PgPool, email: &str, user: &UserCredentials) -> Result<bool, sqlx::Error> {
    let saved = sqlx::query!(
        "insert into user_credentials as c (email, user_id, company_id, role, password_hash) values ($1, $2, $3, $4, $5)
         on conflict (email) do update set password_hash = excluded.password_hash where c.user_id = excluded.user_id",
        email,
        user.user_id,
        user.company_id,
        user.role,
        user.password_hash
    );
    Ok(saved.execute(pool).await?.rows_affected() == 1)
}

/// Gives an address free whose registration never came into the log.
pub async fn forget_user(pool: &PgPool, user_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from user_credentials where user_id = $1", user_id).execute(pool).await?;
    Ok(())
}

pub async fn save_api_key(pool: &PgPool, hash: &[u8], id: Uuid, company_id: Uuid, name: &str, role: Role) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into api_key_credentials (key_hash, api_key_id, company_id, name, role) values ($1, $2, $3, $4, $5)
         on conflict (api_key_id) do update set key_hash = excluded.key_hash",
        hash,
        id,
        company_id,
        name,
        role.to_string()
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn revoke_api_key(pool: &PgPool, company_id: Uuid, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update api_key_credentials set revoked_at = coalesce(revoked_at, now()) where company_id = $1 and api_key_id = $2",
        company_id,
        id
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whom a key stands for, unless it is unknown or revoked.
pub async fn api_key(pool: &PgPool, hash: &[u8]) -> Result<Option<Identity>, sqlx::Error> {
    let row =
        sqlx::query!("select api_key_id, company_id, name, role from api_key_credentials where key_hash = $1 and revoked_at is null", hash)
            .fetch_optional(pool)
            .await?;
    Ok(row.and_then(|row| {
        let actor = Actor { kind: ActorKind::ApiKey, id: Some(row.api_key_id), name: Some(row.name) };
        Some(Identity { company_id: row.company_id, role: row.role.parse().ok()?, actor })
    }))
}

/// A one-time ticket that stands for `identity` for [`TICKET_SEC`] seconds.
pub async fn issue_ticket(pool: &PgPool, identity: &Identity) -> Result<String, Problem> {
    let ticket = new_secret("");
    let caller = serde_json::to_value(identity).map_err(|e| Problem::internal(&e))?;
    sqlx::query!("delete from auth_tickets where expires_at < now()").execute(pool).await?;
    sqlx::query!(
        "insert into auth_tickets (ticket_hash, caller, expires_at) values ($1, $2, now() + make_interval(secs => $3))",
        key_hash(&ticket),
        caller,
        f64::from(TICKET_SEC)
    )
    .execute(pool)
    .await?;
    Ok(ticket)
}

/// Whom the ticket stands for; it is used up.
pub async fn redeem_ticket(pool: &PgPool, ticket: &str) -> Result<Option<Identity>, sqlx::Error> {
    let caller =
        sqlx::query_scalar!("delete from auth_tickets where ticket_hash = $1 and expires_at > now() returning caller", key_hash(ticket))
            .fetch_optional(pool)
            .await?;
    Ok(caller.and_then(|caller| serde_json::from_value(caller).ok()))
}
