//! Who may register a company, as the installation is set.

use domain::user::User;
use uuid::Uuid;

use super::credentials::{self, UserCredentials};
use crate::{app::App, commands::auth::UNFINISHED_MINUTES, problem::Problem, settings::RegistrationMode};

/// The rule that a registration is under.
pub struct Registration<'a> {
    pub app: &'a App,
    pub mode: RegistrationMode,
}

impl Registration<'_> {
    /// 403 if the user may not register a company here. Cheap: asked before a password is hashed.
    pub async fn require_open(&self, user_id: Uuid) -> Result<(), Problem> {
        match self.mode {
            RegistrationMode::Open => Ok(()),
            RegistrationMode::Closed => Err(Problem::forbidden("registration is closed here")),
            RegistrationMode::First => {
                // The connection is given back before the next one is asked for.
                let other = {
                    let mut db = self.app.access.identity.acquire().await?;
                    credentials::first_other_user(&mut db, user_id, UNFINISHED_MINUTES).await?
                };
                match other {
                    None => Ok(()),
                    Some(other) => self.purge_abandoned(&other).await,
                }
            }
        }
    }

    /// Deletes the credentials of a first registration that was cut off before the log had it, so that the next one is first. 403 if it was
    /// not.
    async fn purge_abandoned(&self, other: &credentials::OtherUser) -> Result<(), Problem> {
        let abandoned = other.is_abandoned && self.app.store.load_fresh::<User>(other.company_id, other.user_id).await?.version == 0;
        // Its append may land at this moment: of its confirmation and this deletion one finds the pending row.
        if abandoned && credentials::delete_pending_registration(&self.app.access.identity, other.user_id).await? {
            return Ok(());
        }
        Err(by_invitation())
    }

    /// Stores the credentials of a registration; returns false if another user has the address. Of concurrent first registrations exactly
    /// one succeeds.
    pub async fn store(&self, email_hash: &str, user: &UserCredentials) -> Result<bool, Problem> {
        let mut tx = self.app.access.identity.begin().await?;
        let is_first = self.mode == RegistrationMode::First;
        if is_first {
            credentials::lock_first_registration(&mut tx).await?;
            if credentials::first_other_user(&mut tx, user.user_id, UNFINISHED_MINUTES).await?.is_some() {
                return Err(by_invitation());
            }
        }
        let stored = credentials::save_user(&mut tx, email_hash, user).await?;
        if stored && is_first {
            super::operators::add(&mut tx, user.user_id).await?;
        }
        tx.commit().await?;
        Ok(stored)
    }
}

fn by_invitation() -> Problem {
    Problem::forbidden("this installation has its company; others join by invitation")
}
