//! API keys, without their secrets.

use domain::api_key::{ApiKey, IssuedKey};
use eventstore::persons::Envelope;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Document,
    engine::document::{DocumentRow, document},
    page::After,
};

document! { ApiKeys stores ApiKey (IssuedKey) in "api_keys" by "api_key_id", version 2, personal [] }

/// The keys that are not revoked, newest first.
pub async fn list(db: &mut PgConnection, company_id: Uuid, after: Option<After>, limit: i64) -> Result<Vec<Document<ApiKey>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        DocumentRow,
        r#"select company_id, api_key_id as id, stream_version, created_at, updated_at, deleted_at, body,
                  personal as "personal: Json<Envelope>" from api_keys
          where company_id = $1 and deleted_at is null and ($2::timestamptz is null or (created_at, api_key_id) < ($2, $3::uuid))
          order by created_at desc, api_key_id desc limit $4"#,
        company_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Document::new).collect())
}
