//! `export`: the log or a read model, for other programs.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::Context as _;
use eventstore::{Database, EventStore};

use crate::{
    Finding, WrongUse,
    export::{Events, Format, ReadModel, Scope, read_model, writer},
    output::{Output, steps},
};

pub const EVENTS: &str = "events";

/// What to export, and how.
pub struct Export {
    /// `events`, or the name of a table.
    pub what: String,
    pub format: Format,
    pub scope: Scope,
    /// Whether personal values are decrypted.
    pub reveals: bool,
}

pub async fn run(
    database: &Database,
    store: &EventStore,
    output: &Output,
    export: &Export,
    file: Option<&Path>,
) -> anyhow::Result<Finding> {
    if export.scope.from.zip(export.scope.to).is_some_and(|(from, to)| from >= to) {
        return Err(WrongUse("--to must be after --from".to_owned()).into());
    }
    if export.reveals && database.master_key.is_none() {
        return Err(WrongUse("--reveal needs the master key: give --master-key-file, or NEWVOICE_MASTER_KEY".to_owned()).into());
    }
    match file {
        None if export.format.is_binary() && io::stdout().is_terminal() => {
            Err(WrongUse("Parquet and XLSX are not for a terminal: give --output".to_owned()).into())
        }
        None => write(database, store, output, export, io::stdout()).await,
        Some(path) => {
            // A file under its final name is complete.
            let mut part = path.as_os_str().to_owned();
            part.push(".part");
            let out = fs::File::create(&part).with_context(|| format!("{} cannot be written", path.display()))?;
            let written = write(database, store, output, export, out).await;
            match &written {
                Ok(_) => fs::rename(&part, path).with_context(|| format!("{} cannot be written", path.display()))?,
                // The reported error is the one from writing.
                Err(_) => drop(fs::remove_file(&part)),
            }
            written
        }
    }
}

async fn write(
    database: &Database,
    store: &EventStore,
    output: &Output,
    export: &Export,
    out: impl io::Write + Send,
) -> anyhow::Result<Finding> {
    let Export { what, format, scope, reveals } = export;
    if what == EVENTS {
        if *reveals {
            return Err(WrongUse("--reveal is for read models; `history` shows the events of one call or task decrypted".to_owned()).into());
        }
        let bar = output.progress(what, store.last_position().await?);
        let mut writer = writer(*format, Events::columns(), out)?;
        let progress = |position| bar.set_position(steps(position));
        Events { store, scope: *scope }.write(&mut *writer, progress).await?;
        writer.finish()?;
        bar.finish_and_clear();
        return Ok(Finding::Sound);
    }
    let mut snapshot = projections::snapshot(&database.access, None, &[read_model::of_table(what)?]).await?;
    // The export has no timeout.
    sqlx::query!("select set_config('statement_timeout', '0', true)").fetch_one(&mut *snapshot).await?;
    let model = ReadModel::find(&mut snapshot, what, *scope, *format).await?;
    if *reveals {
        model.record_reveal(&database.pool).await?;
    }
    let bar = output.progress(what, model.count(&mut snapshot).await?);
    let mut writer = writer(*format, model.columns(), out)?;
    let persons = reveals.then(|| store.persons());
    model.write(&mut snapshot, persons, &mut *writer, |rows| bar.set_position(rows)).await?;
    writer.finish()?;
    bar.finish_and_clear();
    Ok(Finding::Sound)
}
