//! Events and read models as tables for other programs: JSON lines, CSV, XLSX, Parquet.

mod column;
mod events;
mod jsonl;
mod parquet;
pub mod read_model;
mod reveal;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use services::tables::{RowWriter, csv, xlsx};
use uuid::Uuid;

use crate::WrongUse;

pub use column::{Column, Kind};
pub use events::Events;
pub use read_model::ReadModel;

/// Selects rows; the period is half-open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    pub company: Option<Uuid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Jsonl,
    Csv,
    /// CSV with a byte-order mark: `--format csv --bom`.
    #[value(skip)]
    CsvWithMark,
    Xlsx,
    Parquet,
}

impl Format {
    /// Whether the output is for programs only, not for a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Xlsx | Self::Parquet)
    }

    /// The format with a byte-order mark.
    pub fn with_mark(self) -> Result<Self, WrongUse> {
        match self {
            Self::Csv | Self::CsvWithMark => Ok(Self::CsvWithMark),
            Self::Jsonl | Self::Xlsx | Self::Parquet => Err(WrongUse("--bom is for CSV only: add --format csv".to_owned())),
        }
    }
}

/// A writer for rows with these columns in a format.
pub fn writer<'a>(format: Format, columns: Vec<Column>, out: impl std::io::Write + Send + 'a) -> anyhow::Result<Box<dyn RowWriter + 'a>> {
    let names = || columns.iter().map(|column| column.name.as_str());
    Ok(match format {
        Format::Jsonl => Box::new(jsonl::Writer::new(columns, out)),
        Format::Csv | Format::CsvWithMark => Box::new(csv::Writer::new(names(), out, format == Format::CsvWithMark)?),
        Format::Xlsx => Box::new(xlsx::Writer::new(names().map(str::to_owned).collect(), out)?),
        Format::Parquet => Box::new(parquet::Writer::new(&columns, out)?),
    })
}
