//! Compares the credentials, which are kept apart from the log, with what the log says of users and API keys.
//!
//! Rights are taken away before the log says so and given once it does: credentials may give less than the log says, never more.

use domain::{
    api_key::{ApiKey, ApiKeyState},
    role::Role,
    user::{User, UserStatus},
};
use eventstore::{EventStore, Pool, StoreError};
use serde_json::json;
use uuid::Uuid;

use crate::output::Output;

/// What `compare` knows them by, beside the projections.
pub const NAME: &str = "credentials";

/// What somebody can log in or call with.
struct Credential {
    table: String,
    /// Of the user or the API key.
    id: Uuid,
    company_id: Uuid,
    role: String,
}

/// Lists the credentials that give more than the log says; answers how many there are.
pub async fn compare(pool: &Pool, store: &EventStore, output: &Output) -> anyhow::Result<usize> {
    let suspects = in_excess(store, read(pool, None).await?).await?;
    // A right that was taken away between the two looks is gone from both by now.
    let ids: Vec<Uuid> = suspects.iter().map(|(credential, _)| credential.id).collect();
    let found = if ids.is_empty() { Vec::new() } else { in_excess(store, read(pool, Some(&ids)).await?).await? };
    let differences: Vec<_> =
        found.iter().map(|(Credential { table, id, role, .. }, log)| json!({"table": table, "id": id, "role": role, "log": log})).collect();
    output.result(&json!({"projection": NAME, "done": "compared", "differences": differences}), || {
        let lines = found.iter().map(|(Credential { table, id, role, .. }, log)| format!("{table}: {id} has the role {role}; {log}\n"));
        let summary = match found.len() {
            0 => format!("{NAME}: compared, none gives more than the log says."),
            n => format!("{NAME}: compared, {n} give more than the log says."),
        };
        lines.chain([summary]).collect::<String>()
    })?;
    Ok(found.len())
}

/// The credentials that are valid; those with these ids, if some are given.
async fn read(pool: &Pool, ids: Option<&[Uuid]>) -> Result<Vec<Credential>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Credential,
        r#"select 'user_credentials' as "table!", user_id as "id!", company_id as "company_id!", role as "role!" from user_credentials
            where disabled_at is null and pending_since is null and ($1::uuid[] is null or user_id = any($1))
           union all
           select 'api_key_credentials', api_key_id, company_id, role from api_key_credentials
            where revoked_at is null and ($1::uuid[] is null or api_key_id = any($1))"#,
        ids
    );
    rows.fetch_all(pool).await
}

async fn in_excess(store: &EventStore, credentials: Vec<Credential>) -> Result<Vec<(Credential, String)>, StoreError> {
    let mut found = Vec::new();
    for credential in credentials {
        let in_log = match role_in_log(store, &credential).await {
            Err(StoreError::OtherCompany(_)) => Err("the log has it in another company".to_owned()),
            Err(error) => return Err(error),
            Ok(in_log) => in_log,
        };
        match in_log {
            Ok(role) if credential.role.parse::<Role>().is_ok_and(|given| given <= role) => {}
            Ok(role) => found.push((credential, format!("the log says {role}"))),
            Err(reason) => found.push((credential, reason)),
        }
    }
    Ok(found)
}

/// The role that the log gives, or why it gives none.
async fn role_in_log(
    store: &EventStore,
    Credential { table, id, company_id, .. }: &Credential,
) -> Result<Result<Role, String>, StoreError> {
    let unknown = || "the log does not know it".to_owned();
    if table == "user_credentials" {
        let user = store.load_fresh::<User>(*company_id, *id).await?;
        return Ok(match user.state.known() {
            None => Err(unknown()),
            Some(user) if user.status == UserStatus::Disabled => Err("the log says disabled".to_owned()),
            Some(user) => Ok(user.role),
        });
    }
    let key = store.load_fresh::<ApiKey>(*company_id, *id).await?;
    Ok(match &*key.state {
        ApiKeyState::None => Err(unknown()),
        ApiKeyState::Revoked => Err("the log says revoked".to_owned()),
        ApiKeyState::Issued { role, .. } => Ok(*role),
    })
}
