//! `verify`: checks that the log is unchanged since its events were appended.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use eventstore::{
    EventStore, Pool,
    seal::{KeyFingerprint, Seal, Succession},
    verify::{self, Scope, Verdict},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Finding, WrongUse,
    output::{Output, steps},
};

pub async fn run(
    pool: &Pool,
    store: &EventStore,
    output: &Output,
    from: Option<i64>,
    seals: Option<&Path>,
    keys: &[PathBuf],
) -> anyhow::Result<Finding> {
    let head = store.last_position().await?;
    if from.is_some_and(|from| from < 1 || from > head.max(1)) {
        return Err(WrongUse(format!("--from must be a position from 1 to {head}")).into());
    }
    let (successions, seals) = match seals {
        Some(file) => {
            let read = read_seals(file)?;
            if read.1.is_empty() {
                output.note(&format!("{} has no seal: the log is compared with the database's own seals only.", file.display()));
            }
            read
        }
        None => (Vec::new(), Vec::new()),
    };
    let keys = keys
        .iter()
        .map(|path| KeyFingerprint::read(path).map_err(|error| WrongUse(format!("there is no public key in {}: {error}", path.display()))));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let any_key = keys.is_empty();
    let first = from.unwrap_or(1);
    let bar = output.progress("verifying", head - first + 1);
    let progress = |position: i64| bar.set_position(steps(position - first + 1));
    let verdict = verify::verify(pool, Scope { from, seals, keys, successions }, progress).await?;
    bar.finish_and_clear();
    let fault = verdict.fault.as_ref().map(ToString::to_string);
    let value = json!({
        "sound": fault.is_none(),
        "events": verdict.events,
        "first_position": verdict.first_position,
        "last_position": verdict.last_position,
        "last_hash": verdict.last_hash,
        "seals": verdict.seals,
        "sealed_until": verdict.sealed_until,
        "fault": fault,
    });
    output.result(&value, || report(&verdict, fault.as_deref(), any_key))?;
    Ok(if fault.is_none() { Finding::Sound } else { Finding::NotSound })
}

fn report(verdict: &Verdict, fault: Option<&str>, any_key: bool) -> String {
    if let Some(fault) = fault {
        return format!("The log is NOT sound: {fault}. {} events before are as they were appended.", verdict.events);
    }
    let sealed = match verdict.sealed_until {
        None => "Nobody has sealed it: that its tail was not cut off or all of it made anew cannot be told.".to_owned(),
        Some(until) if any_key => {
            format!("{} seals fit, the last at position {until}; whose they are was not checked (--seal-key does).", verdict.seals)
        }
        Some(until) => format!("{} seals fit, the last at position {until}.", verdict.seals),
    };
    format!(
        "The log is sound: {} events from position {} to {}, hash {}.\n{sealed}",
        verdict.events, verdict.first_position, verdict.last_position, verdict.last_hash
    )
}

/// A line that `seals` writes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Succession(Succession),
    Seal(Seal),
}

fn read_seals(path: &Path) -> anyhow::Result<(Vec<Succession>, Vec<Seal>)> {
    let file = fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let lines = (1..).zip(BufReader::new(file).lines());
    let (mut successions, mut seals) = (Vec::new(), Vec::new());
    for (n, line) in lines.filter(|(_, line)| line.as_ref().map_or(true, |line| !line.trim().is_empty())) {
        let line = serde_json::from_str(&line?);
        match line.map_err(|_| WrongUse(format!("line {n} of {} is neither a seal nor the naming of a key", path.display())))? {
            Line::Succession(succession) => successions.push(succession),
            Line::Seal(seal) => seals.push(seal),
        }
    }
    Ok((successions, seals))
}
