//! What every aggregate gives: facts, a state folded from them, and the decision which facts follow a command.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

/// The facts of one aggregate: an enum whose variants are the stored event types.
pub trait DomainEvent: Serialize + DeserializeOwned + strum::VariantNames + Clone + Debug + Send + Sync + 'static {
    /// Steps from old stored shapes to the current one; empty while every type is at schema version 1.
    const UPCASTERS: &'static [Upcaster] = &[];

    /// Where the payload of an event type holds personal data, as JSON pointers (RFC 6901): every field of type
    /// [`Personal`](crate::Personal). These are encrypted in the log, the rest can be read by everybody who may read the log.
    fn personal_fields(_event_type: &str) -> &'static [&'static str] {
        &[]
    }

    /// Where the payload of an event type holds what its personal data stands beside, as JSON pointers: values that tell the event from
    /// others of its stream. They stay in clear, and the personal data can be read beside the same values only. Neither an upcaster nor a
    /// later release may move or change them.
    fn bound_fields(_event_type: &str) -> &'static [&'static str] {
        &[]
    }

    /// When the fact happened at its source, where the source said so; otherwise the time of the command counts.
    fn occurred_at(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// The schema version that is written today for `event_type`: one more than its newest upcaster's.
    fn schema_version(event_type: &str) -> i16 {
        Self::UPCASTERS.iter().filter(|u| u.event_type == event_type).map(|u| u.from + 1).max().unwrap_or(1)
    }
}

/// One pure step from schema version `from` of `event_type` to the next; applied on read, stored events stay as they are.
pub struct Upcaster {
    pub event_type: &'static str,
    pub from: i16,
    pub upcast: fn(Value) -> Value,
}

/// What the parts of a state that callers cannot make long take, in bytes.
pub const STATE_BYTES: usize = 2_000;

/// An aggregate: `decide` says which facts follow a command, `evolve` what a fact changes.
pub trait Decider: 'static {
    /// The first part of the stream's name, `<category>-<uuid>`.
    const CATEGORY: &'static str;
    type State: Default + Clone + Send + Sync + 'static;
    type Event: DomainEvent;
    type Command: Clone;
    type Refusal: std::error::Error + Send + Sync + 'static;

    fn evolve(state: &mut Self::State, event: &Self::Event);

    /// Whose personal data the stream's events hold, once it is in `state`: the person whose erasure takes it away. Unless
    /// somebody is known, what the stream holds is its own.
    fn person(id: Uuid, _state: &Self::State) -> Uuid {
        id
    }

    /// About how many bytes a state takes in memory: [`STATE_BYTES`], and what callers can make long.
    fn size_of(state: &Self::State) -> usize;

    /// A command whose effect is already there yields no events.
    fn decide(state: &Self::State, command: Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after `events`, from nothing.
    fn fold<'a>(events: impl IntoIterator<Item = &'a Self::Event>) -> Self::State {
        let mut state = Self::State::default();
        for event in events {
            Self::evolve(&mut state, event);
        }
        state
    }
}
