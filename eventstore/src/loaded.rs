//! A stream's folded state.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::Decider;
use uuid::Uuid;

use crate::{
    error::StoreError,
    event::{StoredEvent, StreamName},
};

/// A stream's folded state.
pub struct Loaded<D: Decider> {
    pub state: Arc<D::State>,
    /// Events folded; 0 when there are none.
    pub version: i64,
    /// Position of the last event folded, or of the last event of the command that appended it together with other streams' events.
    pub position: i64,
    /// Times of the first and the last event folded.
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub(crate) company_id: Uuid,
    /// Number of erasures that were known when the stream was folded: the state may hold data that has been erased since.
    pub(crate) epoch: u64,
    /// Taken from memory without reading the log: sufficient for a decision, because the append checks the version.
    pub(crate) cached: bool,
}

impl<D: Decider> Loaded<D> {
    /// Fails if a version is given and the stream does not have it.
    pub fn require(&self, if_version: Option<i64>) -> Result<(), StoreError> {
        require(if_version, self.version)
    }

    /// Folds the stream's next event.
    pub(crate) fn apply(&mut self, stream: &StreamName, stored: &StoredEvent) -> Result<(), StoreError> {
        if stored.version != self.version + 1 {
            let reason = format!("it is version {} of {stream}, and version {} is not in the log", stored.version, self.version + 1);
            return Err(StoreError::Unreadable { position: stored.position, reason });
        }
        let event = stored.decode::<D::Event>()?;
        D::evolve(Arc::make_mut(&mut self.state), &event);
        if self.version == 0 {
            self.created_at = stored.recorded_at;
        }
        (self.version, self.position, self.updated_at) = (stored.version, stored.position, stored.recorded_at);
        Ok(())
    }
}

/// A stream that does not exist has no version to compare: its decider reports that it is unknown.
pub(crate) fn require(expected: Option<i64>, actual: i64) -> Result<(), StoreError> {
    match expected {
        Some(expected) if actual > 0 && actual != expected => Err(StoreError::PreconditionFailed { expected, actual }),
        _ => Ok(()),
    }
}

impl<D: Decider> Clone for Loaded<D> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..*self }
    }
}
