//! The definition of a projection.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{Fact, fact::UnreadableEvent};
use eventstore::{StoredEvent, persons::Envelope};
use sqlx::PgConnection;
use uuid::Uuid;

/// A decoded event, the form that projections get.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub position: i64,
    /// Id of the stream.
    pub id: Uuid,
    /// Version in the stream.
    pub version: i64,
    pub company_id: Uuid,
    pub occurred_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    /// Without its personal data, which placeholders replace.
    pub fact: Fact,
    /// The personal data, encrypted. Projections pass it on unchanged, so that a projection never holds personal data in clear. An erased
    /// person's rows stay the same as before: their data can no longer be read.
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
}

/// A read model, by the name of its projection. Each projection's file has its own as a constant: a query uses it to declare what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadModel(&'static str);

impl ReadModel {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self(name)
    }

    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// A table of a read model. Every one has a `company_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    /// The column with the time that assigns a row to a period.
    pub period: Option<&'static str>,
    pub personal: &'static [PersonalColumns],
}

/// Columns that hold placeholders instead of personal values, and the column with the envelope of those values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersonalColumns {
    pub envelope: &'static str,
    pub placeholders: &'static [&'static str],
    /// The category of the streams that the envelopes come from, and the column with the id of a row's stream.
    pub stream: (&'static str, &'static str),
    /// The fields that an envelope is bound to, and the columns with their values.
    pub bound: &'static [(&'static str, &'static str)],
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
    /// Events that have to be folded again are not in the log.
    #[error("events of {stream} are not in the log; was their partition detached?")]
    Detached { stream: String },
}

/// A number of an event as the type of its column.
pub(crate) fn fit<T: Copy + std::fmt::Display, U: TryFrom<T>>(number: T) -> Result<U, ApplyError> {
    U::try_from(number).map_err(|_| ApplyError::Contradiction(format!("{number} is too large for its column")))
}

/// A read model: which facts it folds and how they change its tables.
///
/// `apply` runs in a transaction that also moves the checkpoint, so that each event is applied exactly once. It must depend only on the
/// events and the projection's own tables (and, for history, the log): rebuilt and live tables must be equal.
#[async_trait]
pub trait Projection: Send + Sync + 'static {
    fn read_model(&self) -> ReadModel;

    fn name(&self) -> &'static str {
        self.read_model().name()
    }

    /// Increases whenever the fold or the tables change: the projection is then rebuilt.
    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [Table];

    /// Event categories that it folds; it never gets events of other categories.
    fn categories(&self) -> &'static [&'static str];

    /// Whether folding this event may take much longer than other events. The projection then folds the page in a transaction of its own,
    /// and other projections do not wait for it.
    fn may_take_long(&self, _event: &Recorded) -> bool {
        false
    }

    /// Folds a page of events, in log order.
    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError>;
}
