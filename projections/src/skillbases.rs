//! Skillbases and all their versions.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact, count,
    skillbase::{Skillbase, SkillbaseContent, SkillbaseEvent},
};
use eventstore::BoundedPage;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{ApplyError, Projection, ReadModel, Recorded, Table, fit},
    page::{After, json_bytes, long_rows},
};

pub const READ_MODEL: ReadModel = ReadModel::new("skillbases");

pub struct Skillbases;

pub struct SkillbaseRow {
    pub skillbase_id: Uuid,
    pub company_id: Uuid,
    pub name: String,
    pub slug: String,
    /// In the form that the API shows.
    pub config: Value,
    pub description: Option<String>,
    pub is_active: bool,
    pub is_published: bool,
    pub version: i32,
    pub stream_version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub struct SkillbaseVersionRow {
    pub version: i32,
    pub name: String,
    pub slug: String,
    pub config: Value,
    pub created_at: DateTime<Utc>,
}

crate::register!(Skillbases);

#[async_trait]
impl Projection for Skillbases {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("skillbases", "created_at"), Table::by("skillbase_versions", "created_at")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Skillbase::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            match &event.fact {
                Fact::Skillbase(
                    SkillbaseEvent::SkillbaseCreated { content, version } | SkillbaseEvent::SkillbaseUpdated { content, version },
                ) => save(db, event, content, fit(*version)?).await?,
                Fact::Skillbase(SkillbaseEvent::SkillbaseDeleted {}) => {
                    sqlx::query!("delete from skillbases where company_id = $1 and skillbase_id = $2", event.company_id, event.id)
                        .execute(&mut *db)
                        .await?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

async fn save(db: &mut PgConnection, event: &Recorded, content: &SkillbaseContent, version: i32) -> Result<(), sqlx::Error> {
    let config = content.config.to_api();
    sqlx::query!(
        "insert into skillbases (company_id, skillbase_id, name, slug, config, version, stream_version, created_at, updated_at,
                description, is_active, is_published)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11)
         on conflict (company_id, skillbase_id) do update
            set name = $3, slug = $4, config = $5, version = $6, stream_version = $7, updated_at = $8,
                description = $9, is_active = $10, is_published = $11",
        event.company_id,
        event.id,
        content.name,
        content.slug,
        config,
        version,
        event.version,
        event.recorded_at,
        content.description,
        content.is_active,
        content.is_published
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "insert into skillbase_versions (company_id, skillbase_id, version, name, slug, config, created_at) values ($1, $2, $3, $4, $5, $6, $7)",
        event.company_id,
        event.id,
        version,
        content.name,
        content.slug,
        config,
        event.recorded_at
    )
    .execute(&mut *db)
    .await?;
    Ok(())
}

pub async fn get(db: &mut PgConnection, company_id: Uuid, id: Uuid) -> Result<Option<SkillbaseRow>, sqlx::Error> {
    sqlx::query_as!(
        SkillbaseRow,
        "select skillbase_id, company_id, name, slug, config, description, is_active, is_published, version, stream_version, created_at, updated_at
           from skillbases where company_id = $1 and skillbase_id = $2",
        company_id,
        id
    )
    .fetch_optional(db)
    .await
}

/// Which skillbases to list; `name` matches any part of the name without regard to case, `slug` the whole slug.
#[derive(Clone, Copy, Debug, Default)]
pub struct SkillbaseFilter<'a> {
    pub name: Option<&'a str>,
    pub slug: Option<&'a str>,
    pub is_active: Option<bool>,
    pub is_published: Option<bool>,
}

/// Number of skillbases that pass the filter.
pub async fn count(db: &mut PgConnection, company_id: Uuid, filter: SkillbaseFilter<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from skillbases
            where company_id = $1 and ($2::text is null or strpos(lower(name), lower($2)) > 0) and ($3::text is null or slug = $3)
              and ($4::boolean is null or is_active = $4) and ($5::boolean is null or is_published = $5)"#,
        company_id,
        filter.name,
        filter.slug,
        filter.is_active,
        filter.is_published
    )
    .fetch_one(db)
    .await
}

/// Newest first.
pub async fn list(
    db: &mut PgConnection,
    company_id: Uuid,
    filter: SkillbaseFilter<'_>,
    after: Option<After>,
    limit: usize,
) -> Result<BoundedPage<SkillbaseRow>, sqlx::Error> {
    let mut reader = long_rows::<SkillbaseRow>(limit);
    while let Some(count) = reader.rows_to_read() {
        let after = reader.last().map_or(after, |row| Some(After { at: row.created_at, id: row.skillbase_id }));
        let rows = rows(&mut *db, company_id, filter, after, count::to_i64(count)).await?;
        reader.add(rows, |row| json_bytes(&row.config));
    }
    Ok(reader.into_page())
}

async fn rows(
    db: &mut PgConnection,
    company_id: Uuid,
    filter: SkillbaseFilter<'_>,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<SkillbaseRow>, sqlx::Error> {
    sqlx::query_as!(
        SkillbaseRow,
        "select skillbase_id, company_id, name, slug, config, description, is_active, is_published, version, stream_version, created_at, updated_at
           from skillbases
          where company_id = $1 and ($2::text is null or strpos(lower(name), lower($2)) > 0) and ($3::text is null or slug = $3)
            and ($4::boolean is null or is_active = $4) and ($5::boolean is null or is_published = $5)
            and ($6::timestamptz is null or (created_at, skillbase_id) < ($6, $7::uuid))
          order by created_at desc, skillbase_id desc limit $8",
        company_id,
        filter.name,
        filter.slug,
        filter.is_active,
        filter.is_published,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    )
    .fetch_all(db)
    .await
}

/// All versions, newest first, beginning below `before`; they stay when the skillbase is deleted.
pub async fn versions(
    db: &mut PgConnection,
    company_id: Uuid,
    id: Uuid,
    before: Option<i32>,
    limit: usize,
) -> Result<BoundedPage<SkillbaseVersionRow>, sqlx::Error> {
    let mut reader = long_rows::<SkillbaseVersionRow>(limit);
    while let Some(count) = reader.rows_to_read() {
        let before = reader.last().map_or(before, |row| Some(row.version));
        let rows = version_rows(&mut *db, company_id, id, before, count::to_i64(count)).await?;
        reader.add(rows, |row| json_bytes(&row.config));
    }
    Ok(reader.into_page())
}

async fn version_rows(
    db: &mut PgConnection,
    company_id: Uuid,
    id: Uuid,
    before: Option<i32>,
    limit: i64,
) -> Result<Vec<SkillbaseVersionRow>, sqlx::Error> {
    sqlx::query_as!(
        SkillbaseVersionRow,
        "select version, name, slug, config, created_at from skillbase_versions
          where company_id = $1 and skillbase_id = $2 and ($3::int is null or version < $3)
          order by version desc limit $4",
        company_id,
        id,
        before,
        limit
    )
    .fetch_all(db)
    .await
}

pub async fn version(db: &mut PgConnection, company_id: Uuid, id: Uuid, version: i32) -> Result<Option<SkillbaseVersionRow>, sqlx::Error> {
    sqlx::query_as!(
        SkillbaseVersionRow,
        "select version, name, slug, config, created_at from skillbase_versions
          where company_id = $1 and skillbase_id = $2 and version = $3",
        company_id,
        id,
        version
    )
    .fetch_optional(db)
    .await
}
