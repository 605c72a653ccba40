//! Compares the credentials, which are stored separately from the log, with the users and API keys in the log.
//!
//! Rights are revoked before the event is in the log, and granted after it is: credentials may give fewer rights than the log, never more.

use domain::{
    Lifecycle,
    api_key::ApiKey,
    role::Role,
    user::{User, UserStatus},
};
use eventstore::{EventStore, Pool, StoreError};
use serde_json::json;
use uuid::Uuid;

use crate::output::Output;

/// The name of the credentials in `compare`, in addition to the names of the projections.
pub const NAME: &str = "credentials";

/// A credential that can be used to log in or to call the API.
struct Credential {
    table: String,
    /// Id of the user or the API key.
    id: Uuid,
    company_id: Uuid,
    role: String,
}

/// Lists the credentials that give more rights than the log; returns their number.
pub async fn compare(pool: &Pool, store: &EventStore, output: &Output) -> anyhow::Result<usize> {
    let suspects = in_excess(store, read(pool, None).await?).await?;
    // If a right was revoked between the two reads, both sources show this by now.
    let ids: Vec<Uuid> = suspects.iter().map(|(credential, _)| credential.id).collect();
    let found = if ids.is_empty() { Vec::new() } else { in_excess(store, read(pool, Some(&ids)).await?).await? };
    let differences: Vec<_> =
        found.iter().map(|(Credential { table, id, role, .. }, log)| json!({"table": table, "id": id, "role": role, "log": log})).collect();
    output.result(&json!({"projection": NAME, "done": "compared", "differences": differences}), || {
        let lines = found.iter().map(|(Credential { table, id, role, .. }, log)| format!("{table}: {id} has the role {role}; {log}\n"));
        let summary = match found.len() {
            0 => format!("{NAME}: compared, none gives more than the log has."),
            n => format!("{NAME}: compared, {n} give more than the log has."),
        };
        lines.chain([summary]).collect::<String>()
    })?;
    Ok(found.len())
}

/// The valid credentials; only those with the given ids, if there are any.
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
            Ok(role) if credential.role.parse::<Role>().is_ok_and(|given| role.includes(given)) => {}
            Ok(role) => found.push((credential, format!("the log has {role}"))),
            Err(reason) => found.push((credential, reason)),
        }
    }
    Ok(found)
}

/// The role that the log grants, or the reason why it grants none.
async fn role_in_log(
    store: &EventStore,
    Credential { table, id, company_id, .. }: &Credential,
) -> Result<Result<Role, String>, StoreError> {
    let unknown = || "the log does not know it".to_owned();
    if table == "user_credentials" {
        let user = store.load_fresh::<User>(*company_id, *id).await?;
        return Ok(match user.state.present() {
            None => Err(unknown()),
            Some(user) if user.status == UserStatus::Disabled => Err("the log has disabled".to_owned()),
            Some(user) => Ok(user.role),
        });
    }
    let key = store.load_fresh::<ApiKey>(*company_id, *id).await?;
    Ok(match &*key.state {
        Lifecycle::None => Err(unknown()),
        Lifecycle::Deleted => Err("the log has revoked".to_owned()),
        Lifecycle::Present(key) => Ok(key.role),
    })
}
