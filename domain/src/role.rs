//! The roles of users and API keys: each role includes the rights of the lower roles.

use serde::{Deserialize, Serialize};

/// Ordered: `Viewer < Agent < Manager < Admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Claims tasks and records calls.
    Agent,
    /// Configures skillbases and campaigns.
    Manager,
    /// Manages users, keys, prices and everything else.
    Admin,
}
