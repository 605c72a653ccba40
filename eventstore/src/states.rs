//! A cache of folded states, so that a command does not have to read its stream: the most recently used states, as far as they fit.

use std::{
    any::Any,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::Decider;
use lru::LruCache;
use uuid::Uuid;

use crate::{event::StreamName, loaded::Loaded};

/// Most states in the cache, and most bytes of all of them together, as their deciders estimate them.
const STATES_MAX: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();
const STATES_MAX_BYTES: usize = 64 << 20;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct StateCache(Arc<Mutex<States>>);

struct States {
    by_stream: LruCache<StreamName, Kept>,
    bytes: usize,
}

struct Kept {
    state: Arc<dyn Any + Send + Sync>,
    company_id: Uuid,
    epoch: u64,
    bytes: usize,
}

impl StateCache {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(States { by_stream: LruCache::new(STATES_MAX), bytes: 0 })))
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get<D: Decider>(&self, id: Uuid) -> Option<Loaded<D>> {
        let state = self.states().by_stream.get(&StreamName::of::<D>(id)).map(|kept| Arc::clone(&kept.state));
        state?.downcast_ref::<Loaded<D>>().cloned()
    }

    /// Caches a state, unless this state or a newer one of the stream is cached.
    pub fn put<D: Decider>(&self, id: Uuid, loaded: &Loaded<D>) {
        let stream = StreamName::of::<D>(id);
        let mut states = self.states();
        let known = states.by_stream.peek(&stream).and_then(|kept| kept.state.downcast_ref::<Loaded<D>>());
        if known.is_some_and(|known| (known.epoch, known.version) >= (loaded.epoch, loaded.version)) {
            return;
        }
        states.remove(&stream);
        let (company_id, epoch, bytes) = (loaded.company_id, loaded.epoch, D::size_of(&loaded.state));
        let kept = Kept { state: Arc::new(loaded.clone()), company_id, epoch, bytes };
        states.bytes += kept.bytes;
        if let Some((_, dropped)) = states.by_stream.push(stream, kept) {
            states.bytes -= dropped.bytes;
        }
        while states.bytes > STATES_MAX_BYTES
            && let Some((_, dropped)) = states.by_stream.pop_lru()
        {
            states.bytes -= dropped.bytes;
        }
    }

    pub fn forget(&self, stream: &StreamName) {
        self.states().remove(stream);
    }

    /// Removes the states that are not of their company's epoch.
    pub fn drop_outdated(&self, epoch: impl Fn(Uuid) -> u64) {
        let mut states = self.states();
        let all = states.by_stream.iter();
        let outdated: Vec<_> = all.filter(|(_, kept)| kept.epoch != epoch(kept.company_id)).map(|(stream, _)| stream.clone()).collect();
        outdated.iter().for_each(|stream| states.remove(stream));
    }
}

impl States {
    fn remove(&mut self, stream: &StreamName) {
        if let Some(dropped) = self.by_stream.pop(stream) {
            self.bytes -= dropped.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::{
        Lifecycle,
        call::{Call, CallCommand, CallSubject, Direction, Turn},
    };

    use super::*;

    /// A call with so many turns.
    fn call(turns: u32, version: i64) -> Loaded<Call> {
        let subject = CallSubject {
            campaign_id: None,
            task_id: None,
            skillbase_id: None,
            skillbase_version: None,
            direction: Direction::Inbound,
            person_id: None,
            phone_number: String::new().into(),
        };
        let now = DateTime::UNIX_EPOCH;
        let mut state = Lifecycle::None;
        let turns = (0..turns).map(|turn_index| Turn { turn_index, ..Turn::default() }).collect();
        for command in [CallCommand::Start { subject: Box::new(subject), started_at: None, now }, CallCommand::RecordTurns { turns, now }] {
            Call::decide(&state, command).unwrap().iter().for_each(|event| Call::evolve(&mut state, event));
        }
        let (state, company_id) = (Arc::new(state), Uuid::nil());
        Loaded { state, version, position: 0, created_at: now, updated_at: now, company_id, epoch: 0, cached: false }
    }

    #[test]
    fn long_states_are_kept_as_far_as_they_fit() {
        let cache = StateCache::new();
        let long = call(50_000, 1);
        let fit = STATES_MAX_BYTES / Call::size_of(&long.state);
        assert!((10..100).contains(&fit), "{fit}");
        (0..200).for_each(|id| cache.put(Uuid::from_u128(id), &long));
        let kept = (0..200).filter(|id| cache.get::<Call>(Uuid::from_u128(*id)).is_some()).count();
        assert_eq!(kept, fit);
        assert!(cache.states().bytes <= STATES_MAX_BYTES);
        (0..200).for_each(|id| cache.forget(&StreamName::of::<Call>(Uuid::from_u128(id))));
        assert_eq!(cache.states().bytes, 0);
    }

    #[test]
    fn a_state_from_before_an_erasure_gives_way() {
        let (cache, id) = (StateCache::new(), Uuid::nil());
        cache.put(id, &call(0, 7));
        cache.put(id, &Loaded { epoch: 1, ..call(0, 7) });
        cache.put(id, &call(0, 8));
        assert_eq!((cache.get::<Call>(id).unwrap().epoch, cache.states().by_stream.len()), (1, 1));
    }

    #[test]
    fn outdated_states_of_a_company_are_removed_and_others_stay() {
        let (cache, [eraser, other]) = (StateCache::new(), [1, 2].map(Uuid::from_u128));
        for (id, company_id) in [eraser, other].into_iter().enumerate() {
            cache.put(Uuid::from_u128(id as u128), &Loaded { company_id, ..call(0, 7) });
        }
        cache.drop_outdated(|company_id| u64::from(company_id == eraser));
        assert!(cache.get::<Call>(Uuid::from_u128(0)).is_none() && cache.get::<Call>(Uuid::from_u128(1)).is_some());
        assert_eq!(cache.states().bytes, Call::size_of(&call(0, 7).state));
    }

    #[test]
    fn a_newer_state_stays() {
        let (cache, id) = (StateCache::new(), Uuid::nil());
        cache.put(id, &call(0, 2));
        cache.put(id, &call(0, 1));
        assert_eq!(cache.get::<Call>(id).unwrap().version, 2);
        cache.put(id, &call(1, 3));
        assert_eq!((cache.get::<Call>(id).unwrap().version, cache.states().by_stream.len()), (3, 1));
    }
}
