//! `partitions`: detaches old partitions from the log, and attaches them.

use anyhow::anyhow;
use clap::Subcommand;
use eventstore::{EventStore, StoreError};
use serde_json::json;

use crate::{Finding, output::Output};

#[derive(Subcommand)]
pub enum Action {
    /// Detach the oldest partition. Its table is kept and can be dumped, moved and dropped. Until it is attached again, its events cannot
    /// be shown and no projection can be rebuilt.
    DetachOldest,
    /// Attach the newest of the detached partitions; its table must exist.
    AttachNewest,
}

pub async fn run(store: &EventStore, output: &Output, action: Option<Action>) -> anyhow::Result<Finding> {
    match action {
        None => {
            let partitions = store.partitions().await?;
            let value = json!({"items": partitions});
            output.result(&value, || {
                let lines = partitions.iter().map(|p| {
                    let state = if p.attached { "" } else { "  detached" };
                    format!("{:<24} positions {} to {}{state}", p.name, p.first, p.last)
                });
                lines.collect::<Vec<_>>().join("\n")
            })?;
        }
        Some(Action::DetachOldest) => {
            let name = store.detach_oldest_partition().await.map_err(refusal)?;
            output.result(&json!({"detached": name}), || format!("{name} is no longer part of the log; its table is still there."))?;
        }
        Some(Action::AttachNewest) => {
            let name = store.attach_newest_partition().await.map_err(refusal)?;
            output.result(&json!({"attached": name}), || format!("{name} is part of the log again."))?;
        }
    }
    Ok(Finding::Sound)
}

/// The database's own message about the refusal.
fn refusal(error: StoreError) -> anyhow::Error {
    match &error {
        StoreError::Database(sqlx::Error::Database(refused)) if refused.code().as_deref() == Some("NV002") => {
            anyhow!("{}", refused.message())
        }
        StoreError::Database(sqlx::Error::Database(refused)) if refused.code().as_deref() == Some("55P03") => {
            anyhow!("the log is in use: somebody reads or writes the whole of it just now; try again")
        }
        _ => error.into(),
    }
}
