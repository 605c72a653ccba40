//! What every aggregate defines: facts, a state folded from them, and the function that decides which facts follow from a command.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::Refusal;

/// The facts of one aggregate: an enum whose variants are the stored event types.
pub trait DomainEvent: Serialize + DeserializeOwned + strum::VariantNames + Clone + Debug + Send + Sync + 'static {
    /// Conversions from old stored shapes to the current one; empty while every type is at schema version 1.
    const UPCASTERS: &'static [Upcaster] = &[];

    /// JSON pointers (RFC 6901) to the personal data in the payload of an event type: every field of type [`Personal`](crate::Personal).
    /// These fields are encrypted in the log; every reader of the log can read the other fields.
    fn personal_fields(_event_type: &str) -> &'static [&'static str] {
        &[]
    }

    /// JSON pointers to the fields that the personal data of an event type is bound to: values that distinguish the event from others of
    /// its stream. They stay unencrypted, and the personal data can be decrypted only together with the same values. Neither an upcaster
    /// nor a later release may move or change them.
    fn bound_fields(_event_type: &str) -> &'static [&'static str] {
        &[]
    }

    /// When the fact happened at its source, if the source gave the time; otherwise the time of the command is used.
    fn occurred_at(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// The schema version that is written today for `event_type`: one more than its newest upcaster's.
    fn schema_version(event_type: &str) -> i16 {
        Self::UPCASTERS.iter().filter(|u| u.event_type == event_type).map(|u| u.from + 1).max().unwrap_or(1)
    }
}

/// One pure conversion from schema version `from` of `event_type` to the next; it is applied on read, stored events stay unchanged.
pub struct Upcaster {
    pub event_type: &'static str,
    pub from: i16,
    pub upcast: fn(Value) -> Value,
}

/// Memory for the parts of a state that callers cannot make long, in bytes.
pub const STATE_BYTES: usize = 2_000;

/// An aggregate: `decide` returns the facts that follow a command, `evolve` changes the state by a fact.
pub trait Decider: 'static {
    /// The first part of the stream's name, `<category>-<uuid>`.
    const CATEGORY: &'static str;
    type State: Default + Clone + Send + Sync + 'static;
    type Event: DomainEvent;
    type Command: Clone;
    type Refusal: Refusal;

    fn evolve(state: &mut Self::State, event: &Self::Event);

    /// The person whose personal data the stream's events hold, once `state` has this person: erasing the person erases that data. As long
    /// as `state` has no person, the personal data belongs to the stream's own id.
    fn person(id: Uuid, _state: &Self::State) -> Uuid {
        id
    }

    /// The approximate size of a state in memory, in bytes: [`STATE_BYTES`], plus the parts that callers can make long.
    fn size_of(state: &Self::State) -> usize;

    /// A command whose effect is already present yields no events.
    fn decide(state: &Self::State, command: Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after `events`, starting from the empty state.
    fn fold<'a>(events: impl IntoIterator<Item = &'a Self::Event>) -> Self::State {
        let mut state = Self::State::default();
        for event in events {
            Self::evolve(&mut state, event);
        }
        state
    }
}
