//! A user of a company. Passwords are no facts: their hashes are kept apart from the log.

use serde::{Deserialize, Serialize};

use crate::{Decider, DomainEvent, Personal, role::Role};

/// These names are storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum UserEvent {
    UserRegistered { email: Personal<String>, role: Role },
}

impl DomainEvent for UserEvent {}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserState {
    pub registered: Option<(Personal<String>, Role)>,
}

#[derive(Clone, Debug)]
pub enum UserCommand {
    Register { email: Personal<String>, role: Role },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this user is registered already")]
pub struct UserRegisteredAlready;

pub struct User;

impl Decider for User {
    const CATEGORY: &'static str = "user";
    type State = UserState;
    type Event = UserEvent;
    type Command = UserCommand;
    type Refusal = UserRegisteredAlready;

    fn evolve(state: &mut UserState, event: &UserEvent) {
        let UserEvent::UserRegistered { email, role } = event;
        state.registered = Some((email.clone(), *role));
    }

    fn decide(state: &UserState, command: UserCommand) -> Result<Vec<UserEvent>, UserRegisteredAlready> {
        let UserCommand::Register { email, role } = command;
        match &state.registered {
            None => Ok(vec![UserEvent::UserRegistered { email, role }]),
            Some(same) if *same == (email, role) => Ok(vec![]),
            Some(_) => Err(UserRegisteredAlready),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    #[test]
    fn a_user_is_registered_once() {
        let registered = |role| UserEvent::UserRegistered { email: "a@example.com".to_owned().into(), role };
        let register = |role| UserCommand::Register { email: "a@example.com".to_owned().into(), role };
        given::<User>([]).when(register(Role::Admin)).then([registered(Role::Admin)]);
        given::<User>([registered(Role::Admin)]).when(register(Role::Admin)).then_nothing();
        given::<User>([registered(Role::Admin)]).when(register(Role::Viewer)).then_refused(UserRegisteredAlready);
    }
}
