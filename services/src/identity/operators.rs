//! Operators: the users who run the installation.

use chrono::{DateTime, Utc};
use eventstore::Pool;
use sqlx::PgConnection;
use uuid::Uuid;

/// A user who runs the installation.
pub struct OperatorRow {
    pub user_id: Uuid,
    pub company_id: Uuid,
    pub operator_since: DateTime<Utc>,
    pub disabled_at: Option<DateTime<Utc>>,
}

/// Gives a user the operator's right. Returns false if they had it.
pub async fn add(db: &mut PgConnection, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let added = sqlx::query!("update user_credentials set operator_since = now() where user_id = $1 and operator_since is null", user_id);
    Ok(added.execute(db).await?.rows_affected() == 1)
}

/// Revokes the operator's right of a user. Returns false if the user did not have it.
pub async fn remove(db: &mut PgConnection, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let removed =
        sqlx::query!("update user_credentials set operator_since = null where user_id = $1 and operator_since is not null", user_id);
    Ok(removed.execute(db).await?.rows_affected() == 1)
}

/// All operators, oldest first.
pub async fn list(pool: &Pool) -> Result<Vec<OperatorRow>, sqlx::Error> {
    sqlx::query_as!(
        OperatorRow,
        r#"select user_id, company_id, operator_since as "operator_since!", disabled_at
             from user_credentials where operator_since is not null order by operator_since, user_id"#
    )
    .fetch_all(pool)
    .await
}
