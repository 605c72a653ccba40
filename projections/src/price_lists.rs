//! Price lists.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact, count,
    price_list::{PriceList, PriceListEvent},
};
use eventstore::BoundedPage;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{ApplyError, Projection, ReadModel, Recorded, Table},
    page::{After, json_bytes, long_rows},
};

pub const READ_MODEL: ReadModel = ReadModel::new("price_lists");

pub struct PriceLists;

pub struct PriceListRow {
    pub price_list_id: Uuid,
    pub name: String,
    pub effective_from: DateTime<Utc>,
    /// [`domain::price::Rate`]s.
    pub rates: Value,
    pub created_at: DateTime<Utc>,
    pub withdrawn_at: Option<DateTime<Utc>>,
}

crate::register!(PriceLists);

#[async_trait]
impl Projection for PriceLists {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("price_lists", "created_at")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[PriceList::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            let (name, effective_from, rates) = match &event.fact {
                Fact::PriceList(PriceListEvent::PriceListPublished { name, effective_from, rates }) => (name, effective_from, rates),
                Fact::PriceList(PriceListEvent::PriceListWithdrawn {}) => {
                    withdraw(db, event).await?;
                    continue;
                }
                _ => continue,
            };
            sqlx::query!(
                "insert into price_lists (company_id, price_list_id, name, effective_from, rates, position, created_at)
                 values ($1, $2, $3, $4, $5, $6, $7)",
                event.company_id,
                event.id,
                name,
                effective_from,
                serde_json::to_value(rates).map_err(|e| ApplyError::Contradiction(e.to_string()))?,
                event.position,
                event.recorded_at
            )
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

async fn withdraw(db: &mut PgConnection, event: &Recorded) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update price_lists set withdrawn_at = $3 where company_id = $1 and price_list_id = $2",
        event.company_id,
        event.id,
        event.recorded_at
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn get(db: &mut PgConnection, company_id: Uuid, id: Uuid) -> Result<Option<PriceListRow>, sqlx::Error> {
    sqlx::query_as!(
        PriceListRow,
        "select price_list_id, name, effective_from, rates, created_at, withdrawn_at from price_lists
          where company_id = $1 and price_list_id = $2",
        company_id,
        id
    )
    .fetch_optional(db)
    .await
}

/// Number of lists of a company, withdrawn ones included.
pub async fn count(db: &mut PgConnection, company_id: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from price_lists where company_id = $1"#, company_id).fetch_one(db).await
}

/// The list in force at `at`, or, if that is `without`, the one that would be in force without it.
pub async fn in_force(
    db: &mut PgConnection,
    company_id: Uuid,
    at: DateTime<Utc>,
    without: Option<Uuid>,
) -> Result<Option<PriceListRow>, sqlx::Error> {
    sqlx::query_as!(
        PriceListRow,
        "select price_list_id, name, effective_from, rates, created_at, withdrawn_at from price_lists
          where company_id = $1 and effective_from <= $2 and withdrawn_at is null and ($3::uuid is null or price_list_id <> $3)
          order by effective_from desc, position desc limit 1",
        company_id,
        at,
        without
    )
    .fetch_optional(db)
    .await
}

/// Newest first.
pub async fn list(
    db: &mut PgConnection,
    company_id: Uuid,
    after: Option<After>,
    limit: usize,
) -> Result<BoundedPage<PriceListRow>, sqlx::Error> {
    let mut reader = long_rows::<PriceListRow>(limit);
    while let Some(count) = reader.rows_to_read() {
        let after = reader.last().map_or(after, |row| Some(After { at: row.created_at, id: row.price_list_id }));
        let rows = rows(&mut *db, company_id, after, count::to_i64(count)).await?;
        reader.add(rows, |row| json_bytes(&row.rates));
    }
    Ok(reader.into_page())
}

async fn rows(db: &mut PgConnection, company_id: Uuid, after: Option<After>, limit: i64) -> Result<Vec<PriceListRow>, sqlx::Error> {
    sqlx::query_as!(
        PriceListRow,
        "select price_list_id, name, effective_from, rates, created_at, withdrawn_at from price_lists
          where company_id = $1 and ($2::timestamptz is null or (created_at, price_list_id) < ($2, $3::uuid))
          order by created_at desc, price_list_id desc limit $4",
        company_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    )
    .fetch_all(db)
    .await
}
