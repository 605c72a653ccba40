//! API keys.

use domain::{
    Lifecycle,
    api_key::{ApiKey, ApiKeyCommand},
    role::Role,
    validation::Invalid,
};
use uuid::Uuid;

use crate::{
    OpContext, ServiceError, Services, StateConflict,
    identity::{API_KEY_PREFIX, api_keys, new_secret},
};

/// Most characters of a key's name.
const NAME_MAX_CHARS: usize = 100;

/// A key that has just been issued.
pub struct IssuedApiKey {
    pub id: Uuid,
    /// Shown once.
    pub key: String,
    pub position: i64,
}

impl Services {
    pub async fn issue_api_key(&self, op: &OpContext, name: &str, role: Role) -> Result<IssuedApiKey, ServiceError> {
        let mut invalid = Invalid::default();
        invalid.name("name", name, NAME_MAX_CHARS);
        invalid.into_result()?;
        let (id, key) = (op.ids.make("api_key"), new_secret(API_KEY_PREFIX));
        let command = ApiKeyCommand::Issue { name: name.to_owned(), role };
        let committed = self.store.execute::<ApiKey>(&op.command, id, command).await?;
        let revoked = || ServiceError::conflict(StateConflict::ApiKeyRevoked);
        if *committed.state == Lifecycle::Deleted {
            return Err(revoked());
        }
        // Rights are granted once the log has them. If the process dies before, the repeated request stores a key of its own. A key that
        // another admin revokes at this moment is stored as revoked.
        if !api_keys::save(&self.identity.pool, &key, id, op.company_id(), name, role).await? {
            return Err(revoked());
        }
        Ok(IssuedApiKey { id, key, position: committed.position })
    }

    /// Revokes a key. Returns the position of the revocation.
    pub async fn revoke_api_key(&self, op: &OpContext, id: Uuid) -> Result<i64, ServiceError> {
        let loaded = self.store.load_fresh::<ApiKey>(op.company_id(), id).await?;
        loaded.require(op.expected_version)?;
        // Before the log has it: whatever happens in between, a key that is revoked in the log is not valid.
        if loaded.version > 0 {
            api_keys::revoke(&self.identity.pool, op.company_id(), id).await?;
        }
        self.identity.callers.forget_all();
        let committed = self.store.execute_if::<ApiKey>(&op.command, id, op.expected_version, ApiKeyCommand::Revoke).await?;
        Ok(committed.position)
    }
}
