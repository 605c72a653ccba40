//! A name that only one holder may have: a company's slug, a skillbase's slug within its company, a user's e-mail address.
//!
//! The stream's id is derived from the name, so that the log itself prevents two holders: a command appends to the name's stream and to the
//! holder's stream in one step.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Coded, Decider, DomainEvent, Refusal, RefusalKind, decider::STATE_BYTES};

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum NameEvent {
    NameReserved { holder_id: Uuid },
    NameReleased { holder_id: Uuid },
}

impl DomainEvent for NameEvent {}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameState {
    pub holder_id: Option<Uuid>,
}

#[derive(Clone, Debug)]
pub enum NameCommand {
    Reserve { holder_id: Uuid },
    Release { holder_id: Uuid },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NameRefusal {
    #[error("this name is taken")]
    Taken,
}

impl Coded for NameRefusal {
    const AREA: &'static str = "name";
}

impl Refusal for NameRefusal {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Conflict
    }
}

pub struct ReservedName;

impl ReservedName {
    /// Id of the stream for `name` of the given `kind` within `scope` (a company, or nil for the whole platform).
    pub fn id(scope: Uuid, kind: &str, name: &str) -> Uuid {
        Uuid::new_v5(&scope, format!("{kind}/{name}").as_bytes())
    }
}

impl Decider for ReservedName {
    const CATEGORY: &'static str = "reserved_name";
    type State = NameState;
    type Event = NameEvent;
    type Command = NameCommand;
    type Refusal = NameRefusal;

    fn evolve(state: &mut NameState, event: &NameEvent) {
        match event {
            NameEvent::NameReserved { holder_id } => state.holder_id = Some(*holder_id),
            NameEvent::NameReleased { .. } => state.holder_id = None,
        }
    }

    fn size_of(_state: &NameState) -> usize {
        STATE_BYTES
    }

    fn decide(state: &NameState, command: NameCommand) -> Result<Vec<NameEvent>, NameRefusal> {
        match (state.holder_id, command) {
            (None, NameCommand::Reserve { holder_id }) => Ok(vec![NameEvent::NameReserved { holder_id }]),
            (Some(holder), NameCommand::Reserve { holder_id }) if holder != holder_id => Err(NameRefusal::Taken),
            (Some(holder), NameCommand::Release { holder_id }) if holder == holder_id => Ok(vec![NameEvent::NameReleased { holder_id }]),
            _ => Ok(vec![]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    #[test]
    fn a_name_has_one_holder_at_a_time() {
        let reserved = || NameEvent::NameReserved { holder_id: A };
        let released = || NameEvent::NameReleased { holder_id: A };
        given::<ReservedName>([]).when(NameCommand::Reserve { holder_id: A }).then([reserved()]);
        given::<ReservedName>([reserved()]).when(NameCommand::Reserve { holder_id: A }).then_nothing();
        given::<ReservedName>([reserved()]).when(NameCommand::Reserve { holder_id: B }).then_refused(NameRefusal::Taken);
        given::<ReservedName>([reserved()]).when(NameCommand::Release { holder_id: B }).then_nothing();
        given::<ReservedName>([reserved()]).when(NameCommand::Release { holder_id: A }).then([released()]);
        given::<ReservedName>([reserved(), released()])
            .when(NameCommand::Reserve { holder_id: B })
            .then([NameEvent::NameReserved { holder_id: B }]);
    }
}
