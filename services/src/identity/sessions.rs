//! Sessions: a short-lived token, and a refresh token that gets the next token. A refresh token can be used once (RFC 9700, 4.14.2).

use chrono::{DateTime, TimeDelta, Utc};
use domain::role::Role;
use eventstore::Pool;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    caller::{new_secret, secret_hash},
    callers::Callers,
    credentials::UserCredentials,
    tokens::Tokens,
};
use crate::{Refused, ServiceError, UserRef};

/// How long an unused session lasts, in days.
const UNUSED_MAX_DAYS: i32 = 30;
/// Maximum duration of a session: then its user must log in with the password.
const SESSION_MAX: TimeDelta = TimeDelta::days(90);
/// If a refresh token is repeated within this time, in seconds, the sender is the same client, which did not receive the answer.
const REPEAT_SEC: f64 = 10.0;

/// What a client needs to go on.
#[derive(Clone, Debug)]
pub struct Session {
    /// Token for `Authorization: Bearer`
    pub token: String,
    pub expires_at: DateTime<Utc>,
    /// Token for `POST /auth/refresh`, can be used once
    pub refresh_token: String,
    /// 30 days from now, and never more than 90 days after the login
    pub refresh_expires_at: DateTime<Utc>,
}

/// Opens, continues and ends sessions. Opening or continuing a session locks the user's row, so that no session can begin after all
/// sessions of the user were ended.
pub struct Sessions<'a> {
    pub pool: &'a Pool,
    pub tokens: &'a Tokens,
    pub callers: &'a Callers,
}

/// The user of a session.
struct Holder {
    user_id: Uuid,
    company_id: Uuid,
    role: Role,
}

impl Sessions<'_> {
    /// A session of a user who has just shown their password; not if it has changed meanwhile.
    pub async fn open(&self, user: &UserCredentials) -> Result<Session, ServiceError> {
        let mut tx = self.pool.begin().await?;
        let held = sqlx::query_scalar!(
            "select role from user_credentials
              where user_id = $1 and disabled_at is null and pending_since is null and password_hash is not distinct from $2 for share",
            user.user_id,
            user.password_hash
        );
        let role =
            held.fetch_optional(&mut *tx).await?.ok_or_else(|| ServiceError::unauthenticated("these credentials are no longer valid"))?;
        let role = role.parse().map_err(|_| ServiceError::unauthenticated("this user has no role"))?;
        let holder = Holder { user_id: user.user_id, company_id: user.company_id, role };
        let session = self.issue(&mut tx, &holder, Uuid::now_v7()).await?;
        tx.commit().await?;
        Ok(session)
    }

    async fn issue(&self, db: &mut PgConnection, holder: &Holder, family: Uuid) -> Result<Session, ServiceError> {
        let refresh_token = new_secret("nvr_");
        let refresh_expires_at = sqlx::query_scalar!(
            "insert into refresh_tokens (token_hash, family, user_id, company_id, expires_at)
             values ($1, $2, $3, $4, least(now() + make_interval(days => $5), $6)) returning expires_at",
            secret_hash(&refresh_token),
            family,
            holder.user_id,
            holder.company_id,
            UNUSED_MAX_DAYS,
            ends_at(family)
        )
        .fetch_one(db)
        .await?;
        let issued = self.tokens.issue(holder.user_id, holder.company_id, holder.role, family, Utc::now());
        let (token, expires_at) = issued.map_err(|e| ServiceError::internal(&e))?;
        Ok(Session { token, expires_at, refresh_token, refresh_expires_at })
    }

    /// The next tokens of a session, and whose it is. A refresh token that was used some time before ends the session:
    /// another client may have it.
    pub async fn refresh(&self, refresh_token: &str) -> Result<(Session, UserRef), Refused> {
        let refused = || ServiceError::unauthenticated("the refresh token is not valid");
        let hash = secret_hash(refresh_token);
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query!(
            r#"select r.family, r.user_id, r.company_id, c.role, r.used_at is not null as "used!",
                      c.disabled_at is null and r.expires_at > now() as "usable!",
                      coalesce(r.used_at < now() - make_interval(secs => $2), false) as "stolen!"
                 from refresh_tokens r join user_credentials c on c.user_id = r.user_id
                where r.token_hash = $1 for share of c for update of r"#,
            hash,
            REPEAT_SEC
        );
        let row = row.fetch_optional(&mut *tx).await?.ok_or_else(refused)?;
        let user = UserRef { company_id: row.company_id, user_id: row.user_id };
        if row.stolen {
            tx.rollback().await?;
            self.end(row.user_id, row.family).await?;
            return Err(Refused { error: refused(), user: Some(user) });
        }
        let has_ended = ends_at(row.family).is_some_and(|ends_at| ends_at <= Utc::now());
        if !row.usable || has_ended {
            return Err(Refused { error: refused(), user: Some(user) });
        }
        // Two tabs of one browser may send it at the same time: each gets its own successor, and both are valid.
        if !row.used {
            sqlx::query!("update refresh_tokens set used_at = now() where token_hash = $1", hash).execute(&mut *tx).await?;
        }
        let role = row.role.parse().map_err(|_| refused())?;
        let session = self.issue(&mut tx, &Holder { user_id: row.user_id, company_id: row.company_id, role }, row.family).await?;
        tx.commit().await?;
        Ok((session, user))
    }

    /// Changes a user's password and ends all of their sessions.
    pub async fn change_password(&self, user_id: Uuid, password_hash: &str) -> Result<(), ServiceError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!("update user_credentials set password_hash = $2 where user_id = $1", user_id, password_hash).execute(&mut *tx).await?;
        // A separate statement: it also sees the sessions that began while the first statement waited for the lock.
        sqlx::query!("delete from refresh_tokens where user_id = $1", user_id).execute(&mut *tx).await?;
        tx.commit().await?;
        self.callers.forget_all();
        Ok(())
    }

    /// Ends one session of a user.
    pub async fn end(&self, user_id: Uuid, family: Uuid) -> Result<(), ServiceError> {
        self.end_those(user_id, Some(family)).await
    }

    /// Ends all sessions of a user.
    pub async fn end_all(&self, user_id: Uuid) -> Result<(), ServiceError> {
        self.end_those(user_id, None).await
    }

    async fn end_those(&self, user_id: Uuid, family: Option<Uuid>) -> Result<(), ServiceError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!("select from user_credentials where user_id = $1 for update", user_id).execute(&mut *tx).await?;
        sqlx::query!("delete from refresh_tokens where user_id = $1 and ($2::uuid is null or family = $2)", user_id, family)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.callers.forget_all();
        Ok(())
    }
}

/// When a session ends, even if it is used. Its family, a UUIDv7, contains the start time.
fn ends_at(family: Uuid) -> Option<DateTime<Utc>> {
    let (seconds, nanoseconds) = family.get_timestamp()?.to_unix();
    Some(DateTime::from_timestamp(seconds.try_into().ok()?, nanoseconds)? + SESSION_MAX)
}

/// Deletes sessions that can no longer be continued.
pub async fn purge(pool: &Pool) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from refresh_tokens where expires_at < now()").execute(pool).await?;
    Ok(())
}
