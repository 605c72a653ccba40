//! `rebuild`, `restore`, `compare` and `retry`.

use std::{io::Write as _, sync::Arc};

use eventstore::{EventStore, Pool};
use projections::{
    Projection, all, by_name,
    rebuild::{Difference, Progress, Purpose, Rebuild, RebuildError},
    status,
};
use serde_json::json;
use uuid::Uuid;

use super::credentials;
use crate::{
    Finding, WrongUse,
    output::{Output, steps},
};

pub async fn rebuild(pool: &Pool, store: &EventStore, output: &Output, name: &str, compare: bool) -> anyhow::Result<Finding> {
    let purpose = if compare { Purpose::CompareAndRebuild } else { Purpose::Rebuild };
    for projection in select(name)? {
        run(pool, store, output, projection, purpose, "rebuilt").await?;
    }
    Ok(Finding::Sound)
}

/// Restores the tables from before the last rebuild.
pub async fn restore(pool: &Pool, store: &EventStore, output: &Output, name: &str) -> anyhow::Result<Finding> {
    for projection in select(name)? {
        let restored = run(pool, store, output, projection, Purpose::Restore, "restored").await;
        // With `all`, every projection that can be restored is restored.
        if let Err(error) = restored {
            if name != "all" || !error.is::<Refused>() {
                return Err(error);
            }
            output.note(&error.to_string());
        }
    }
    Ok(Finding::Sound)
}

pub async fn compare(pool: &Pool, store: &EventStore, output: &Output, name: &str) -> anyhow::Result<Finding> {
    let mut differences = 0;
    if ["all", credentials::NAME].contains(&name) {
        differences += credentials::compare(pool, store, output).await?;
    }
    let projections = if name == credentials::NAME { Vec::new() } else { select(name)? };
    for projection in projections {
        differences += run(pool, store, output, projection, Purpose::Compare, "compared").await?;
    }
    Ok(if differences == 0 { Finding::Sound } else { Finding::NotSound })
}

/// Lets a projection that stopped at an event retry it.
pub async fn retry(pool: &Pool, output: &Output, name: &str) -> anyhow::Result<Finding> {
    for projection in select(name)? {
        let name = projection.name();
        let retried = status::retry(&mut *pool.acquire().await?, name).await?;
        output.result(&json!({"projection": name, "retried": retried}), || {
            format!("{name}: {}", if retried { "goes on from the event it stopped at." } else { "has not stopped." })
        })?;
    }
    Ok(Finding::Sound)
}

fn select(name: &str) -> anyhow::Result<Vec<Arc<dyn Projection>>> {
    if name == "all" {
        return Ok(all());
    }
    let known = || all().iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
    Ok(vec![by_name(name).ok_or_else(|| WrongUse(format!("there is no projection '{name}'; there are {}", known())))?])
}

/// Fills a projection's next tables; returns the number of rows that differ.
async fn run(
    pool: &Pool,
    store: &EventStore,
    output: &Output,
    projection: Arc<dyn Projection>,
    purpose: Purpose,
    done: &str,
) -> anyhow::Result<usize> {
    let name = projection.name();
    let bar = output.progress(name, store.last_position().await?);
    let rebuild = Rebuild::begin(pool, store, projection, Uuid::now_v7(), purpose).await.map_err(|error| refusal(name, error))?;
    // The speed of this process must not include the work of an earlier process.
    let mut began = false;
    let mut listed = Vec::new();
    let differences = rebuild.run(|progress| match progress {
        Progress::At { position, head } => {
            bar.set_length(steps(head));
            bar.set_position(steps(position));
            if !std::mem::replace(&mut began, true) {
                bar.reset_eta();
            }
        }
        Progress::Differs(difference) if output.is_json() => listed.push(difference),
        Progress::Differs(difference) => bar.suspend(|| list(&difference)),
    });
    let differences = differences.await.map_err(|error| refusal(name, error))?;
    bar.finish_and_clear();
    let compared = matches!(purpose, Purpose::Compare | Purpose::CompareAndRebuild);
    let listed = if compared { json!(listed) } else { json!(null) };
    let value = json!({"projection": name, "done": done, "differences": listed});
    output.result(&value, || match (compared, differences) {
        (false, _) => format!("{name}: {done}."),
        (true, 0) => format!("{name}: {done}, equal."),
        (true, n) => format!("{name}: {done}, {n} rows differ."),
    })?;
    Ok(differences)
}

/// The reader of the output may be gone, as with `head`; the rebuild continues.
fn list(difference: &Difference) {
    let _ = writeln!(std::io::stdout().lock(), "{} only in {}: {}", difference.table, difference.side, difference.row);
}

/// There is nothing to restore.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn refusal(name: &str, error: RebuildError) -> anyhow::Error {
    match error {
        RebuildError::NothingToRestore(reason) => Refused(format!("{name}: {reason}")).into(),
        error => anyhow::Error::new(error).context(name.to_owned()),
    }
}
