//! Tests that read as the rule: `given::<Task>([..]).when(..).then([..])`.

use std::fmt::Debug;

use crate::Decider;

/// The events before the command.
pub fn given<D: Decider>(events: impl IntoIterator<Item = D::Event>) -> Given<D> {
    Given { events: events.into_iter().collect() }
}

pub struct Given<D: Decider> {
    events: Vec<D::Event>,
}

impl<D: Decider> Given<D> {
    /// Decides `command` on the state folded from the given events, and again on the state after its own events.
    #[track_caller]
    pub fn when(self, command: D::Command) -> Decided<D> {
        let mut state = D::fold(&self.events);
        let result = D::decide(&state, command.clone());
        if let Ok(events) = &result {
            for event in events {
                D::evolve(&mut state, event);
            }
            let again = D::decide(&state, command);
            assert!(!matches!(&again, Ok(events) if !events.is_empty()), "the repeated command yielded events again: {:?}", again.ok());
        }
        Decided { result }
    }
}

pub struct Decided<D: Decider> {
    pub result: Result<Vec<D::Event>, D::Refusal>,
}

impl<D: Decider> Decided<D>
where
    D::Event: PartialEq,
    D::Refusal: PartialEq + Debug,
{
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) {
        assert_eq!(self.result, Ok(expected.into_iter().collect::<Vec<_>>()));
    }

    #[track_caller]
    pub fn then_nothing(self) {
        assert_eq!(self.result, Ok(Vec::new()));
    }

    #[track_caller]
    pub fn then_refused(self, refusal: D::Refusal) {
        assert_eq!(self.result, Err(refusal));
    }
}
