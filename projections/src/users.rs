//! Users, without their secrets.

use domain::user::{KnownUser, User};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Document,
    engine::document::{DocumentRow, document},
    page::After,
};

document! { Users stores User (KnownUser) in "users" by "user_id", version 2, personal ["email"] }

/// The company's users with these ids.
pub async fn with_ids(db: &mut PgConnection, company_id: Uuid, ids: &[Uuid]) -> Result<Vec<Document<User>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        DocumentRow,
        "select company_id, user_id as id, stream_version, created_at, updated_at, deleted_at, body, personal from users
          where company_id = $1 and user_id = any($2)",
        company_id,
        ids
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Document::new).collect())
}

/// The company's users, newest first.
pub async fn list(db: &mut PgConnection, company_id: Uuid, after: Option<After>, limit: i64) -> Result<Vec<Document<User>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        DocumentRow,
        "select company_id, user_id as id, stream_version, created_at, updated_at, deleted_at, body, personal from users
          where company_id = $1 and ($2::timestamptz is null or (created_at, user_id) < ($2, $3::uuid))
          order by created_at desc, user_id desc limit $4",
        company_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Document::new).collect())
}
