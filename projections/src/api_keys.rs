//! API keys, without their secrets.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact,
    api_key::{ApiKey, ApiKeyEvent},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{ApplyError, Projection, ReadModel, Recorded, Table},
    page::After,
};

pub const READ_MODEL: ReadModel = ReadModel::new("api_keys");

pub struct ApiKeys;

pub struct ApiKeyRow {
    pub api_key_id: Uuid,
    pub name: String,
    pub role: String,
    pub created_at: DateTime<Utc>,
}

#[async_trait]
impl Projection for ApiKeys {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("api_keys", "created_at")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[ApiKey::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            match &event.fact {
                Fact::ApiKey(ApiKeyEvent::ApiKeyIssued { name, role }) => {
                    sqlx::query!(
                        "insert into api_keys (company_id, api_key_id, name, role, created_at) values ($1, $2, $3, $4, $5)",
                        event.company_id,
                        event.id,
                        name,
                        role.to_string(),
                        event.recorded_at
                    )
                    .execute(&mut *db)
                    .await?;
                }
                Fact::ApiKey(ApiKeyEvent::ApiKeyRevoked {}) => {
                    sqlx::query!(
                        "update api_keys set revoked_at = $3 where company_id = $1 and api_key_id = $2",
                        event.company_id,
                        event.id,
                        event.recorded_at
                    )
                    .execute(&mut *db)
                    .await?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The keys that are not revoked, newest first.
pub async fn list(db: &mut PgConnection, company_id: Uuid, after: Option<After>, limit: i64) -> Result<Vec<ApiKeyRow>, sqlx::Error> {
    sqlx::query_as!(
        ApiKeyRow,
        "select api_key_id, name, role, created_at from api_keys
          where company_id = $1 and revoked_at is null and ($2::timestamptz is null or (created_at, api_key_id) < ($2, $3::uuid))
          order by created_at desc, api_key_id desc limit $4",
        company_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    )
    .fetch_all(db)
    .await
}
