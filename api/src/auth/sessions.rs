//! Sessions: a short-lived token, and a refresh token to get the next one with. Refresh tokens are used once (RFC 9700, 4.14.2).

use chrono::{DateTime, Utc};
use domain::role::Role;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{credentials::UserCredentials, new_secret, secret_hash, tokens::Tokens};
use crate::problem::Problem;

/// How long a session lasts that nobody uses, in days.
const SESSION_DAYS: i32 = 30;
/// A refresh token that comes again so soon, in seconds, comes from the same client, which did not get the answer.
const REPEAT_SEC: f64 = 10.0;

/// What a client needs to go on.
#[derive(Serialize, ToSchema)]
pub struct Session {
    /// For `Authorization: Bearer`
    pub token: String,
    pub expires_at: DateTime<Utc>,
    /// For `POST /auth/refresh`, once
    pub refresh_token: String,
    pub refresh_expires_at: DateTime<Utc>,
}

/// Opens, goes on with and ends sessions.
pub struct Sessions<'a> {
    pub pool: &'a PgPool,
    pub tokens: &'a Tokens,
}

/// Whose a session is.
struct Holder {
    user_id: Uuid,
    company_id: Uuid,
    role: Role,
}

impl Sessions<'_> {
    pub async fn open(&self, user: &UserCredentials) -> Result<Session, Problem> {
        let holder = Holder { user_id: user.user_id, company_id: user.company_id, role: user.role()? };
        self.issue(&holder, Uuid::now_v7()).await
    }

    async fn issue(&self, holder: &Holder, family: Uuid) -> Result<Session, Problem> {
        let refresh_token = new_secret("nvr_");
        let refresh_expires_at = sqlx::query_scalar!(
            "insert into refresh_tokens (token_hash, family, user_id, company_id, expires_at)
             values ($1, $2, $3, $4, now() + make_interval(days => $5)) returning expires_at",
            secret_hash(&refresh_token),
            family,
            holder.user_id,
            holder.company_id,
            SESSION_DAYS
        )
        .fetch_one(self.pool)
        .await?;
        let issued = self.tokens.issue(holder.user_id, holder.company_id, holder.role, family, Utc::now());
        let (token, expires_at) = issued.map_err(|e| Problem::internal(&e))?;
        Ok(Session { token, expires_at, refresh_token, refresh_expires_at })
    }

    /// The next token of a session. A refresh token that was used before ends the session: somebody else may have it.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Session, Problem> {
        let refused = || Problem::unauthorized("the refresh token is not valid");
        let row = sqlx::query!(
            r#"with used as (
                   update refresh_tokens set used_at = now() where token_hash = $1 and used_at is null and expires_at > now()
               )
               select r.family, r.user_id, r.company_id, c.role,
                      c.disabled_at is null and r.expires_at > now() as "usable!",
                      r.used_at is null or r.used_at > now() - make_interval(secs => $2) as "first!"
                 from refresh_tokens r join user_credentials c on c.user_id = r.user_id
                where r.token_hash = $1"#,
            secret_hash(refresh_token),
            REPEAT_SEC
        );
        let row = row.fetch_optional(self.pool).await?.ok_or_else(refused)?;
        let holder = Holder { user_id: row.user_id, company_id: row.company_id, role: row.role.parse().map_err(|_| refused())? };
        if !row.first {
            self.end(row.family).await?;
        }
        if !row.usable || !row.first {
            return Err(refused().about(row.company_id, row.user_id));
        }
        self.issue(&holder, row.family).await
    }

    /// Ends one session.
    pub async fn end(&self, family: Uuid) -> Result<(), Problem> {
        sqlx::query!("delete from refresh_tokens where family = $1", family).execute(self.pool).await?;
        Ok(())
    }

    /// Ends all sessions of a user.
    pub async fn end_all(&self, user_id: Uuid) -> Result<(), Problem> {
        sqlx::query!("delete from refresh_tokens where user_id = $1", user_id).execute(self.pool).await?;
        Ok(())
    }
}

/// Forgets sessions that nobody can go on with.
pub async fn purge(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from refresh_tokens where expires_at < now() or used_at < now() - interval '1 day'").execute(pool).await?;
    Ok(())
}
