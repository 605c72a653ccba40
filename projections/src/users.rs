//! Users, without their secrets.

use std::collections::HashMap;

use domain::{
    ERASED,
    user::{KnownUser, User},
};
use eventstore::{Persons, StoreError, persons::Envelope};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Document,
    engine::document::{DocumentRow, document},
    page::After,
};

document! { Users stores User (KnownUser) in "users" by "user_id", version 2, personal ["email"] }

/// The addresses of the company's users with these ids, as far as they can be decrypted.
pub async fn addresses(
    db: &mut PgConnection,
    persons: &Persons,
    company_id: Uuid,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, String>, StoreError> {
    let mut rows = with_ids(db, company_id, ids).await?;
    persons.reveal(company_id, &mut rows).await?;
    let mut addresses = HashMap::new();
    for row in rows {
        let (id, address) = (row.id(), row.into_data().map_err(|error| sqlx::Error::Decode(error.into()))?.email.into_inner());
        if address != ERASED {
            addresses.insert(id, address);
        }
    }
    Ok(addresses)
}

async fn with_ids(db: &mut PgConnection, company_id: Uuid, ids: &[Uuid]) -> Result<Vec<Document<User>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        DocumentRow,
        r#"select company_id, user_id as id, stream_version, created_at, updated_at, deleted_at, body,
                  personal as "personal: Json<Envelope>" from users
          where company_id = $1 and user_id = any($2)"#,
        company_id,
        ids
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Document::new).collect())
}

/// The company's users, newest first.
pub async fn list(db: &mut PgConnection, company_id: Uuid, after: Option<After>, limit: i64) -> Result<Vec<Document<User>>, sqlx::Error> {
    let rows = sqlx::query_as!(
        DocumentRow,
        r#"select company_id, user_id as id, stream_version, created_at, updated_at, deleted_at, body,
                  personal as "personal: Json<Envelope>" from users
          where company_id = $1 and ($2::timestamptz is null or (created_at, user_id) < ($2, $3::uuid))
          order by created_at desc, user_id desc limit $4"#,
        company_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Document::new).collect())
}
