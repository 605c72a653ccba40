//! An authenticated caller, and the secrets that authenticate callers.

use domain::role::Role;
use eventstore::Actor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub company_id: Uuid,
    pub role: Role,
    pub actor: Actor,
    /// Session of a user who has logged in; `None` for an API key.
    #[serde(default)]
    pub session: Option<Uuid>,
    /// Whether the user runs the installation.
    #[serde(default)]
    pub is_operator: bool,
}

impl Identity {
    /// Id of the user or of the API key.
    #[expect(clippy::expect_used, reason = "only the platform's own work has no id, and it is no caller")]
    pub fn id(&self) -> Uuid {
        self.actor.id.expect("a caller is a user or an API key")
    }
}

/// Prefix of every API key.
pub const API_KEY_PREFIX: &str = "nvk_";

/// 256 random bits in hex, after `prefix`.
pub fn new_secret(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(rand::random::<[u8; 32]>()))
}

/// The stored form of a secret with 256 random bits: its SHA-256.
pub fn secret_hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}
