//! What a projection is.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{Fact, fact::UnreadableEvent};
use eventstore::{StoredEvent, persons::Envelope};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

/// An event as projections see it: decoded.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub position: i64,
    /// Of the stream.
    pub id: Uuid,
    /// In the stream.
    pub version: i64,
    pub company_id: Uuid,
    pub occurred_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    /// Without its personal data: placeholders stand for it.
    pub fact: Fact,
    /// The personal data, encrypted. Projections pass it on as it is, so that none of them ever holds any, and an erased person's rows
    /// are the same as before: nobody can read them any more.
    pub personal: Option<Envelope>,
}

impl Recorded {
    /// Decodes a stored event.
    pub fn decode(stored: &StoredEvent) -> Result<Self, UnreadableEvent> {
        let fact = Fact::decode(stored.stream.category(), &stored.event_type, stored.schema_version, &stored.payload)?;
        Ok(Self {
            position: stored.position,
            id: stored.stream.id(),
            version: stored.version,
            company_id: stored.company_id,
            occurred_at: stored.occurred_at,
            recorded_at: stored.recorded_at,
            fact,
            personal: stored.envelope(),
        })
    }

    /// The envelope as read models keep it.
    pub(crate) fn personal_json(&self) -> Option<Value> {
        self.personal.as_ref().map(|envelope| json!(envelope))
    }
}

/// A table of a read model. Every one has a `company_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    /// The column that says which period a row belongs to.
    pub period: Option<&'static str>,
    pub personal: &'static [PersonalColumns],
}

/// Columns that hold placeholders instead of personal values, and the column with the envelope of those values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersonalColumns {
    pub envelope: &'static str,
    pub placeholders: &'static [&'static str],
}

impl Table {
    /// A table whose rows belong to no period.
    pub const fn new(name: &'static str) -> Self {
        Self { name, period: None, personal: &[] }
    }

    pub const fn by(name: &'static str, period: &'static str) -> Self {
        Self { name, period: Some(period), personal: &[] }
    }

    /// The same table with columns whose values are encrypted.
    pub const fn with_personal(self, personal: &'static [PersonalColumns]) -> Self {
        Self { personal, ..self }
    }
}

/// Why a page could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// The event contradicts what the projection holds.
    #[error("{0}")]
    Contradiction(String),
}

/// A number of an event as the type of its column.
pub(crate) fn fit<T: Copy + std::fmt::Display, U: TryFrom<T>>(number: T) -> Result<U, ApplyError> {
    U::try_from(number).map_err(|_| ApplyError::Contradiction(format!("{number} is too large for its column")))
}

/// A read model: which facts it wants and what they do to its tables.
///
/// `apply` runs in a transaction that also moves the checkpoint, so that each event counts exactly once. It must depend on
/// nothing but the events and the projection's own tables (and, for history, the log): rebuilt and live must be equal.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// Rises whenever the fold or the tables change: the projection is then rebuilt.
    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [Table];

    /// Event categories it folds; others it never sees.
    fn categories(&self) -> &'static [&'static str];

    /// Folds a page of events, in log order.
    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError>;
}
