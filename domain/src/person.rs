//! A person who was called. What is known of them is encrypted with a key of their own; erasing them destroys it.

use serde::{Deserialize, Serialize};

use crate::{Decider, DomainEvent, decider::STATE_BYTES};

/// These names are storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum PersonEvent {
    /// From now on the person's key is gone, and with it all that was encrypted with it. Whose number it was nobody can tell.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonRefusal {}

pub struct Person;

/// Category of the streams that say that a person is erased.
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
