use eventstore::{Actor, CommandContext, CommandIdentity, Metadata, now};
use uuid::Uuid;

/// Makes the ids of a command: random, or derived from its idempotency key.
#[derive(Clone, Debug, Default)]
pub struct Ids(Option<KeyedCommand>);

/// A command under an idempotency key.
#[derive(Clone, Debug)]
pub struct KeyedCommand {
    pub key: String,
    /// The identity from which the ids of the command are derived.
    pub identity: CommandIdentity,
}

impl Ids {
    pub const fn keyed(command: KeyedCommand) -> Self {
        Self(Some(command))
    }

    pub fn key(&self) -> Option<&str> {
        self.0.as_ref().map(|keyed| keyed.key.as_str())
    }

    /// The identity that a command shares with its repeats.
    pub fn identity(&self) -> Option<CommandIdentity> {
        self.0.as_ref().map(|keyed| keyed.identity)
    }

    /// A new id; `purpose` distinguishes several ids of one command.
    pub fn make(&self, purpose: &str) -> Uuid {
        self.0.as_ref().map_or_else(Uuid::now_v7, |keyed| Uuid::new_v5(&keyed.identity.id, purpose.as_bytes()))
    }
}

/// One command of one caller: the actor, the company, the time, and the required version.
#[derive(Clone, Debug)]
pub struct OpContext {
    pub command: CommandContext,
    pub ids: Ids,
    /// The stream version that the caller requires of the changed object.
    pub expected_version: Option<i64>,
}

impl OpContext {
    /// A command of `actor` at the present time.
    pub fn new(company_id: Uuid, actor: Actor, correlation_id: Uuid, ids: Ids, expected_version: Option<i64>) -> Self {
        let metadata = Metadata { actor, correlation_id, causation_id: None, idempotency_key: ids.key().map(str::to_owned) };
        let command = CommandContext { company_id, metadata, identity: ids.identity(), now: now() };
        Self { command, ids, expected_version }
    }

    pub const fn company_id(&self) -> Uuid {
        self.command.company_id
    }
}

/// A command without an idempotency key and without a required version.
impl From<CommandContext> for OpContext {
    fn from(command: CommandContext) -> Self {
        Self { command, ids: Ids::default(), expected_version: None }
    }
}
