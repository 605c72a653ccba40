//! Logging in and out, passwords, tickets.

use domain::{email::canonical_email, user::User, validation::Invalid};
use eventstore::ActorKind;
use uuid::Uuid;

use crate::{
    Refused, ServiceError, Services, StateConflict, UserRef,
    identity::{
        Identity, Session, check_password,
        credentials::{self, UserCredentials},
        hash_password,
        throttle::Throttle,
        tickets, verify_password,
    },
};

impl Services {
    /// Logs a user in. `network` is where the client is: too many attempts from there, or at the address, are slow or refused.
    pub async fn log_in(&self, email: &str, password: String, network: &str) -> Result<(Session, UserRef), Refused> {
        let identity = &self.identity;
        let email = canonical_email(email).unwrap_or_default();
        let user = credentials::user(&identity.pool, &credentials::email_hash(&identity.master, &email)).await?;
        let of_user = user.as_ref().map(|user| UserRef { company_id: user.company_id, user_id: user.user_id });
        let about = |error: ServiceError| Refused { error, user: of_user };
        let pool = (&identity.pool, &identity.slow_attempts);
        let throttle = Throttle::new(pool, &identity.master, &email, network, of_user.map(|user| user.user_id));
        let attempt = throttle.count().await.map_err(about)?;
        let hash = user.as_ref().filter(|user| user.disabled_at.is_none()).and_then(|user| user.password_hash.clone());
        let verified = verify_password(password, hash).await?;
        let refused = || about(ServiceError::unauthenticated("e-mail address or password is wrong"));
        let (user, of_user) = user.as_ref().zip(of_user).filter(|_| verified).ok_or_else(refused)?;
        self.confirm_pending(user).await?;
        attempt.succeeded().await?;
        Ok((identity.sessions().open(user).await?, of_user))
    }

    /// A registration that was cut off after its append is completed by the first login; one whose events are not in the log gives no
    /// session.
    async fn confirm_pending(&self, user: &UserCredentials) -> Result<(), ServiceError> {
        if user.pending_since.is_none() {
            return Ok(());
        }
        let is_logged = self.store.load_fresh::<User>(user.company_id, user.user_id).await?.version > 0;
        if is_logged && credentials::confirm_registration(&self.identity.pool, user.user_id).await? {
            return Ok(());
        }
        Err(ServiceError::unauthenticated("this registration is not complete; register again"))
    }

    /// Continues a session.
    pub async fn refresh_session(&self, refresh_token: &str) -> Result<(Session, UserRef), Refused> {
        self.identity.sessions().refresh(refresh_token).await
    }

    /// Ends the caller's session, or all of the user's sessions.
    pub async fn log_out(&self, caller: &Identity, everywhere: bool) -> Result<(), ServiceError> {
        let (user_id, session) = user_of(caller)?;
        if everywhere { self.identity.sessions().end_all(user_id).await } else { self.identity.sessions().end(user_id, session).await }
    }

    /// Changes the caller's own password. All of their sessions end; the answer is a new one.
    pub async fn change_password(&self, caller: &Identity, old: String, new: String, network: &str) -> Result<Session, ServiceError> {
        let (user_id, _) = user_of(caller)?;
        let mut invalid = Invalid::default();
        check_password(&mut invalid, "new_password", &new, None);
        invalid.into_result()?;
        let identity = &self.identity;
        let pool = (&identity.pool, &identity.slow_attempts);
        let throttle = Throttle::new(pool, &identity.master, &user_id.to_string(), network, Some(user_id));
        let attempt = throttle.count().await?;
        let user = credentials::user_by_id(&identity.pool, user_id).await?.ok_or_else(|| ServiceError::not_found("user"))?;
        if !verify_password(old, user.password_hash.clone()).await? {
            return Err(ServiceError::forbidden("the old password is wrong"));
        }
        attempt.succeeded().await?;
        let password_hash = hash_password(new).await?;
        identity.sessions().change_password(user_id, &password_hash).await?;
        let user = UserCredentials { password_hash: Some(password_hash), ..user };
        identity.sessions().open(&user).await
    }

    /// A one-time ticket that stands for the caller for 30 s.
    pub async fn issue_ticket(&self, caller: &Identity) -> Result<String, ServiceError> {
        tickets::issue(&self.identity.pool, caller).await
    }
}

/// The user who calls, and their session; an API key has none.
fn user_of(caller: &Identity) -> Result<(Uuid, Uuid), ServiceError> {
    let user = caller.actor.id.zip(caller.session).filter(|_| caller.actor.kind == ActorKind::User);
    user.ok_or_else(|| ServiceError::conflict(StateConflict::CallerIsApiKey))
}
