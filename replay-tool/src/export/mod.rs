//! Events and read models as tables for other programs: JSON lines, CSV, Parquet.

mod csv;
mod events;
mod jsonl;
mod parquet;
pub mod read_model;
mod table;

use clap::ValueEnum;

use crate::WrongUse;

pub use events::Events;
pub use read_model::ReadModel;
pub use table::{Cell, Column, Kind, RowWriter, Scope};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Jsonl,
    Csv,
    /// CSV with a byte-order mark: `--format csv --bom`.
    #[value(skip)]
    CsvWithMark,
    Parquet,
}

impl Format {
    /// The format with a byte-order mark.
    pub fn with_mark(self) -> Result<Self, WrongUse> {
        match self {
            Self::Csv | Self::CsvWithMark => Ok(Self::CsvWithMark),
            Self::Jsonl | Self::Parquet => Err(WrongUse("--bom is for CSV only: add --format csv".to_owned())),
        }
    }
}

/// A writer for rows with these columns in a format.
pub fn writer<'a>(format: Format, columns: Vec<Column>, out: impl std::io::Write + Send + 'a) -> anyhow::Result<Box<dyn RowWriter + 'a>> {
    Ok(match format {
        Format::Jsonl => Box::new(jsonl::Writer::new(columns, out)),
        Format::Csv | Format::CsvWithMark => Box::new(csv::Writer::new(&columns, out, format == Format::CsvWithMark)?),
        Format::Parquet => Box::new(parquet::Writer::new(&columns, out)?),
    })
}
