//! Companies.

use async_trait::async_trait;
use domain::{
    Decider, Fact,
    company::{Company, CompanyEvent},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::engine::{ApplyError, Projection, ReadModel, Recorded, Table};

pub const READ_MODEL: ReadModel = ReadModel::new("companies");

pub struct Companies;

pub struct CompanyRow {
    pub company_id: Uuid,
    pub name: String,
    pub slug: String,
    pub email: Option<String>,
    pub version: i64,
}

crate::register!(Companies);

#[async_trait]
impl Projection for Companies {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("companies", "created_at")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Company::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            let Fact::Company(CompanyEvent::CompanyRegistered(profile) | CompanyEvent::CompanyUpdated(profile)) = &event.fact else {
                continue;
            };
            sqlx::query!(
                "insert into companies (company_id, name, slug, email, version, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $6)
                 on conflict (company_id) do update set name = $2, slug = $3, email = $4, version = $5, updated_at = $6",
                event.company_id,
                profile.name,
                profile.slug,
                profile.email,
                event.version,
                event.recorded_at
            )
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

pub async fn get(db: &mut PgConnection, company_id: Uuid) -> Result<Option<CompanyRow>, sqlx::Error> {
    sqlx::query_as!(CompanyRow, "select company_id, name, slug, email, version from companies where company_id = $1", company_id)
        .fetch_optional(db)
        .await
}
