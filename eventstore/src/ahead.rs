//! States ahead of the log: the states that streams will have once the pending appends are in the log.
//!
//! The next command on the stream is decided on such a state and written together with the pending appends. It depends on them: if one of
//! them loses, every command that was decided on it loses, too.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::Decider;
use uuid::Uuid;

use crate::{
    append::{Appended, Outcome},
    error::StoreError,
    event::StreamName,
    loaded::Loaded,
    store::EventStore,
};

/// States after pending appends, by stream.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<StatesAhead>);

pub(crate) type StatesAhead = HashMap<StreamName, StateAhead>;

/// A state that includes the events of a pending append.
pub(crate) struct StateAhead {
    state: Arc<dyn Any + Send + Sync>,
    outcome: Outcome,
}

impl Ahead {
    pub fn states(&self) -> MutexGuard<'_, StatesAhead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get<D: Decider>(&self, id: Uuid) -> Option<(Loaded<D>, Outcome)> {
        let states = self.states();
        let ahead = states.get(&StreamName::of::<D>(id))?;
        Some((ahead.state.downcast_ref::<Loaded<D>>()?.clone(), ahead.outcome.clone()))
    }

    /// Removes the state that an append would lead to.
    fn forget(&self, stream: &StreamName, outcome: &Outcome) {
        let mut states = self.states();
        if states.get(stream).is_some_and(|known| known.outcome.is(outcome)) {
            states.remove(stream);
        }
    }
}

impl EventStore {
    /// The state that a command is decided on: the state after the pending appends, so that commands on one stream can be appended
    /// together; and the append that this state depends on. If that append fails, every command that was decided on it fails, too.
    pub(crate) async fn load_ahead<D: Decider>(&self, company_id: Uuid, id: Uuid) -> Result<(Loaded<D>, Option<Outcome>), StoreError> {
        match self.ahead.get::<D>(id).filter(|(ahead, _)| ahead.company_id == company_id) {
            Some((ahead, outcome)) => Ok((Loaded { cached: true, ..ahead }, Some(outcome))),
            None => Ok((self.load(company_id, id).await?, None)),
        }
    }
}

/// A state to cache for a stream: ahead of the log, and once the append has its position and time.
pub(crate) trait Remember: Send {
    fn ahead(&self, states: &mut StatesAhead, outcome: &Outcome);
    fn committed(self: Box<Self>, store: &EventStore, appended: Appended);
}

/// A decision on a stream, and the state after it.
pub(crate) struct Decided<D: Decider> {
    pub id: Uuid,
    pub after: Loaded<D>,
    pub is_new: bool,
    pub depends_on: Option<Outcome>,
}

impl<D: Decider> Remember for Decided<D> {
    fn ahead(&self, states: &mut StatesAhead, outcome: &Outcome) {
        let name = StreamName::of::<D>(self.id);
        // Of two decisions on the same state one will lose: the state that is there stays, unless this decision depends on it. And the time
        // at which a new stream is created is not known yet.
        let follows = match (states.get(&name), &self.depends_on) {
            (None, _) => true,
            (Some(known), Some(depends_on)) => known.outcome.is(depends_on),
            (Some(_), None) => false,
        };
        if follows && !self.is_new {
            states.insert(name, StateAhead { state: Arc::new(self.after.clone()), outcome: outcome.clone() });
        }
    }

    fn committed(self: Box<Self>, store: &EventStore, Appended { position, recorded_at, .. }: Appended) {
        let created_at = if self.is_new { recorded_at } else { self.after.created_at };
        store.remember(self.id, &Loaded { position, created_at, updated_at: recorded_at, ..self.after });
    }
}

/// When an append is over, with whatever result, removes the state that it would lead to; unless the append is known to have succeeded,
/// also removes everything that is cached of its streams.
pub(crate) struct InFlight<'a> {
    pub store: &'a EventStore,
    pub streams: Vec<StreamName>,
    pub outcome: Outcome,
    pub succeeded: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        for stream in &self.streams {
            self.store.ahead.forget(stream, &self.outcome);
            if !self.succeeded {
                self.store.forget(stream);
            }
        }
    }
}
