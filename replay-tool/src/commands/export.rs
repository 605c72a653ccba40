//! `export`: the log or a read model, for other programs.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::Context as _;
use eventstore::{EventStore, database::Access};

use crate::{
    Finding, WrongUse,
    export::{Events, Format, ReadModel, Scope, read_model, writer},
    output::{Output, steps},
};

pub const EVENTS: &str = "events";

pub async fn run(
    access: &Access,
    store: &EventStore,
    output: &Output,
    what: &str,
    format: Format,
    scope: Scope,
    file: Option<&Path>,
) -> anyhow::Result<Finding> {
    if scope.from.zip(scope.to).is_some_and(|(from, to)| from >= to) {
        return Err(WrongUse("--to must be after --from".to_owned()).into());
    }
    match file {
        None if format == Format::Parquet && io::stdout().is_terminal() => {
            Err(WrongUse("Parquet is not for a terminal: give --output".to_owned()).into())
        }
        None => write(access, store, output, what, format, scope, io::stdout()).await,
        Some(path) => {
            // A file under its final name is complete.
            let mut part = path.as_os_str().to_owned();
            part.push(".part");
            let out = fs::File::create(&part).with_context(|| format!("{} cannot be written", path.display()))?;
            let written = write(access, store, output, what, format, scope, out).await;
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
    access: &Access,
    store: &EventStore,
    output: &Output,
    what: &str,
    format: Format,
    scope: Scope,
    out: impl io::Write + Send,
) -> anyhow::Result<Finding> {
    if what == EVENTS {
        let bar = output.progress(what, store.last_position().await?);
        let mut writer = writer(format, Events::columns(), out)?;
        let progress = |position| bar.set_position(steps(position));
        Events { store, scope }.write(&mut *writer, progress).await?;
        writer.finish()?;
        bar.finish_and_clear();
    } else {
        let mut snapshot = projections::snapshot(access, None, &[read_model::of_table(what)?]).await?;
        // The export has no timeout.
        sqlx::query!("select set_config('statement_timeout', '0', true)").fetch_one(&mut *snapshot).await?;
        let model = ReadModel::find(&mut snapshot, what, scope, format).await?;
        let bar = output.progress(what, model.count(&mut snapshot).await?);
        let mut writer = writer(format, model.columns(), out)?;
        model.write(&mut snapshot, &mut *writer, |rows| bar.set_position(rows)).await?;
        writer.finish()?;
        bar.finish_and_clear();
    }
    Ok(Finding::Sound)
}
