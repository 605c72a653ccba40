//! A company, to which all other data belongs.

use serde::{Deserialize, Serialize};

use crate::{
    Coded, Decider, DomainEvent, Lifecycle, Refusal, RefusalKind,
    decider::STATE_BYTES,
    email::canonical_email,
    validation::{FieldFault, Invalid},
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompanyProfile {
    pub name: String,
    pub slug: String,
    pub email: Option<String>,
}

impl CompanyProfile {
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        invalid.name("name", &self.name, 200);
        invalid.slug("slug", &self.slug);
        if let Some(email) = &self.email {
            invalid.require(email.trim() == email && canonical_email(email).is_some(), "email", FieldFault::NotAnAddress);
        }
        invalid.into_result()
    }
}

/// These names are part of the storage format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum CompanyEvent {
    CompanyRegistered(CompanyProfile),
    CompanyUpdated(CompanyProfile),
}

impl DomainEvent for CompanyEvent {}

#[derive(Clone, Debug)]
pub enum CompanyCommand {
    Register(CompanyProfile),
    Update(CompanyProfile),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CompanyRefusal {
    #[error("this company is registered already, with another profile")]
    RegisteredAlready,
    #[error("there is no such company")]
    Unknown,
}

impl Coded for CompanyRefusal {
    const AREA: &'static str = "company";
}

impl Refusal for CompanyRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound("company"),
            Self::RegisteredAlready => RefusalKind::Conflict,
        }
    }
}

pub struct Company;

impl Decider for Company {
    const CATEGORY: &'static str = "company";
    type State = Lifecycle<CompanyProfile>;
    type Event = CompanyEvent;
    type Command = CompanyCommand;
    type Refusal = CompanyRefusal;

    fn evolve(state: &mut Lifecycle<CompanyProfile>, event: &CompanyEvent) {
        match event {
            CompanyEvent::CompanyRegistered(profile) | CompanyEvent::CompanyUpdated(profile) => {
                *state = Lifecycle::new(profile.clone());
            }
        }
    }

    fn size_of(_state: &Lifecycle<CompanyProfile>) -> usize {
        STATE_BYTES
    }

    fn decide(state: &Lifecycle<CompanyProfile>, command: CompanyCommand) -> Result<Vec<CompanyEvent>, CompanyRefusal> {
        match (state.present(), command) {
            (None, CompanyCommand::Register(profile)) => Ok(vec![CompanyEvent::CompanyRegistered(profile)]),
            (None, CompanyCommand::Update(_)) => Err(CompanyRefusal::Unknown),
            (Some(now), CompanyCommand::Register(profile) | CompanyCommand::Update(profile)) if *now == profile => Ok(vec![]),
            (Some(_), CompanyCommand::Register(_)) => Err(CompanyRefusal::RegisteredAlready),
            (Some(_), CompanyCommand::Update(profile)) => Ok(vec![CompanyEvent::CompanyUpdated(profile)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    fn profile(name: &str) -> CompanyProfile {
        CompanyProfile { name: name.into(), slug: "acme".into(), email: None }
    }

    #[test]
    fn a_company_is_registered_once_and_then_updated() {
        let registered = || CompanyEvent::CompanyRegistered(profile("Acme"));
        given::<Company>([]).when(CompanyCommand::Register(profile("Acme"))).then([registered()]);
        given::<Company>([registered()]).when(CompanyCommand::Register(profile("Acme"))).then_nothing();
        given::<Company>([registered()]).when(CompanyCommand::Register(profile("B"))).then_refused(CompanyRefusal::RegisteredAlready);
        given::<Company>([registered()]).when(CompanyCommand::Update(profile("B"))).then([CompanyEvent::CompanyUpdated(profile("B"))]);
        given::<Company>([]).when(CompanyCommand::Update(profile("B"))).then_refused(CompanyRefusal::Unknown);
    }
}
