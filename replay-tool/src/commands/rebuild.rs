//! `rebuild` and `compare`.

use std::sync::Arc;

use anyhow::Context as _;
use eventstore::EventStore;
use projections::{
    Feed, Projection, all, by_name,
    rebuild::{DIFFERENCES_MAX, Difference, Rebuild, Then},
};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{Finding, WrongUse, output::Output};

pub async fn rebuild(pool: &PgPool, store: EventStore, output: &Output, name: &str, compare: bool) -> anyhow::Result<Finding> {
    let then = if compare { Then::CompareAndSwap } else { Then::Swap };
    each(pool, store, output, name, then, "rebuilt").await?;
    Ok(Finding::Sound)
}

pub async fn compare(pool: &PgPool, store: EventStore, output: &Output, name: &str) -> anyhow::Result<Finding> {
    let differences = each(pool, store, output, name, Then::CompareOnly, "compared").await?;
    Ok(if differences == 0 { Finding::Sound } else { Finding::NotSound })
}

fn select(name: &str) -> anyhow::Result<Vec<Arc<dyn Projection>>> {
    if name == "all" {
        return Ok(all());
    }
    let known = || all().iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
    Ok(vec![by_name(name).ok_or_else(|| WrongUse(format!("there is no projection '{name}'; there are {}", known())))?])
}

/// Runs over the named projections; answers how many differing rows were found.
async fn each(pool: &PgPool, store: EventStore, output: &Output, name: &str, then: Then, done: &str) -> anyhow::Result<usize> {
    let feed = Feed::new(store.clone());
    let mut found = 0;
    for projection in select(name)? {
        let name = projection.name();
        let bar = output.progress(name, u64::try_from(store.last_position().await?).unwrap_or_default());
        let rebuild = Rebuild::begin(pool, &feed, projection, Uuid::now_v7(), then).await.with_context(|| name.to_owned())?;
        let differences = rebuild.run(|progress| {
            bar.set_length(u64::try_from(progress.head).unwrap_or_default());
            bar.set_position(u64::try_from(progress.position).unwrap_or_default());
        });
        let differences = differences.await.with_context(|| name.to_owned())?;
        bar.finish_and_clear();
        found += differences.len();
        let compared = then != Then::Swap;
        let value = json!({"projection": name, "done": done, "differences": if compared { json!(differences) } else { json!(null) }});
        output.result(&value, || describe(name, done, compared, &differences))?;
    }
    Ok(found)
}

fn describe(name: &str, done: &str, compared: bool, differences: &[Difference]) -> String {
    let mut text = match (compared, differences.len()) {
        (false, _) => format!("{name}: {done}."),
        (true, 0) => format!("{name}: {done}, equal."),
        (true, n) => format!("{name}: {done}, {n} rows differ (at most {DIFFERENCES_MAX} are listed per table and side):"),
    };
    for difference in differences {
        text.push_str(&format!("\n  {} only in {}: {}", difference.table, difference.side, difference.row));
    }
    text
}
