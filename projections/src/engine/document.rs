//! Read models whose rows are the states of an aggregate's streams. The fold is the aggregate's own `evolve`, so a row, the answer of a command
//! and a state as of a time have the same data, and a new field of the state needs no change in the read model.
//!
//! A table of documents has `company_id`, the id, `stream_version`, `created_at`, `updated_at`, `deleted_at`, `body` and `personal`
//! ([`DocumentRow`]). Columns that queries filter or sort by, and that exports show, are generated from the body.

use std::{collections::HashMap, marker::PhantomData, mem};

use chrono::{DateTime, Utc};
use domain::{Decider, Fact, Lifecycle};
use eventstore::{
    HoldsPersonal, StreamName,
    persons::{Envelope, PersonalValues},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::projection::{ApplyError, Recorded};

/// An aggregate whose states are stored as documents.
pub trait Stored: Decider<State = Lifecycle<<Self as Stored>::Data>> {
    type Data: Clone + Serialize + DeserializeOwned;

    /// The event, if it is one of this aggregate.
    fn event(fact: &Fact) -> Option<&Self::Event>;
}

/// A row of a table of documents.
pub struct DocumentRow {
    pub company_id: Uuid,
    pub id: Uuid,
    pub stream_version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
    /// The data of the aggregate; after a deletion, the data from before. Personal values are placeholders.
    pub body: Value,
    /// The envelope with the personal values, as in the log. Its fields have the same names in the body.
    pub personal: Option<Json<Envelope>>,
}

/// A row with the aggregate that it belongs to.
pub struct Document<D> {
    row: DocumentRow,
    aggregate: PhantomData<fn() -> D>,
}

/// A stored state that this release cannot read.
#[derive(Debug, thiserror::Error)]
#[error("the row of {stream} cannot be read: {source}")]
pub struct UnreadableDocument {
    stream: String,
    source: serde_json::Error,
}

impl<D: Stored> Document<D> {
    pub fn new(row: DocumentRow) -> Self {
        Self { row, aggregate: PhantomData }
    }

    pub fn id(&self) -> Uuid {
        self.row.id
    }

    pub fn version(&self) -> i64 {
        self.row.stream_version
    }

    pub fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }

    pub fn updated_at(&self) -> DateTime<Utc> {
        self.row.updated_at
    }

    pub fn deleted_at(&self) -> Option<DateTime<Utc>> {
        self.row.deleted_at
    }

    pub fn into_data(self) -> Result<D::Data, UnreadableDocument> {
        let stream = self.stream();
        serde_json::from_value(self.row.body).map_err(|source| UnreadableDocument { stream, source })
    }
}

impl<D: Stored> HoldsPersonal for Document<D> {
    fn stream(&self) -> String {
        StreamName::of::<D>(self.row.id).to_string()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        self.row.personal.iter().map(|Json(envelope)| envelope.clone()).collect()
    }

    fn reveal(&mut self, values: PersonalValues) {
        for (field, value) in values {
            if let Some(placeholder) = self.row.body.pointer_mut(&field) {
                *placeholder = value;
            }
        }
    }
}

/// The rows after `events`; `rows` has the stored rows of the events' streams.
pub fn fold<D: Stored>(rows: Vec<DocumentRow>, events: &[&Recorded]) -> Result<Vec<DocumentRow>, ApplyError> {
    let rows = rows.into_iter().map(|row| Ok((row.id, Folding::<D>::of_row(row)?)));
    let mut folding: HashMap<Uuid, Folding<D>> = rows.collect::<Result<_, ApplyError>>()?;
    for event in events {
        if let Some(fact) = D::event(&event.fact) {
            folding.entry(event.id).or_insert_with(|| Folding::new(event)).apply(event, fact)?;
        }
    }
    folding.into_values().map(Folding::into_row).collect()
}

/// A row and the state that it stores.
struct Folding<D: Stored> {
    row: DocumentRow,
    state: Lifecycle<D::Data>,
}

impl<D: Stored> Folding<D> {
    fn new(first: &Recorded) -> Self {
        let row = DocumentRow {
            company_id: first.company_id,
            id: first.id,
            stream_version: 0,
            created_at: first.recorded_at,
            updated_at: first.recorded_at,
            deleted_at: None,
            body: Value::Null,
            personal: None,
        };
        Self { row, state: Lifecycle::None }
    }

    fn of_row(mut row: DocumentRow) -> Result<Self, ApplyError> {
        let state = match row.deleted_at {
            Some(_) => Lifecycle::Deleted,
            None => Lifecycle::new(serde_json::from_value(row.body.take()).map_err(contradiction)?),
        };
        Ok(Self { row, state })
    }

    fn apply(&mut self, event: &Recorded, fact: &D::Event) -> Result<(), ApplyError> {
        let before = self.state.clone();
        D::evolve(&mut self.state, fact);
        match (before, &self.state) {
            (_, Lifecycle::None) => return Err(contradiction(format!("{} was never created", StreamName::of::<D>(event.id)))),
            (Lifecycle::Present(data), Lifecycle::Deleted) => {
                self.row.body = serde_json::to_value(data).map_err(contradiction)?;
                self.row.deleted_at = Some(event.recorded_at);
            }
            _ => {}
        }
        (self.row.stream_version, self.row.updated_at) = (event.version, event.recorded_at);
        self.row.personal = event.personal.clone().map(Json).or_else(|| mem::take(&mut self.row.personal));
        Ok(())
    }

    fn into_row(mut self) -> Result<DocumentRow, ApplyError> {
        if let Some(data) = self.state.present() {
            self.row.body = serde_json::to_value(data).map_err(contradiction)?;
        }
        Ok(self.row)
    }
}

fn contradiction(reason: impl ToString) -> ApplyError {
    ApplyError::Contradiction(reason.to_string())
}

/// The projection of an aggregate into a table of documents, and the query of one document.
///
/// ```ignore
/// document! { Users stores User (KnownUser) in "users" by "user_id", version 2, personal ["email"] }
/// ```
///
/// `version` is [`Projection::version`](super::Projection::version). `personal` names the columns that are generated from personal values.
macro_rules! document {
    ($projection:ident stores $aggregate:ident ($data:ty) in $table:literal by $id:literal, version $version:literal, personal $personal:expr) => {
        pub const READ_MODEL: $crate::ReadModel = $crate::ReadModel::new($table);

        pub struct $projection;

        $crate::register!($projection);

        impl $crate::engine::document::Stored for $aggregate {
            type Data = $data;

            fn event(fact: &domain::Fact) -> Option<&Self::Event> {
                match fact {
                    domain::Fact::$aggregate(event) => Some(event),
                    _ => None,
                }
            }
        }

        #[async_trait::async_trait]
        impl $crate::Projection for $projection {
            fn read_model(&self) -> $crate::ReadModel {
                READ_MODEL
            }

            fn version(&self) -> i32 {
                $version
            }

            fn tables(&self) -> &'static [$crate::Table] {
                const PERSONAL: &[$crate::PersonalColumns] = &[$crate::PersonalColumns {
                    envelope: "personal",
                    placeholders: &$personal,
                    stream: (<$aggregate as domain::Decider>::CATEGORY, $id),
                    bound: &[],
                }];
                const { &[$crate::Table::by($table, "created_at").with_personal(PERSONAL)] }
            }

            fn categories(&self) -> &'static [&'static str] {
                &[<$aggregate as domain::Decider>::CATEGORY]
            }

            async fn apply(&self, db: &mut sqlx::PgConnection, events: &[&$crate::Recorded]) -> Result<(), $crate::ApplyError> {
                let (companies, ids): (Vec<_>, Vec<_>) = events.iter().map(|event| (event.company_id, event.id)).unzip();
                let stored = sqlx::query_as!(
                    $crate::engine::document::DocumentRow,
                    "select company_id, " + $id + r#" as id, stream_version, created_at, updated_at, deleted_at, body, personal as "personal: sqlx::types::Json<eventstore::persons::Envelope>" from "# + $table
                        + " where (company_id, " + $id + ") in (select * from unnest($1::uuid[], $2::uuid[]))",
                    &companies,
                    &ids
                );
                let rows = $crate::engine::document::fold::<$aggregate>(stored.fetch_all(&mut *db).await?, events)?;
                sqlx::query!(
                    "insert into " + $table + " (company_id, " + $id + ", stream_version, created_at, updated_at, deleted_at, body, personal)
                     select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                                          $7::jsonb[], $8::jsonb[])
                     on conflict (company_id, " + $id + ") do update
                        set stream_version = excluded.stream_version, updated_at = excluded.updated_at, deleted_at = excluded.deleted_at,
                            body = excluded.body, personal = excluded.personal",
                    &rows.iter().map(|row| row.company_id).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.id).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.stream_version).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.created_at).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.updated_at).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.deleted_at).collect::<Vec<_>>() as &[Option<chrono::DateTime<chrono::Utc>>],
                    &rows.iter().map(|row| row.body.clone()).collect::<Vec<_>>(),
                    &rows.iter().map(|row| row.personal.clone()).collect::<Vec<_>>() as &[Option<sqlx::types::Json<eventstore::persons::Envelope>>]
                )
                .execute(db)
                .await?;
                Ok(())
            }
        }

        /// The document, also after a deletion.
        pub async fn get(
            db: &mut sqlx::PgConnection,
            company_id: uuid::Uuid,
            id: uuid::Uuid,
        ) -> Result<Option<$crate::Document<$aggregate>>, sqlx::Error> {
            let row = sqlx::query_as!(
                $crate::engine::document::DocumentRow,
                "select company_id, " + $id + r#" as id, stream_version, created_at, updated_at, deleted_at, body, personal as "personal: sqlx::types::Json<eventstore::persons::Envelope>" from "# + $table
                    + " where company_id = $1 and " + $id + " = $2",
                company_id,
                id
            );
            Ok(row.fetch_optional(db).await?.map($crate::Document::new))
        }
    };
}

pub(crate) use document;

#[cfg(test)]
mod tests {
    use domain::{
        api_key::{ApiKey, ApiKeyEvent, IssuedKey},
        role::Role,
        user::{User, UserEvent},
    };

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn recorded(fact: Fact, version: i64) -> Recorded {
        let at = DateTime::from_timestamp(version, 0).unwrap();
        let company_id = Uuid::from_u128(1);
        Recorded { position: version, id: ID, version, company_id, occurred_at: at, recorded_at: at, fact, personal: None }
    }

    fn issued() -> Recorded {
        recorded(Fact::ApiKey(ApiKeyEvent::ApiKeyIssued { name: "bot".to_owned(), role: Role::Agent }), 1)
    }

    fn revoked() -> Recorded {
        recorded(Fact::ApiKey(ApiKeyEvent::ApiKeyRevoked {}), 2)
    }

    #[test]
    fn a_deleted_document_keeps_its_last_data() {
        let row = fold::<ApiKey>(Vec::new(), &[&issued(), &revoked()]).unwrap().remove(0);
        assert_eq!((row.stream_version, row.deleted_at), (2, Some(revoked().recorded_at)));
        assert_eq!((row.created_at, row.updated_at), (issued().recorded_at, revoked().recorded_at));
        let key = Document::<ApiKey>::new(row).into_data().unwrap();
        assert_eq!(key, IssuedKey { name: "bot".to_owned(), role: Role::Agent });
    }

    #[test]
    fn pages_of_any_size_give_the_same_row() {
        let at_once = fold::<ApiKey>(Vec::new(), &[&issued(), &revoked()]).unwrap();
        let first = fold::<ApiKey>(Vec::new(), &[&issued()]).unwrap();
        assert_eq!((first[0].deleted_at, first[0].stream_version), (None, 1));
        let paged = fold::<ApiKey>(first, &[&revoked()]).unwrap();
        assert_eq!((&paged[0].body, paged[0].deleted_at), (&at_once[0].body, at_once[0].deleted_at));
    }

    #[test]
    fn an_event_before_the_first_one_is_a_contradiction() {
        let disabled = recorded(Fact::User(UserEvent::UserDisabled {}), 1);
        let error = fold::<User>(Vec::new(), &[&disabled]).err().unwrap();
        assert_eq!(error.to_string(), format!("user-{ID} was never created"));
    }

    #[test]
    fn personal_values_replace_their_placeholders() {
        let registered = UserEvent::UserRegistered { email: domain::ERASED.to_owned().into(), role: Role::Admin };
        let row = fold::<User>(Vec::new(), &[&recorded(Fact::User(registered), 1)]).unwrap().remove(0);
        let mut user = Document::<User>::new(row);
        user.reveal([("/email".to_owned(), Value::from("ada@example.com"))].into_iter().collect());
        assert_eq!(user.into_data().unwrap().email.reveal(), "ada@example.com");
    }
}
