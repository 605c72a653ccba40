//! `export`: events as lines of JSON, or as CSV that no spreadsheet takes for formulas.

use std::io::{BufWriter, Write};

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use eventstore::{EventStore, StoredEvent};
use uuid::Uuid;

use super::history::to_json;
use crate::{Finding, WrongUse, output::Output};

const PAGE: i64 = 2_000;
const COLUMNS: [&str; 11] = [
    "position",
    "stream",
    "version",
    "event_id",
    "event_type",
    "schema_version",
    "company_id",
    "occurred_at",
    "recorded_at",
    "payload",
    "metadata",
];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Jsonl,
    Csv,
}

enum Writer<W: Write> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> Writer<W> {
    fn new(format: Format, out: W) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(out),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(COLUMNS)?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    fn write(&mut self, event: &StoredEvent) -> anyhow::Result<()> {
        match self {
            Self::Jsonl(out) => Ok(writeln!(out, "{}", to_json(event)?)?),
            Self::Csv(writer) => Ok(writer.write_record(record(event)?.iter().map(|cell| escape(cell)))?),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Jsonl(out) => Ok(out.flush()?),
            Self::Csv(writer) => Ok(writer.flush()?),
        }
    }
}

fn record(event: &StoredEvent) -> anyhow::Result<[String; 11]> {
    Ok([
        event.position.to_string(),
        event.stream.to_string(),
        event.version.to_string(),
        event.event_id.to_string(),
        event.event_type.clone(),
        event.schema_version.to_string(),
        event.company_id.to_string(),
        event.occurred_at.to_rfc3339(),
        event.recorded_at.to_rfc3339(),
        event.payload()?.to_string(),
        serde_json::to_string(&event.metadata()?)?,
    ])
}

/// A cell that a spreadsheet would take for a formula gets an apostrophe before it (OWASP ASVS 5.0, 1.2.10).
fn escape(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) { format!("'{cell}") } else { cell.to_owned() }
}

pub async fn run(
    store: &EventStore,
    output: &Output,
    format: Format,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    company: Option<Uuid>,
) -> anyhow::Result<Finding> {
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(WrongUse("--to must be after --from".to_owned()).into());
    }
    let wanted = |event: &StoredEvent| {
        from.is_none_or(|from| event.recorded_at >= from) && company.is_none_or(|company| event.company_id == company)
    };
    let head = store.last_position().await?;
    let bar = output.progress("exporting", u64::try_from(head).unwrap_or_default());
    let mut writer = Writer::new(format, BufWriter::new(std::io::stdout().lock()))?;
    let mut position = 0;
    'pages: while position < head {
        let page = store.read_page(position, PAGE).await?;
        for event in &page {
            // recorded_at never goes back: nothing after this one belongs to the period.
            if event.position > head || to.is_some_and(|to| event.recorded_at >= to) {
                break 'pages;
            }
            if wanted(event) {
                writer.write(event)?;
            }
        }
        position = page.last().map_or(head, |event| event.position);
        bar.set_position(u64::try_from(position).unwrap_or_default());
    }
    writer.flush()?;
    bar.finish_and_clear();
    Ok(Finding::Sound)
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(escape("+12025550100"), "'+12025550100");
        assert_eq!(escape("=1+1"), "'=1+1");
        assert_eq!(escape("{\"a\": 1}"), "{\"a\": 1}");
    }
}
