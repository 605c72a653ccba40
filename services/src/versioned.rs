use chrono::{DateTime, Utc};
use domain::Decider;
use eventstore::{Committed, Loaded};
use projections::{Document, Stored, page::After};
use uuid::Uuid;

use crate::ServiceError;

/// The state of a stream after a command or as of a given time, with its position in the log.
#[derive(Clone, Debug)]
pub struct Versioned<T> {
    pub id: Uuid,
    pub value: T,
    /// Version of the stream.
    pub version: i64,
    /// Position of the command's last event, or of the stream's last event if the command had none.
    pub position: i64,
    /// Id of the first event that the command appended.
    pub event_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl<T> Versioned<T> {
    /// From a loaded stream, for a command that ended at `position`.
    pub(crate) fn of_loaded<D: Decider>(id: Uuid, loaded: &Loaded<D>, position: i64, value: T) -> Self {
        Self { id, value, version: loaded.version, position, event_id: None, created_at: loaded.created_at, updated_at: loaded.updated_at }
    }

    /// From a row of a read model that is at `position`.
    pub fn of_document<D: Stored<Data = T>>(document: Document<D>, position: i64) -> Result<Self, ServiceError> {
        let (id, version) = (document.id(), document.version());
        let (created_at, updated_at) = (document.created_at(), document.updated_at());
        Ok(Self { id, value: document.into_data()?, version, position, event_id: None, created_at, updated_at })
    }

    /// The place in a list that is ordered by the time of creation.
    pub fn after(&self) -> After {
        After { at: self.created_at, id: self.id }
    }

    /// The same with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Versioned<U> {
        let Self { id, value, version, position, event_id, created_at, updated_at } = self;
        Versioned { id, value: f(value), version, position, event_id, created_at, updated_at }
    }

    /// From a committed command; `loaded` has the timestamps.
    pub(crate) fn of_committed<D: Decider>(id: Uuid, committed: &Committed<D>, loaded: &Loaded<D>, value: T) -> Self {
        Self {
            id,
            value,
            version: committed.version,
            position: committed.position,
            event_id: committed.event_id,
            created_at: loaded.created_at,
            updated_at: loaded.updated_at,
        }
    }
}
