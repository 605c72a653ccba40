//! Users' stored secrets: password hashes and invitations. They are in an ordinary table, never in events. E-mail addresses are stored only
//! as keyed hashes.

use chrono::{DateTime, Utc};
use domain::role::Role;
use eventstore::{MasterKey, Pool};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::caller::{new_secret, secret_hash};
use crate::StateConflict;

/// How long an invitation is valid, in days.
const INVITATION_DAYS: i32 = 7;

pub struct UserCredentials {
    pub user_id: Uuid,
    pub company_id: Uuid,
    pub role: String,
    /// Argon2id, PHC string; `None` until the invitation is accepted.
    pub password_hash: Option<String>,
    pub disabled_at: Option<DateTime<Utc>>,
    /// Set while the registration's events may be missing from the log.
    pub pending_since: Option<DateTime<Utc>>,
}

impl UserCredentials {
    /// Credentials of an invited user: without a password until the user joins.
    pub fn invited(user_id: Uuid, company_id: Uuid, role: Role) -> Self {
        Self { user_id, company_id, role: role.to_string(), password_hash: None, disabled_at: None, pending_since: None }
    }

    /// Credentials of a user who registers a company as its admin. They are not valid until the log contains the registration.
    pub fn registering(user_id: Uuid, company_id: Uuid, password_hash: String, now: DateTime<Utc>) -> Self {
        let (role, password_hash) = (Role::Admin.to_string(), Some(password_hash));
        Self { user_id, company_id, role, password_hash, disabled_at: None, pending_since: Some(now) }
    }
}

/// The keyed hash under which an address is stored.
pub fn email_hash(master: &MasterKey, email: &str) -> String {
    hex::encode(master.derive(&format!("address {email}")))
}

/// The user who has joined with this address. An open invitation to the address is not a user yet.
pub async fn user(pool: &Pool, email_hash: &str) -> Result<Option<UserCredentials>, sqlx::Error> {
    sqlx::query_as!(
        UserCredentials,
        "select user_id, company_id, role, password_hash, disabled_at, pending_since from user_credentials
          where email_hash = $1 and password_hash is not null",
        email_hash
    )
    .fetch_optional(pool)
    .await
}

pub async fn user_by_id(pool: &Pool, user_id: Uuid) -> Result<Option<UserCredentials>, sqlx::Error> {
    sqlx::query_as!(
        UserCredentials,
        "select user_id, company_id, role, password_hash, disabled_at, pending_since from user_credentials where user_id = $1",
        user_id
    )
    .fetch_optional(pool)
    .await
}

/// A registration with this address that has been pending for at least `minutes`.
pub async fn pending_registration(pool: &Pool, email_hash: &str, minutes: i32) -> Result<Option<UserCredentials>, sqlx::Error> {
    sqlx::query_as!(
        UserCredentials,
        "select user_id, company_id, role, password_hash, disabled_at, pending_since from user_credentials
          where email_hash = $1 and password_hash is not null and pending_since < now() - make_interval(mins => $2)",
        email_hash,
        minutes
    )
    .fetch_optional(pool)
    .await
}

/// A company's invitation to this address that was stored at least `minutes` ago and was not accepted.
pub async fn stored_invitation(
    pool: &Pool,
    company_id: Uuid,
    email_hash: &str,
    minutes: i32,
) -> Result<Option<UserCredentials>, sqlx::Error> {
    sqlx::query_as!(
        UserCredentials,
        "select user_id, company_id, role, password_hash, disabled_at, pending_since from user_credentials
          where company_id = $1 and email_hash = $2 and password_hash is null and created_at < now() - make_interval(mins => $3)",
        company_id,
        email_hash,
        minutes
    )
    .fetch_optional(pool)
    .await
}

/// Stores a new user's credentials. Returns false if another user of the company has the address, or if this user registers with an address
/// with which another user has joined.
pub async fn save_user(db: &mut PgConnection, email_hash: &str, user: &UserCredentials) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query!(
        "insert into user_credentials (email_hash, user_id, company_id, role, password_hash, pending_since)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        email_hash,
        user.user_id,
        user.company_id,
        user.role,
        user.password_hash,
        user.pending_since
    );
    if inserted.execute(&mut *db).await?.rows_affected() == 1 {
        return Ok(true);
    }
    // The same request was repeated.
    let updated = sqlx::query!(
        "update user_credentials set password_hash = coalesce($3, password_hash) where user_id = $2 and email_hash = $1",
        email_hash,
        user.user_id,
        user.password_hash
    );
    Ok(updated.execute(db).await?.rows_affected() == 1)
}

/// Another user that a registration finds.
pub struct OtherUser {
    pub user_id: Uuid,
    pub company_id: Uuid,
    /// The other user's own registration began some time ago and is not confirmed.
    pub is_abandoned: bool,
}

/// A user other than `user_id`: one with a complete registration, or else the one whose registration has been pending longest.
pub async fn first_other_user(db: &mut PgConnection, user_id: Uuid, minutes: i32) -> Result<Option<OtherUser>, sqlx::Error> {
    sqlx::query_as!(
        OtherUser,
        r#"select user_id as "user_id!", company_id as "company_id!", is_abandoned as "is_abandoned!" from (
               (select user_id, company_id, false as is_abandoned from user_credentials
                 where user_id <> $1 and pending_since is null limit 1)
               union all
               (select user_id, company_id, pending_since < now() - make_interval(mins => $2) from user_credentials
                 where user_id <> $1 and pending_since is not null order by pending_since limit 1)) other
            limit 1"#,
        user_id,
        minutes
    )
    .fetch_optional(db)
    .await
}

/// Takes a lock until the end of the transaction: only one registration at a time checks whether it is the first.
pub async fn lock_first_registration(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended(current_schema() || '.first_registration', 0))").execute(db).await?;
    Ok(())
}

/// Confirms a registration that is in the log: the user can log in from now on. Returns false if the credentials do not exist: another
/// registration found them abandoned and deleted them.
pub async fn confirm_registration(pool: &Pool, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let confirmed = sqlx::query!("update user_credentials set pending_since = null where user_id = $1", user_id);
    Ok(confirmed.execute(pool).await?.rows_affected() == 1)
}

/// Releases an address whose registration did not reach the log. Returns false if the registration is complete by now, or no longer exists.
pub async fn delete_pending_registration(pool: &Pool, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!("delete from user_credentials where user_id = $1 and pending_since is not null", user_id);
    Ok(deleted.execute(pool).await?.rows_affected() == 1)
}

/// Releases an address whose user did not reach the log and never registered: the invitation was interrupted before it was issued. Returns
/// false if the invitation is issued by now, or no longer exists.
pub async fn delete_unsent_invitation(pool: &Pool, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let deleted =
        sqlx::query!("delete from user_credentials where user_id = $1 and pending_since is null and invitation_hash is null", user_id);
    Ok(deleted.execute(pool).await?.rows_affected() == 1)
}

/// Releases an address that a company has invited, if the invitation has expired or was revoked.
pub async fn forget_expired_invitation(pool: &Pool, company_id: Uuid, email_hash: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from user_credentials where company_id = $1 and email_hash = $2 and password_hash is null and invitation_until < now()",
        company_id,
        email_hash
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Issues a new invitation for a user who has no password yet, and revokes earlier ones. Returns the secret and its expiry time; `None` for
/// a user who has a password.
pub async fn invite(pool: &Pool, user_id: Uuid) -> Result<Option<(String, DateTime<Utc>)>, sqlx::Error> {
    let invitation = new_secret("nvi_");
    let until = sqlx::query_scalar!(
        r#"update user_credentials set invitation_hash = $2, invitation_until = now() + make_interval(days => $3)
            where user_id = $1 and password_hash is null and disabled_at is null returning invitation_until as "until!""#,
        user_id,
        secret_hash(&invitation),
        INVITATION_DAYS
    );
    Ok(until.fetch_optional(pool).await?.map(|until| (invitation, until)))
}

/// Accepts an invitation and sets the password. If two clients try, only one succeeds. The caller commits the transaction after the event
/// is in the log.
pub async fn accept(
    pool: &Pool,
    invitation: &str,
    password_hash: &str,
) -> Result<Option<(Transaction<'static, Postgres>, UserCredentials)>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let accepted = sqlx::query_as!(
        UserCredentials,
        "update user_credentials set password_hash = $2, invitation_hash = null, invitation_until = null
          where invitation_hash = $1 and invitation_until > now() and password_hash is null and disabled_at is null
         returning user_id, company_id, role, password_hash, disabled_at, pending_since",
        secret_hash(invitation),
        password_hash
    );
    Ok(accepted.fetch_optional(&mut *tx).await?.map(|user| (tx, user)))
}

/// Whether an invitation can be accepted.
pub async fn is_invited(pool: &Pool, invitation: &str) -> Result<bool, sqlx::Error> {
    let invited = sqlx::query_scalar!(
        r#"select exists (select from user_credentials where invitation_hash = $1 and invitation_until > now()) as "invited!""#,
        secret_hash(invitation)
    );
    invited.fetch_one(pool).await
}

/// The fields of a user to change.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserChange {
    pub role: Option<Role>,
    pub disabled: Option<bool>,
}

/// A transaction that locks the company's users: no other transaction can change them until it ends.
pub async fn lock_users(pool: &Pool, company_id: Uuid) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query!("select from user_credentials where company_id = $1 order by user_id for update", company_id).execute(&mut *tx).await?;
    Ok(tx)
}

/// Changes a user's rights, in a transaction that has locked them. Disabling a user who has not joined revokes the invitation and releases
/// the address.
pub async fn change_user(
    tx: &mut PgConnection,
    company_id: Uuid,
    user_id: Uuid,
    change: UserChange,
) -> Result<Result<(), StateConflict>, sqlx::Error> {
    let changed = sqlx::query!(
        "update user_credentials
            set role = coalesce($3, role),
                disabled_at = case when $4 then coalesce(disabled_at, now()) when not $4 then null else disabled_at end,
                invitation_hash = case when $4 then null else invitation_hash end,
                invitation_until = case when $4 and password_hash is null then now() else invitation_until end
          where company_id = $1 and user_id = $2",
        company_id,
        user_id,
        change.role.map(|role| role.to_string()),
        change.disabled
    );
    let is_there = changed.execute(&mut *tx).await?.rows_affected() > 0;
    if !is_there && change.disabled != Some(true) {
        return Ok(Err(StateConflict::UserNeverJoined));
    }
    if change.disabled == Some(true) {
        sqlx::query!("delete from refresh_tokens where user_id = $1", user_id).execute(&mut *tx).await?;
    }
    let admins = sqlx::query_scalar!(
        r#"select exists (select from user_credentials
                           where company_id = $1 and role = 'admin' and disabled_at is null and password_hash is not null) as "left!""#,
        company_id
    );
    Ok(if admins.fetch_one(&mut *tx).await? { Ok(()) } else { Err(StateConflict::NoAdminLeft) })
}

/// The present state of a user who has a session.
pub struct Standing {
    pub company_id: Uuid,
    pub role: String,
    pub is_operator: bool,
}

/// `None` when the user is disabled or the session has ended.
pub async fn standing(pool: &Pool, user_id: Uuid, session: Uuid) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        r#"select company_id, role, operator_since is not null as "is_operator!" from user_credentials c
          where user_id = $1 and disabled_at is null and exists (
                    select from refresh_tokens r where r.family = $2 and r.user_id = c.user_id and r.expires_at > now())"#,
        user_id,
        session
    )
    .fetch_optional(pool)
    .await
}
