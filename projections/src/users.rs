//! Users, without their secrets.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact, Personal,
    role::Role,
    user::{User, UserEvent},
};
use eventstore::{
    HoldsPersonal, StreamName,
    persons::{Envelope, PersonalValues},
};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{ApplyError, PersonalColumns, Projection, ReadModel, Recorded, Table},
    page::After,
    personal::{envelopes, text_of},
};

pub const READ_MODEL: ReadModel = ReadModel::new("users");

pub struct Users;

const PERSONAL: &[PersonalColumns] = &[PersonalColumns { envelope: "personal", placeholders: &["email"] }];

pub struct UserRow {
    pub user_id: Uuid,
    /// A placeholder until `personal` is opened.
    pub email: String,
    pub role: String,
    /// invited, active or disabled
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub personal: Option<Value>,
}

impl HoldsPersonal for UserRow {
    fn stream(&self) -> String {
        StreamName::of::<User>(self.user_id).to_string()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        envelopes([&self.personal])
    }

    fn reveal(&mut self, values: PersonalValues) {
        for (field, value) in values {
            if field == "/email" {
                self.email = text_of(value);
            }
        }
    }
}

#[async_trait]
impl Projection for Users {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn tables(&self) -> &'static [Table] {
        const { &[Table::by("users", "created_at").with_personal(PERSONAL)] }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[User::CATEGORY]
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        for event in events {
            let Fact::User(fact) = &event.fact else { continue };
            match fact {
                UserEvent::UserRegistered { email, role } => create(db, event, email, *role, "active").await?,
                UserEvent::UserInvited { email, role } => create(db, event, email, *role, "invited").await?,
                UserEvent::UserJoined {} => update(db, event, None, Some("active")).await?,
                UserEvent::UserRoleChanged { role } => update(db, event, Some(*role), None).await?,
                UserEvent::UserDisabled {} => update(db, event, None, Some("disabled")).await?,
                UserEvent::UserEnabled {} => update(db, event, None, Some("enabled")).await?,
            }
        }
        Ok(())
    }
}

async fn create(db: &mut PgConnection, event: &Recorded, email: &Personal<String>, role: Role, status: &str) -> Result<(), ApplyError> {
    sqlx::query!(
        "insert into users (company_id, user_id, email, role, status, joined, created_at, personal) values ($1, $2, $3, $4, $5, $5 = 'active', $6, $7)",
        event.company_id,
        event.id,
        email.reveal(),
        role.to_string(),
        status,
        event.recorded_at,
        event.personal_json()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An enabled user gets the status from before: active if the user has joined, otherwise invited.
async fn update(db: &mut PgConnection, event: &Recorded, role: Option<Role>, status: Option<&str>) -> Result<(), ApplyError> {
    let updated = sqlx::query!(
        "update users
            set role = coalesce($3, role), joined = joined or coalesce($4 = 'active', false),
                status = case when $4 = 'enabled' then case when joined then 'active' else 'invited' end else coalesce($4, status) end
          where company_id = $1 and user_id = $2",
        event.company_id,
        event.id,
        role.map(|role| role.to_string()),
        status
    )
    .execute(db)
    .await?;
    match updated.rows_affected() {
        1 => Ok(()),
        _ => Err(ApplyError::Contradiction(format!("user {} was never there", event.id))),
    }
}

/// The company's users, newest first.
pub async fn list(db: &mut PgConnection, company_id: Uuid, after: Option<After>, limit: i64) -> Result<Vec<UserRow>, sqlx::Error> {
    sqlx::query_as!(
        UserRow,
        "select user_id, email, role, status, created_at, personal from users
          where company_id = $1 and ($2::timestamptz is null or (created_at, user_id) < ($2, $3::uuid))
          order by created_at desc, user_id desc limit $4",
        company_id,
        after.map(|a| a.at),
        after.map(|a| a.id),
        limit
    )
    .fetch_all(db)
    .await
}
