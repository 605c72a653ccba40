//! `newvoice operator`: manages the operators of the installation. The right can only be given on the machine, never over the API.

use axum::http::StatusCode;
use clap::Subcommand;
use domain::{company::Company, email::canonical_email, user::User};
use eventstore::{Actor, ActorKind, Database, EventStore, StoreError};

use services::identity::{
    credentials::{self, UserCredentials},
    operators,
};

use crate::edge::{Audit, AuditSubject, audit::AuditEntry};

#[derive(Clone, Debug, Subcommand)]
pub enum OperatorCommand {
    /// Give a user the operator's right: to rebuild, restore and retry projections, and to see the errors that stopped them.
    Add {
        /// The user's login address.
        email: String,
    },
    /// List the operators.
    List,
    /// Revoke a user's operator right.
    Remove {
        /// The user's login address.
        email: String,
    },
}

/// Why a command changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("no user logs in with {0}; register or accept an invitation first")]
    UnknownAddress(String),
    #[error("the database was opened without a master key")]
    NoMasterKey,
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs the command and prints its result. Running processes apply a change within ten seconds.
pub async fn run(database: &Database, command: OperatorCommand) -> Result<(), OperatorError> {
    match command {
        OperatorCommand::Add { email } => {
            let user = find_user(database, &email).await?;
            let added = operators::add(&mut *database.access.identity.acquire().await?, user.user_id).await?;
            if added {
                record_change(database, &user, "operator add").await;
            }
            println!("{email} is an operator{}", if added { "" } else { " already" });
        }
        OperatorCommand::Remove { email } => {
            let user = find_user(database, &email).await?;
            let removed = operators::remove(&mut *database.access.identity.acquire().await?, user.user_id).await?;
            if removed {
                record_change(database, &user, "operator remove").await;
            }
            println!("{email} is {} operator", if removed { "no longer an" } else { "not an" });
        }
        OperatorCommand::List => list(database).await?,
    }
    Ok(())
}

async fn find_user(database: &Database, email: &str) -> Result<UserCredentials, OperatorError> {
    let master = database.master_key.as_ref().ok_or(OperatorError::NoMasterKey)?;
    let hash = credentials::email_hash(master, &canonical_email(email).unwrap_or_default());
    let user = credentials::user(&database.access.identity, &hash).await?;
    let joined = user.filter(|user| user.password_hash.is_some() && user.pending_since.is_none());
    joined.ok_or_else(|| OperatorError::UnknownAddress(email.to_owned()))
}

/// Writes the change to the audit of the user's company.
async fn record_change(database: &Database, user: &UserCredentials, action: &str) {
    let audit = Audit::start(database.access.identity.clone());
    let actor = Actor { kind: ActorKind::System, id: None, name: Some("newvoice operator".to_owned()) };
    let subject = AuditSubject { company_id: user.company_id, actor };
    audit.note(AuditEntry::new(Some(subject), action.to_owned(), format!("/users/{}", user.user_id), StatusCode::OK, None, None));
    audit.flush().await;
}

async fn list(database: &Database) -> Result<(), OperatorError> {
    let rows = operators::list(&database.access.identity).await?;
    if rows.is_empty() {
        println!("there is no operator; newvoice operator add <email> makes one");
    }
    let store = EventStore::open(database);
    for row in rows {
        let user = store.load_fresh::<User>(row.company_id, row.user_id).await?;
        let company = store.load_fresh::<Company>(row.company_id, row.company_id).await?;
        let email = user.state.present().map_or_else(|| row.user_id.to_string(), |user| user.email.reveal().clone());
        let company = company.state.present().map_or_else(|| row.company_id.to_string(), |profile| profile.name.clone());
        let disabled = if row.disabled_at.is_some() { ", disabled" } else { "" };
        println!("{email}\t{company}\tsince {}{disabled}", row.operator_since.format("%Y-%m-%d %H:%M UTC"));
    }
    Ok(())
}
