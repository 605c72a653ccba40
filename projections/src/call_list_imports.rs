//! Uploaded call lists and the results of their import.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact,
    campaign::{Campaign, CampaignEvent},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{ApplyError, Projection, ReadModel, Recorded, Table, fit},
    page::After,
};

pub const READ_MODEL: ReadModel = ReadModel::new("call_list_imports");

pub struct CallListImports;

pub struct CallListImportRow {
    pub import_id: Uuid,
    pub file_name: String,
    pub total: i64,
    pub created: i64,
    pub error_count: i64,
    /// The first problems that were found.
    pub errors: Vec<String>,
    pub imported_at: DateTime<Utc>,
}

crate::register!(CallListImports);

#[async_trait]
impl Projection for CallListImports {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("call_list_imports", "imported_at")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Campaign::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            let Fact::Campaign(CampaignEvent::CallListImported { import_id, file_name, total, created, error_count, errors }) = &event.fact
            else {
                continue;
            };
            let [total, created, error_count] = [fit::<_, i64>(*total)?, fit(*created)?, fit(*error_count)?];
            sqlx::query!(
                "insert into call_list_imports (company_id, import_id, campaign_id, file_name, total, created, error_count, errors, imported_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                event.company_id,
                import_id,
                event.id,
                file_name,
                total,
                created,
                error_count,
                errors,
                event.recorded_at
            )
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

/// A campaign's imports, newest first.
pub async fn list(
    db: &mut PgConnection,
    company_id: Uuid,
    campaign_id: Uuid,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<CallListImportRow>, sqlx::Error> {
    sqlx::query_as!(
        CallListImportRow,
        "select import_id, file_name, total, created, error_count, errors, imported_at from call_list_imports
          where company_id = $1 and campaign_id = $2 and ($3::timestamptz is null or (imported_at, import_id) < ($3, $4::uuid))
          order by imported_at desc, import_id desc limit $5",
        company_id,
        campaign_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    )
    .fetch_all(db)
    .await
}
