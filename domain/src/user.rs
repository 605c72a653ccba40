//! A user of a company. The log stores no passwords: their hashes are stored outside the log.

use serde::{Deserialize, Serialize};

use crate::{Coded, Decider, DomainEvent, Lifecycle, Personal, Refusal, RefusalKind, decider::STATE_BYTES, role::Role};

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum UserEvent {
    /// Registered a company, or came with it.
    UserRegistered {
        email: Personal<String>,
        role: Role,
    },
    /// An admin invited the user to join.
    UserInvited {
        email: Personal<String>,
        role: Role,
    },
    /// The user accepted the invitation.
    UserJoined {},
    UserRoleChanged {
        role: Role,
    },
    UserDisabled {},
    UserEnabled {},
}

impl DomainEvent for UserEvent {
    fn personal_fields(event_type: &str) -> &'static [&'static str] {
        match event_type {
            "UserRegistered" | "UserInvited" => &["/email"],
            _ => &[],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum UserStatus {
    Invited,
    Active,
    Disabled,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownUser {
    pub email: Personal<String>,
    pub role: Role,
    pub status: UserStatus,
    joined: bool,
}

#[derive(Clone, Debug)]
pub enum UserCommand {
    Register {
        email: Personal<String>,
        role: Role,
    },
    Invite {
        email: Personal<String>,
        role: Role,
    },
    Join,
    /// A field that is `None` stays unchanged.
    Change {
        role: Option<Role>,
        disabled: Option<bool>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum UserRefusal {
    #[error("there is no such user")]
    Unknown,
    #[error("this user is registered already")]
    RegisteredAlready,
    #[error("this user is disabled")]
    Disabled,
}

impl Coded for UserRefusal {
    const AREA: &'static str = "user";
}

impl Refusal for UserRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound("user"),
            Self::RegisteredAlready | Self::Disabled => RefusalKind::Conflict,
        }
    }
}

pub struct User;

impl Decider for User {
    const CATEGORY: &'static str = "user";
    type State = Lifecycle<KnownUser>;
    type Event = UserEvent;
    type Command = UserCommand;
    type Refusal = UserRefusal;

    fn evolve(state: &mut Lifecycle<KnownUser>, event: &UserEvent) {
        match event {
            UserEvent::UserRegistered { email, role } => {
                *state = Lifecycle::new(KnownUser { email: email.clone(), role: *role, status: UserStatus::Active, joined: true });
            }
            UserEvent::UserInvited { email, role } => {
                *state = Lifecycle::new(KnownUser { email: email.clone(), role: *role, status: UserStatus::Invited, joined: false });
            }
            _ => {}
        }
        let Some(user) = state.present_mut() else { return };
        match event {
            UserEvent::UserRegistered { .. } | UserEvent::UserInvited { .. } => {}
            UserEvent::UserJoined {} => (user.status, user.joined) = (UserStatus::Active, true),
            UserEvent::UserRoleChanged { role } => user.role = *role,
            UserEvent::UserDisabled {} => user.status = UserStatus::Disabled,
            UserEvent::UserEnabled {} => user.status = if user.joined { UserStatus::Active } else { UserStatus::Invited },
        }
    }

    fn size_of(_state: &Lifecycle<KnownUser>) -> usize {
        STATE_BYTES
    }

    fn decide(state: &Lifecycle<KnownUser>, command: UserCommand) -> Result<Vec<UserEvent>, UserRefusal> {
        use UserCommand as C;
        match (state.present(), command) {
            (None, C::Register { email, role }) => Ok(vec![UserEvent::UserRegistered { email, role }]),
            (None, C::Invite { email, role }) => Ok(vec![UserEvent::UserInvited { email, role }]),
            (None, _) => Err(UserRefusal::Unknown),
            (Some(user), C::Register { email, role } | C::Invite { email, role }) if (&user.email, user.role) == (&email, role) => {
                Ok(vec![])
            }
            (Some(_), C::Register { .. } | C::Invite { .. }) => Err(UserRefusal::RegisteredAlready),
            (Some(user), C::Join) => match user.status {
                UserStatus::Invited => Ok(vec![UserEvent::UserJoined {}]),
                UserStatus::Active => Ok(vec![]),
                UserStatus::Disabled => Err(UserRefusal::Disabled),
            },
            (Some(user), C::Change { role, disabled }) => {
                let role = role.filter(|role| *role != user.role).map(|role| UserEvent::UserRoleChanged { role });
                let is_disabled = user.status == UserStatus::Disabled;
                let status = disabled
                    .filter(|disabled| *disabled != is_disabled)
                    .map(|disabled| if disabled { UserEvent::UserDisabled {} } else { UserEvent::UserEnabled {} });
                Ok(role.into_iter().chain(status).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    fn email() -> Personal<String> {
        "a@example.com".to_owned().into()
    }

    fn registered(role: Role) -> UserEvent {
        UserEvent::UserRegistered { email: email(), role }
    }

    fn invited() -> UserEvent {
        UserEvent::UserInvited { email: email(), role: Role::Agent }
    }

    #[test]
    fn a_user_is_registered_once() {
        let register = |role| UserCommand::Register { email: email(), role };
        given::<User>([]).when(register(Role::Admin)).then([registered(Role::Admin)]);
        given::<User>([registered(Role::Admin)]).when(register(Role::Admin)).then_nothing();
        given::<User>([registered(Role::Admin)]).when(register(Role::Viewer)).then_refused(UserRefusal::RegisteredAlready);
    }

    #[test]
    fn an_invitation_is_taken_up_once_and_not_by_who_was_disabled() {
        given::<User>([]).when(UserCommand::Invite { email: email(), role: Role::Agent }).then([invited()]);
        given::<User>([invited()]).when(UserCommand::Join).then([UserEvent::UserJoined {}]);
        given::<User>([invited(), UserEvent::UserDisabled {}]).when(UserCommand::Join).then_refused(UserRefusal::Disabled);
        given::<User>([]).when(UserCommand::Join).then_refused(UserRefusal::Unknown);
    }

    #[test]
    fn whoever_is_enabled_again_is_what_they_were() {
        let disable = |disabled| UserCommand::Change { role: None, disabled: Some(disabled) };
        given::<User>([registered(Role::Agent)]).when(disable(true)).then([UserEvent::UserDisabled {}]);
        given::<User>([registered(Role::Agent), UserEvent::UserDisabled {}]).when(disable(true)).then_nothing();
        given::<User>([registered(Role::Agent), UserEvent::UserDisabled {}]).when(disable(false)).then([UserEvent::UserEnabled {}]);
        let status = |events: &[UserEvent]| User::fold(events).present().unwrap().status;
        assert_eq!(status(&[registered(Role::Agent), UserEvent::UserDisabled {}, UserEvent::UserEnabled {}]), UserStatus::Active);
        assert_eq!(status(&[invited(), UserEvent::UserDisabled {}, UserEvent::UserEnabled {}]), UserStatus::Invited);
    }

    #[test]
    fn a_role_is_changed_once() {
        let change = || UserCommand::Change { role: Some(Role::Viewer), disabled: None };
        given::<User>([registered(Role::Agent)]).when(change()).then([UserEvent::UserRoleChanged { role: Role::Viewer }]);
        given::<User>([registered(Role::Viewer)]).when(change()).then_nothing();
    }
    #[test]
    fn role_and_status_change_in_one_command() {
        let change = || UserCommand::Change { role: Some(Role::Viewer), disabled: Some(true) };
        let changed = || [UserEvent::UserRoleChanged { role: Role::Viewer }, UserEvent::UserDisabled {}];
        given::<User>([registered(Role::Agent)]).when(change()).then(changed());
        given::<User>([registered(Role::Agent)].into_iter().chain(changed())).when(change()).then_nothing();
    }
}
