//! Users: admins invite them, give them roles and disable them.

use chrono::{DateTime, Utc};
use domain::{
    Personal,
    role::Role,
    user::{KnownUser, User, UserCommand, UserStatus},
    validation::Invalid,
};
use eventstore::{Actor, ActorKind, Loaded};
use uuid::Uuid;

use crate::{
    Ids, OpContext, ServiceError, Services, StateConflict, UserRef, Versioned,
    identity::{
        Session, UNFINISHED_MINUTES, check_password,
        credentials::{self, UserChange, UserCredentials},
        hash_password,
    },
    registration::check_email,
};

/// A user who can join with the invitation.
pub struct InvitedUser {
    pub user: Versioned<KnownUser>,
    /// Shown once.
    pub invitation: String,
    pub expires_at: DateTime<Utc>,
}

impl Services {
    /// Invites a user to the company.
    pub async fn invite_user(&self, op: &OpContext, email: &str, role: Role) -> Result<InvitedUser, ServiceError> {
        let mut invalid = Invalid::default();
        let email = check_email(&mut invalid, email);
        invalid.into_result()?;
        let (id, pool) = (op.ids.make("user"), &self.identity.pool);
        let user = UserCredentials::invited(id, op.company_id(), role);
        let email_hash = credentials::email_hash(&self.identity.master, &email);
        let save = async || credentials::save_user(&mut *pool.acquire().await?, &email_hash, &user).await;
        if !save().await? {
            self.delete_unfinished_invitation(op.company_id(), &email_hash).await?;
            if !save().await? {
                return Err(ServiceError::conflict(StateConflict::AddressInCompany));
            }
        }
        let command = UserCommand::Invite { email: Personal::new(email), role };
        let committed = self.store.execute::<User>(&op.command, id, command).await?;
        let invited = credentials::invite(pool, id).await?;
        let (invitation, expires_at) = invited.ok_or_else(|| ServiceError::conflict(StateConflict::UserHasJoined))?;
        let loaded: Loaded<User> = self.store.load(op.company_id(), id).await?;
        let user = committed.state.require("user")?.clone();
        Ok(InvitedUser { user: Versioned::of_committed(id, &committed, &loaded, user), invitation, expires_at })
    }

    /// Frees an address in a company whose invitation was cut off before it was given out, or was not accepted.
    async fn delete_unfinished_invitation(&self, company_id: Uuid, email_hash: &str) -> Result<(), ServiceError> {
        let pool = &self.identity.pool;
        credentials::forget_expired_invitation(pool, company_id, email_hash).await?;
        let stored = credentials::stored_invitation(pool, company_id, email_hash, UNFINISHED_MINUTES).await?;
        let Some(known) = stored else { return Ok(()) };
        if self.store.load_fresh::<User>(company_id, known.user_id).await?.version == 0 {
            credentials::delete_unsent_invitation(pool, known.user_id).await?;
        }
        Ok(())
    }

    /// A new invitation for a user who has not joined; the one before is no longer valid.
    pub async fn renew_invitation(&self, op: &OpContext, id: Uuid) -> Result<InvitedUser, ServiceError> {
        let user = self.user(op.company_id(), id).await?;
        let invited = credentials::invite(&self.identity.pool, id).await?;
        let (invitation, expires_at) = invited.ok_or_else(|| match user.value.status {
            UserStatus::Invited => ServiceError::conflict(StateConflict::UserNeverJoined),
            status => ServiceError::conflict(StateConflict::UserIs { status }),
        })?;
        Ok(InvitedUser { user, invitation, expires_at })
    }

    /// The user as the log has them now.
    pub async fn user(&self, company_id: Uuid, id: Uuid) -> Result<Versioned<KnownUser>, ServiceError> {
        let loaded: Loaded<User> = self.store.load_fresh(company_id, id).await?;
        let user = loaded.state.require("user")?.clone();
        Ok(Versioned::of_loaded(id, &loaded, loaded.position, user))
    }

    /// Changes a user's role, disables or enables them. A company keeps its last admin.
    pub async fn change_user(&self, op: &OpContext, id: Uuid, change: UserChange) -> Result<Versioned<KnownUser>, ServiceError> {
        let company_id = op.company_id();
        let mut rights = credentials::lock_users(&self.identity.pool, company_id).await?;
        let loaded = self.store.load_fresh::<User>(company_id, id).await?;
        let user = loaded.state.require("user")?;
        loaded.require(op.expected_version)?;
        let changed = credentials::change_user(&mut rights, company_id, id, change).await?;
        changed.map_err(|refused| ServiceError::Conflict(refused.into()))?;
        // Rights are revoked before the log has it, and granted afterwards: whatever happens in between, no user has more rights than in the log.
        let enables = change.disabled == Some(false) && user.status == UserStatus::Disabled;
        let revokes = change.disabled == Some(true) || (change.role.is_some_and(|role| !role.includes(user.role)) && !enables);
        let is_repeated = revokes && user.status == UserStatus::Disabled;
        let mut granted = Some(rights);
        if revokes && let Some(revoked) = granted.take() {
            revoked.commit().await?;
            // All companies' callers are looked up again then: not for a change that changes nothing.
            if !is_repeated {
                self.identity.callers.forget_all();
            }
        }
        let command = UserCommand::Change { role: change.role, disabled: change.disabled };
        let changed = self.store.execute_if::<User>(&op.command, id, op.expected_version, command).await?;
        match granted {
            Some(granted) => granted.commit().await?,
            None => self.settle_rights(company_id, id).await?,
        }
        if !changed.events.is_empty() {
            self.identity.callers.forget_all();
        }
        let after = self.user(company_id, id).await?;
        Ok(Versioned { position: changed.position, ..after })
    }

    /// Gives a user the rights that they have in the log: another admin may have granted some after these were revoked, and before the log
    /// had it.
    async fn settle_rights(&self, company_id: Uuid, id: Uuid) -> Result<(), ServiceError> {
        let mut rights = credentials::lock_users(&self.identity.pool, company_id).await?;
        let user = self.user(company_id, id).await?.value;
        let logged = UserChange { role: Some(user.role), disabled: Some(user.status == UserStatus::Disabled) };
        match credentials::change_user(&mut rights, company_id, id, logged).await? {
            Ok(()) => Ok(rights.commit().await?),
            // The company keeps its last admin; a user who never joined has nothing to settle.
            Err(_) => Ok(()),
        }
    }

    /// Fails unless the invitation can be accepted. Cheap: asked before a password is checked and hashed.
    pub async fn require_invitation(&self, invitation: &str) -> Result<(), ServiceError> {
        match credentials::is_invited(&self.identity.pool, invitation).await? {
            true => Ok(()),
            false => Err(invitation_refused()),
        }
    }

    /// Accepts an invitation with a password, and logs the user in.
    pub async fn accept_invitation(
        &self,
        correlation_id: Uuid,
        invitation: &str,
        password: String,
    ) -> Result<(Session, UserRef), ServiceError> {
        let mut invalid = Invalid::default();
        check_password(&mut invalid, "password", &password, None);
        invalid.into_result()?;
        let accepted = credentials::accept(&self.identity.pool, invitation, &hash_password(password).await?).await;
        let accepted = accepted.map_err(|error| match error {
            // The client that shows the invitation is the one that it was sent to, and may know.
            sqlx::Error::Database(refused) if refused.is_unique_violation() => ServiceError::conflict(StateConflict::AddressOfOtherCompany),
            error => error.into(),
        })?;
        let (accepted, user) = accepted.ok_or_else(invitation_refused)?;
        let actor = Actor { kind: ActorKind::User, id: Some(user.user_id), name: None };
        let op = OpContext::new(user.company_id, actor, correlation_id, Ids::default(), None);
        self.store.execute::<User>(&op.command, user.user_id, UserCommand::Join).await?;
        accepted.commit().await?;
        let session = self.identity.sessions().open(&user).await?;
        Ok((session, UserRef { company_id: user.company_id, user_id: user.user_id }))
    }
}

fn invitation_refused() -> ServiceError {
    ServiceError::unauthenticated("the invitation is not valid or has expired")
}
