//! Stored API keys: hashes, roles and times of use.

use chrono::{DateTime, Utc};
use domain::role::Role;
use eventstore::{Actor, ActorKind, Pool};
use uuid::Uuid;

use super::caller::{Identity, new_secret, secret_hash};

/// Number of characters of an API key that the API shows.
const PREFIX_CHARS: usize = 10;

/// Stores a key that the log has. Returns false if the key is revoked: it is stored then, but is not valid.
pub async fn save(pool: &Pool, key: &str, id: Uuid, company_id: Uuid, name: &str, role: Role) -> Result<bool, sqlx::Error> {
    let saved = sqlx::query_scalar!(
        r#"insert into api_key_credentials (key_hash, api_key_id, company_id, name, role, prefix) values ($1, $2, $3, $4, $5, $6)
         on conflict (api_key_id) do update set key_hash = excluded.key_hash, prefix = excluded.prefix
         returning revoked_at is null as "is_valid!""#,
        secret_hash(key),
        id,
        company_id,
        name,
        role.to_string(),
        key.chars().take(PREFIX_CHARS).collect::<String>()
    );
    saved.fetch_one(pool).await
}

/// Revokes a key that the log has. A key that is not stored yet gets a row that marks it as revoked, under the hash of a secret that no
/// caller has.
pub async fn revoke(pool: &Pool, company_id: Uuid, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into api_key_credentials as k (key_hash, api_key_id, company_id, name, role, revoked_at) values ($1, $2, $3, '', '', now())
         on conflict (api_key_id) do update set revoked_at = coalesce(k.revoked_at, excluded.revoked_at)
          where k.company_id = excluded.company_id",
        secret_hash(&new_secret("")),
        id,
        company_id
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The identity that a key authenticates, unless the key is unknown or revoked. Records the time of use, to the minute.
pub async fn holder(pool: &Pool, hash: &[u8]) -> Result<Option<Identity>, sqlx::Error> {
    let row = sqlx::query!(
        "with used as (
             update api_key_credentials set last_used_at = now()
              where key_hash = $1 and revoked_at is null and (last_used_at is null or last_used_at < now() - interval '1 minute')
         )
         select api_key_id, company_id, name, role from api_key_credentials where key_hash = $1 and revoked_at is null",
        hash
    );
    Ok(row.fetch_optional(pool).await?.and_then(|row| {
        let actor = Actor { kind: ActorKind::ApiKey, id: Some(row.api_key_id), name: Some(row.name) };
        Some(Identity { company_id: row.company_id, role: row.role.parse().ok()?, actor, session: None, is_operator: false })
    }))
}

/// Whether a key exists and is not revoked.
pub async fn is_valid(pool: &Pool, id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"select exists (select from api_key_credentials where api_key_id = $1 and revoked_at is null) as "good!""#, id)
        .fetch_one(pool)
        .await
}

/// The data of a key that may be shown.
pub struct KeyUse {
    pub api_key_id: Uuid,
    pub prefix: Option<String>,
    pub last_used_at: Option<DateTime<Utc>>,
}

pub async fn uses(pool: &Pool, company_id: Uuid, ids: &[Uuid]) -> Result<Vec<KeyUse>, sqlx::Error> {
    sqlx::query_as!(
        KeyUse,
        "select api_key_id, prefix, last_used_at from api_key_credentials where company_id = $1 and api_key_id = any($2)",
        company_id,
        ids
    )
    .fetch_all(pool)
    .await
}
