//! Entries in the audit for what the tool decrypts.

use eventstore::Pool;
use nix::unistd::{Uid, User};
use serde_json::json;
use uuid::Uuid;

/// Records that personal values of a company were decrypted; `what` is a table or a stream.
pub async fn record(owner: &Pool, company_id: Uuid, action: &str, what: &str) -> Result<(), sqlx::Error> {
    let actor = json!({"kind": "system", "id": null, "name": format!("replay-tool, {}", system_user())});
    sqlx::query!(
        "insert into audit_log (company_id, audit_id, at, actor, action, path, status, request_id)
         values ($1, $2, clock_timestamp(), $3, $4, $5, 200, $6)",
        company_id,
        Uuid::now_v7(),
        actor,
        action,
        what,
        Uuid::now_v7()
    )
    .execute(owner)
    .await?;
    Ok(())
}

/// The user of the operating system who runs the tool: `user ada`, or `user root, sudo by ada`.
fn system_user() -> String {
    let uid = Uid::current();
    let name = match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    };
    match std::env::var("SUDO_USER") {
        Ok(by) if uid.is_root() => format!("user {name}, sudo by {by}"),
        _ => format!("user {name}"),
    }
}
