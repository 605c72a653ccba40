//! A person who was called. Data about a person is encrypted with the person's own key; erasing the person destroys the key.

use serde::{Deserialize, Serialize};

use crate::{Coded, Decider, DomainEvent, Refusal, RefusalKind, decider::STATE_BYTES};

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum PersonEvent {
    /// The person's key is destroyed, and all data that was encrypted with it is permanently unreadable. The phone number of the person can
    /// no longer be determined.
    PersonErased {},
}

impl DomainEvent for PersonEvent {}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonState {
    pub erased: bool,
}

#[derive(Clone, Debug)]
pub enum PersonCommand {
    Erase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum PersonRefusal {}

pub struct Person;

/// Category of the streams that record the erasure of a person.
pub const ERASURE_CATEGORY: &str = Person::CATEGORY;

impl Decider for Person {
    const CATEGORY: &'static str = "person";
    type State = PersonState;
    type Event = PersonEvent;
    type Command = PersonCommand;
    type Refusal = PersonRefusal;

    fn evolve(state: &mut PersonState, event: &PersonEvent) {
        let PersonEvent::PersonErased {} = event;
        state.erased = true;
    }

    fn size_of(_state: &PersonState) -> usize {
        STATE_BYTES
    }

    fn decide(state: &PersonState, command: PersonCommand) -> Result<Vec<PersonEvent>, PersonRefusal> {
        let PersonCommand::Erase = command;
        Ok(if state.erased { vec![] } else { vec![PersonEvent::PersonErased {}] })
    }
}

impl Coded for PersonRefusal {
    const AREA: &'static str = "person";
}

impl Refusal for PersonRefusal {
    fn kind(&self) -> RefusalKind {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    #[test]
    fn a_person_is_erased_once() {
        given::<Person>([]).when(PersonCommand::Erase).then([PersonEvent::PersonErased {}]);
        given::<Person>([PersonEvent::PersonErased {}]).when(PersonCommand::Erase).then_nothing();
    }
}
