//! Users' secrets at rest: password hashes and invitations. An ordinary table, never events. E-mail addresses are there as keyed hashes only.

use chrono::{DateTime, Utc};
use domain::role::Role;
use eventstore::{MasterKey, Pool};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{new_secret, secret_hash};

/// How long an invitation can be taken up, in days.
const INVITATION_DAYS: i32 = 7;

pub struct UserCredentials {
    pub user_id: Uuid,
    pub company_id: Uuid,
    pub role: String,
    /// Argon2id, PHC string; none until an invitation is taken up.
    pub password_hash: Option<String>,
    pub disabled_at: Option<DateTime<Utc>>,
    /// Stored by a registration whose events may not be in the log yet.
    pub pending_since: Option<DateTime<Utc>>,
}

impl UserCredentials {
    /// Of a user who is invited: without a password until they join.
    pub fn invited(user_id: Uuid, company_id: Uuid, role: Role) -> Self {
        Self { user_id, company_id, role: role.to_string(), password_hash: None, disabled_at: None, pending_since: None }
    }

    /// Of a user who registers a company as its admin: not valid until the log contains the registration.
    pub fn registering(user_id: Uuid, company_id: Uuid, password_hash: String, now: DateTime<Utc>) -> Self {
        let (role, password_hash) = (Role::Admin.to_string(), Some(password_hash));
        Self { user_id, company_id, role, password_hash, disabled_at: None, pending_since: Some(now) }
    }
}

/// Under what an address is known.
pub fn email_hash(master: &MasterKey, email: &str) -> String {
    hex::encode(master.derive(&format!("address {email}")))
}

/// Hashes the addresses that an earlier release kept in clear.
pub async fn conceal_addresses(pool: &Pool, master: &MasterKey) -> Result<(), sqlx::Error> {
    let clear = sqlx::query_scalar!("select email_hash from user_credentials where email_hash like '%@%'").fetch_all(pool).await?;
    for email in clear {
        let hash = email_hash(master, &email);
        sqlx::query!("update user_credentials set email_hash = $2 where email_hash = $1", email, hash).execute(pool).await?;
    }
    Ok(())
}

/// The user who has joined with an address. An open invitation to it is no user yet.
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

/// A registration with an address that has been pending for so many minutes.
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

/// A company's invitation of an address that was stored so many minutes ago and was not accepted.
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

/// Stores a new user's credentials; returns false if another user of the company has the address, or another user has
/// joined with it and this one registers with it.
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
    // The same request again.
    let updated = sqlx::query!(
        "update user_credentials set password_hash = coalesce($3, password_hash) where user_id = $2 and email_hash = $1",
        email_hash,
        user.user_id,
        user.password_hash
    );
    Ok(updated.execute(db).await?.rows_affected() == 1)
}

/// A user whom a registration finds before it.
pub struct OtherUser {
    pub user_id: Uuid,
    pub company_id: Uuid,
    /// Their own registration was begun a while ago and is not known to be in the log.
    pub is_abandoned: bool,
}

/// A user other than `user_id`: one whose registration is complete, else the one whose registration has been pending for longest.
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

/// Lets one registration at a time find out whether it is the first, until the transaction ends.
pub async fn lock_first_registration(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended(current_schema() || '.first_registration', 0))").execute(db).await?;
    Ok(())
}

/// The registration is in the log: from now on the user can log in. Returns false if its credentials are not there: another registration
/// found them abandoned and deleted them.
pub async fn confirm_registration(pool: &Pool, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let confirmed = sqlx::query!("update user_credentials set pending_since = null where user_id = $1", user_id);
    Ok(confirmed.execute(pool).await?.rows_affected() == 1)
}

/// Gives an address free whose registration did not come into the log. Returns false if the registration is complete by now, or gone.
pub async fn delete_pending_registration(pool: &Pool, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!("delete from user_credentials where user_id = $1 and pending_since is not null", user_id);
    Ok(deleted.execute(pool).await?.rows_affected() == 1)
}

/// Gives an address free whose user did not come into the log and was registering at no time: whose invitation was cut off before it was
/// given out. Returns false if it is given out by now, or gone.
pub async fn delete_unsent_invitation(pool: &Pool, user_id: Uuid) -> Result<bool, sqlx::Error> {
    let deleted =
        sqlx::query!("delete from user_credentials where user_id = $1 and pending_since is null and invitation_hash is null", user_id);
    Ok(deleted.execute(pool).await?.rows_affected() == 1)
}

/// Gives an address free that a company has invited, if the invitation has expired or was withdrawn.
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

/// A new invitation for a user who has no password yet; those from before count no longer. The secret and until when it can be taken up;
/// `None` for a user who has one.
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

/// Takes an invitation up with a password; of two who try, one does. The transaction is to be committed once the log says so.
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

/// Whether an invitation can be taken up.
pub async fn is_invited(pool: &Pool, invitation: &str) -> Result<bool, sqlx::Error> {
    let invited = sqlx::query_scalar!(
        r#"select exists (select from user_credentials where invitation_hash = $1 and invitation_until > now()) as "invited!""#,
        secret_hash(invitation)
    );
    invited.fetch_one(pool).await
}

/// What is changed of a user.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserChange {
    pub role: Option<Role>,
    pub disabled: Option<bool>,
}

/// Why a user's rights stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    #[error("the company would have no admin left")]
    NoAdminLeft,
    #[error("this user never joined, and the invitation counts no longer; invite them anew")]
    NeverJoined,
}

/// A transaction in which nobody else changes users of the company.
pub async fn lock_users(pool: &Pool, company_id: Uuid) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query!("select from user_credentials where company_id = $1 order by user_id for update", company_id).execute(&mut *tx).await?;
    Ok(tx)
}

/// Changes a user's rights, in a transaction that has locked them. Disabling somebody who has not joined withdraws the invitation and
/// gives the address free.
pub async fn change_user(
    tx: &mut PgConnection,
    company_id: Uuid,
    user_id: Uuid,
    change: UserChange,
) -> Result<Result<(), NotChanged>, sqlx::Error> {
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
        return Ok(Err(NotChanged::NeverJoined));
    }
    if change.disabled == Some(true) {
        sqlx::query!("delete from refresh_tokens where user_id = $1", user_id).execute(&mut *tx).await?;
    }
    let admins = sqlx::query_scalar!(
        r#"select exists (select from user_credentials
                           where company_id = $1 and role = 'admin' and disabled_at is null and password_hash is not null) as "left!""#,
        company_id
    );
    Ok(if admins.fetch_one(&mut *tx).await? { Ok(()) } else { Err(NotChanged::NoAdminLeft) })
}

/// How a user and one of their sessions stand now.
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
