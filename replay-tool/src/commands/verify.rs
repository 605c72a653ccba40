//! `verify`: is the log what was appended?

use eventstore::{EventStore, verify};
use serde_json::json;
use sqlx::PgPool;

use crate::{Finding, output::Output};

pub async fn run(pool: &PgPool, store: &EventStore, output: &Output) -> anyhow::Result<Finding> {
    let total = u64::try_from(store.last_position().await?).unwrap_or_default();
    let bar = output.progress("verifying", total);
    let verdict = verify::verify(pool, |position| bar.set_position(u64::try_from(position).unwrap_or_default())).await?;
    bar.finish_and_clear();
    let fault = verdict.fault.as_ref().map(ToString::to_string);
    let value = json!({
        "sound": fault.is_none(),
        "events": verdict.events,
        "last_position": verdict.last_position,
        "last_hash": verdict.last_hash,
        "fault": fault,
    });
    output.result(&value, || match &fault {
        None => format!(
            "The log is sound: {} events, the last at position {}, hash {}.",
            verdict.events, verdict.last_position, verdict.last_hash
        ),
        Some(fault) => format!("The log is NOT sound. {fault}. {} events before are as they were appended.", verdict.events),
    })?;
    Ok(if fault.is_none() { Finding::Sound } else { Finding::NotSound })
}
