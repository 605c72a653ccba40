//! Decides who may register a company, by the installation's setting.

use domain::user::User;
use uuid::Uuid;

use super::{
    credentials::{self, UserCredentials},
    operators,
};
use crate::{ServiceError, Services};

/// How long a registration may take before its address is released, in minutes.
pub const UNFINISHED_MINUTES: i32 = 2;

/// Who may register a company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationMode {
    /// Only the first user, who becomes the operator too.
    First,
    Open,
    Closed,
}

/// The rule that a registration is under.
pub struct Registration<'a> {
    pub services: &'a Services,
    pub mode: RegistrationMode,
}

impl Registration<'_> {
    /// Refuses as forbidden if the user may not register a company here. Cheap: asked before a password is hashed.
    pub async fn require_open(&self, user_id: Uuid) -> Result<(), ServiceError> {
        match self.mode {
            RegistrationMode::Open => Ok(()),
            RegistrationMode::Closed => Err(ServiceError::forbidden("registration is closed here")),
            RegistrationMode::First => {
                // The connection is returned to the pool before the next one is acquired.
                let other = {
                    let mut db = self.services.access.identity.acquire().await?;
                    credentials::first_other_user(&mut db, user_id, UNFINISHED_MINUTES).await?
                };
                match other {
                    None => Ok(()),
                    Some(other) => self.purge_abandoned(&other).await,
                }
            }
        }
    }

    /// Deletes the credentials of a first registration that was cut off before the log had it, so that the next one is first. Refuses
    /// as forbidden if it was not cut off.
    async fn purge_abandoned(&self, other: &credentials::OtherUser) -> Result<(), ServiceError> {
        let abandoned = other.is_abandoned && self.services.store.load_fresh::<User>(other.company_id, other.user_id).await?.version == 0;
        // Its append may land at this moment: of its confirmation and this deletion one finds the pending row.
        if abandoned && credentials::delete_pending_registration(&self.services.access.identity, other.user_id).await? {
            return Ok(());
        }
        Err(by_invitation())
    }

    /// Stores the credentials of a registration; returns false if another user has the address. Of concurrent first registrations exactly
    /// one succeeds.
    pub async fn store(&self, email_hash: &str, user: &UserCredentials) -> Result<bool, ServiceError> {
        let mut tx = self.services.access.identity.begin().await?;
        let is_first = self.mode == RegistrationMode::First;
        if is_first {
            credentials::lock_first_registration(&mut tx).await?;
            if credentials::first_other_user(&mut tx, user.user_id, UNFINISHED_MINUTES).await?.is_some() {
                return Err(by_invitation());
            }
        }
        let stored = credentials::save_user(&mut tx, email_hash, user).await?;
        if stored && is_first {
            operators::add(&mut tx, user.user_id).await?;
        }
        tx.commit().await?;
        Ok(stored)
    }
}

fn by_invitation() -> ServiceError {
    ServiceError::forbidden("this installation has its company; others join by invitation")
}
