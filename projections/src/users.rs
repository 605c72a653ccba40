//! Users, without their secrets.

use async_trait::async_trait;
use domain::{
    Decider, Fact,
    user::{User, UserEvent},
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::projection::{ApplyError, Projection, Recorded, Table};

pub struct Users;

pub struct UserRow {
    pub user_id: Uuid,
    pub email: String,
    pub role: String,
}

#[async_trait]
impl Projection for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("users", "created_at")] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[User::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            let Fact::User(UserEvent::UserRegistered { email, role }) = &event.fact else { continue };
            sqlx::query!(
                "insert into users (company_id, user_id, email, role, created_at) values ($1, $2, $3, $4, $5)",
                event.company_id,
                event.id,
                email.reveal(),
                role.to_string(),
                event.recorded_at
            )
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

pub async fn get(pool: &PgPool, company_id: Uuid, user_id: Uuid) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as!(UserRow, "select user_id, email, role from users where company_id = $1 and user_id = $2", company_id, user_id)
        .fetch_optional(pool)
        .await
}
