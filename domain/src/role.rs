//! The roles of users and API keys, and which role includes which.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads everything of the company, the audit and the users included, and changes nothing.
    Auditor,
    /// Claims tasks and records calls.
    Agent,
    /// Configures skillbases and campaigns.
    Manager,
    /// Manages users, keys, prices and everything else.
    Admin,
}

impl Role {
    /// Whether it has all rights of the other role. Auditors have rights that agents and managers do not have, and the reverse.
    pub const fn includes(self, other: Self) -> bool {
        match other {
            Self::Viewer => true,
            Self::Auditor => matches!(self, Self::Auditor | Self::Admin),
            Self::Agent => matches!(self, Self::Agent | Self::Manager | Self::Admin),
            Self::Manager => matches!(self, Self::Manager | Self::Admin),
            Self::Admin => matches!(self, Self::Admin),
        }
    }
}
