//! An API key, with which a client calls the API in the company's name. The log does not store the key itself: only its hash is stored,
//! outside the log.

use serde::{Deserialize, Serialize};

use crate::{Coded, Decider, DomainEvent, Lifecycle, Refusal, RefusalKind, decider::STATE_BYTES, role::Role};

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum ApiKeyEvent {
    ApiKeyIssued { name: String, role: Role },
    ApiKeyRevoked {},
}

impl DomainEvent for ApiKeyEvent {}

/// A key that is valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssuedKey {
    pub name: String,
    pub role: Role,
}

#[derive(Clone, Debug)]
pub enum ApiKeyCommand {
    Issue { name: String, role: Role },
    Revoke,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyRefusal {
    #[error("this API key is issued already")]
    IssuedAlready,
    #[error("there is no such API key")]
    Unknown,
}

impl Coded for ApiKeyRefusal {
    const AREA: &'static str = "api_key";
}

impl Refusal for ApiKeyRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound("API key"),
            Self::IssuedAlready => RefusalKind::Conflict,
        }
    }
}

pub struct ApiKey;

impl Decider for ApiKey {
    const CATEGORY: &'static str = "api_key";
    type State = Lifecycle<IssuedKey>;
    type Event = ApiKeyEvent;
    type Command = ApiKeyCommand;
    type Refusal = ApiKeyRefusal;

    fn evolve(state: &mut Lifecycle<IssuedKey>, event: &ApiKeyEvent) {
        *state = match event {
            ApiKeyEvent::ApiKeyIssued { name, role } => Lifecycle::new(IssuedKey { name: name.clone(), role: *role }),
            ApiKeyEvent::ApiKeyRevoked {} => Lifecycle::Deleted,
        };
    }

    fn size_of(_state: &Lifecycle<IssuedKey>) -> usize {
        STATE_BYTES
    }

    fn decide(state: &Lifecycle<IssuedKey>, command: ApiKeyCommand) -> Result<Vec<ApiKeyEvent>, ApiKeyRefusal> {
        match (state, command) {
            (Lifecycle::None, ApiKeyCommand::Issue { name, role }) => Ok(vec![ApiKeyEvent::ApiKeyIssued { name, role }]),
            (Lifecycle::None, ApiKeyCommand::Revoke) => Err(ApiKeyRefusal::Unknown),
            (Lifecycle::Present(key), ApiKeyCommand::Issue { name, role }) if **key == (IssuedKey { name: name.clone(), role }) => {
                Ok(vec![])
            }
            (_, ApiKeyCommand::Issue { .. }) => Err(ApiKeyRefusal::IssuedAlready),
            (Lifecycle::Present(_), ApiKeyCommand::Revoke) => Ok(vec![ApiKeyEvent::ApiKeyRevoked {}]),
            (Lifecycle::Deleted, ApiKeyCommand::Revoke) => Ok(vec![]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    #[test]
    fn a_key_is_issued_and_revoked_once() {
        let issued = || ApiKeyEvent::ApiKeyIssued { name: "bot".into(), role: Role::Agent };
        let issue = || ApiKeyCommand::Issue { name: "bot".into(), role: Role::Agent };
        given::<ApiKey>([]).when(issue()).then([issued()]);
        given::<ApiKey>([issued()]).when(issue()).then_nothing();
        given::<ApiKey>([issued()]).when(ApiKeyCommand::Revoke).then([ApiKeyEvent::ApiKeyRevoked {}]);
        given::<ApiKey>([issued(), ApiKeyEvent::ApiKeyRevoked {}]).when(ApiKeyCommand::Revoke).then_nothing();
        given::<ApiKey>([issued(), ApiKeyEvent::ApiKeyRevoked {}]).when(issue()).then_refused(ApiKeyRefusal::IssuedAlready);
        given::<ApiKey>([]).when(ApiKeyCommand::Revoke).then_refused(ApiKeyRefusal::Unknown);
    }
}
