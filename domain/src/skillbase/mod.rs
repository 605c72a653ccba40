//! A skillbase: a bot's configuration, with a version that increases whenever the configuration changes.

mod alias;
pub mod config;
pub mod prompt;
pub mod scenario;
pub mod tools;

use serde::{Deserialize, Serialize};

pub use config::{FlowType, SkillbaseConfig};

use crate::{Coded, Decider, DomainEvent, Lifecycle, Refusal, RefusalKind, decider::STATE_BYTES, validation::Invalid};

/// Longest description, in characters.
const DESCRIPTION_MAX_CHARS: usize = 2_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillbaseContent {
    pub name: String,
    pub slug: String,
    pub config: SkillbaseConfig,
    /// For the users of the company; the bot does not get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Campaigns start with an active skillbase only. Skillbases that were stored before this field existed are active.
    #[serde(default = "active", skip_serializing_if = "is_active")]
    pub is_active: bool,
    /// A note for the users of the company, without an effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_published: bool,
}

const fn active() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_active(is_active: &bool) -> bool {
    *is_active
}

impl SkillbaseContent {
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        invalid.name("name", &self.name, 200);
        invalid.slug("slug", &self.slug);
        if let Some(description) = &self.description {
            invalid.optional_text("description", description, DESCRIPTION_MAX_CHARS);
        }
        if let Err(Invalid(errors)) = self.config.validate() {
            invalid.0.extend(errors);
        }
        invalid.into_result()
    }
}

/// These names are part of the storage format. `version` is the configuration's version, from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::VariantNames)]
pub enum SkillbaseEvent {
    SkillbaseCreated { content: Box<SkillbaseContent>, version: u32 },
    SkillbaseUpdated { content: Box<SkillbaseContent>, version: u32 },
    SkillbaseDeleted {},
}

impl DomainEvent for SkillbaseEvent {}

/// The newest version of a skillbase.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSkillbase {
    pub content: SkillbaseContent,
    pub version: u32,
}

#[derive(Clone, Debug)]
pub enum SkillbaseCommand {
    Create(Box<SkillbaseContent>),
    Update(Box<SkillbaseContent>),
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SkillbaseRefusal {
    #[error("this skillbase exists already, with other content")]
    CreatedAlready,
    #[error("there is no such skillbase")]
    Unknown,
}

impl Coded for SkillbaseRefusal {
    const AREA: &'static str = "skillbase";
}

impl Refusal for SkillbaseRefusal {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound("skillbase"),
            Self::CreatedAlready => RefusalKind::Conflict,
        }
    }
}

pub struct Skillbase;

impl Decider for Skillbase {
    const CATEGORY: &'static str = "skillbase";
    type State = Lifecycle<LiveSkillbase>;
    type Event = SkillbaseEvent;
    type Command = SkillbaseCommand;
    type Refusal = SkillbaseRefusal;

    fn evolve(state: &mut Lifecycle<LiveSkillbase>, event: &SkillbaseEvent) {
        *state = match event {
            SkillbaseEvent::SkillbaseCreated { content, version } | SkillbaseEvent::SkillbaseUpdated { content, version } => {
                Lifecycle::new(LiveSkillbase { content: content.as_ref().clone(), version: *version })
            }
            SkillbaseEvent::SkillbaseDeleted {} => Lifecycle::Deleted,
        };
    }

    #[expect(clippy::expect_used, reason = "see the message")]
    fn size_of(state: &Lifecycle<LiveSkillbase>) -> usize {
        let Some(LiveSkillbase { content, .. }) = state.present() else { return STATE_BYTES };
        // The written configuration is about as long as the one in memory.
        serde_json::to_vec(&content.config).expect("a configuration was read from JSON").len() + STATE_BYTES
    }

    fn decide(state: &Lifecycle<LiveSkillbase>, command: SkillbaseCommand) -> Result<Vec<SkillbaseEvent>, SkillbaseRefusal> {
        use SkillbaseCommand::{Create, Delete, Update};
        match (state, command) {
            (Lifecycle::None, Create(content)) => Ok(vec![SkillbaseEvent::SkillbaseCreated { content, version: 1 }]),
            (Lifecycle::Present(now), Create(content) | Update(content)) if now.content == *content => Ok(vec![]),
            (_, Create(_)) => Err(SkillbaseRefusal::CreatedAlready),
            (Lifecycle::Present(now), Update(content)) => Ok(vec![SkillbaseEvent::SkillbaseUpdated { content, version: now.version + 1 }]),
            (Lifecycle::Present(_), Delete) => Ok(vec![SkillbaseEvent::SkillbaseDeleted {}]),
            (Lifecycle::Deleted, Delete) => Ok(vec![]),
            (Lifecycle::None, Update(_) | Delete) | (Lifecycle::Deleted, Update(_)) => Err(SkillbaseRefusal::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::given;

    fn content(name: &str) -> Box<SkillbaseContent> {
        let config = serde_json::from_value(config::tests::config()).unwrap();
        Box::new(SkillbaseContent {
            name: name.into(),
            slug: "bot".into(),
            config,
            description: None,
            is_active: true,
            is_published: false,
        })
    }

    fn created() -> SkillbaseEvent {
        SkillbaseEvent::SkillbaseCreated { content: content("a"), version: 1 }
    }

    #[test]
    fn every_change_makes_a_version() {
        let updated = SkillbaseEvent::SkillbaseUpdated { content: content("b"), version: 2 };
        given::<Skillbase>([]).when(SkillbaseCommand::Create(content("a"))).then([created()]);
        given::<Skillbase>([created()]).when(SkillbaseCommand::Update(content("b"))).then([updated]);
    }

    #[test]
    fn a_change_that_changes_nothing_makes_none() {
        given::<Skillbase>([created()]).when(SkillbaseCommand::Update(content("a"))).then_nothing();
        given::<Skillbase>([created()]).when(SkillbaseCommand::Create(content("a"))).then_nothing();
    }

    #[test]
    fn a_deleted_skillbase_is_gone() {
        let deleted = || SkillbaseEvent::SkillbaseDeleted {};
        given::<Skillbase>([created()]).when(SkillbaseCommand::Delete).then([deleted()]);
        given::<Skillbase>([created(), deleted()]).when(SkillbaseCommand::Delete).then_nothing();
        given::<Skillbase>([created(), deleted()]).when(SkillbaseCommand::Update(content("b"))).then_refused(SkillbaseRefusal::Unknown);
    }
}
