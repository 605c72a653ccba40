//! States ahead of the log: what a stream will be once the appends that are on their way have come into it.
//!
//! The next command on the stream is decided on it and written together with them. It rests on them: should one of them lose, so
//! does whatever was decided on it.

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
    execute::Loaded,
    store::EventStore,
};

/// States after appends that are on their way, by stream.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<StatesAhead>);

pub(crate) type StatesAhead = HashMap<StreamName, StateAhead>;

/// A state that counts the events of an append that is on its way.
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

    /// Forgets what an append would lead to.
    fn forget(&self, stream: &StreamName, outcome: &Outcome) {
        let mut states = self.states();
        if states.get(stream).is_some_and(|known| known.outcome.is(outcome)) {
            states.remove(stream);
        }
    }
}

impl EventStore {
    /// What a command decides on: the state after the appends that are on their way, so that commands on one stream can be
    /// appended together; and which append that rests on. If it fails, so does what was decided on it.
    pub(crate) async fn load_ahead<D: Decider>(&self, company_id: Uuid, id: Uuid) -> Result<(Loaded<D>, Option<Outcome>), StoreError> {
        match self.ahead.get::<D>(id).filter(|(ahead, _)| ahead.company_id == company_id) {
            Some((ahead, outcome)) => Ok((Loaded { cached: true, ..ahead }, Some(outcome))),
            None => Ok((self.load(company_id, id).await?, None)),
        }
    }
}

/// What is remembered of a stream: ahead of the log, and once the append has its position and time.
pub(crate) trait Remember: Send {
    fn ahead(&self, states: &mut StatesAhead, outcome: &Outcome);
    fn committed(self: Box<Self>, store: &EventStore, appended: Appended);
}

/// A decision on a stream, and the state after it.
pub(crate) struct Decided<D: Decider> {
    pub id: Uuid,
    pub after: Loaded<D>,
    pub is_new: bool,
    pub rests_on: Option<Outcome>,
}

impl<D: Decider> Remember for Decided<D> {
    fn ahead(&self, states: &mut StatesAhead, outcome: &Outcome) {
        let name = StreamName::of::<D>(self.id);
        // Of two that were decided on the same state one will lose: what is there stays, unless this one rests on it. And nobody can
        // say yet when a new stream was created.
        let follows = match (states.get(&name), &self.rests_on) {
            (None, _) => true,
            (Some(known), Some(rests_on)) => known.outcome.is(rests_on),
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

/// Forgets what an append would lead to when it is over, however that is; and unless it is known to have succeeded, all that is
/// remembered of its streams.
pub(crate) struct OnItsWay<'a> {
    pub store: &'a EventStore,
    pub streams: Vec<StreamName>,
    pub outcome: Outcome,
    pub succeeded: bool,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        for stream in &self.streams {
            self.store.ahead.forget(stream, &self.outcome);
            if !self.succeeded {
                self.store.forget(stream);
            }
        }
    }
}
