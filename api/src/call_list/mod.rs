//! Call lists: spreadsheets as people send them, read row by row within limits.

mod columns;
mod header_names;
#[cfg(test)]
mod tests;
mod text;
mod workbook;

use std::collections::HashSet;

use self::columns::Columns;
pub use self::columns::{Contact, RowError};

/// Cells of one row that are looked at, as many as a sheet of Excel has columns.
const CELLS_MAX: u32 = 16_384;

/// What a file may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows: u32,
    /// Columns that hold a value in some row.
    pub columns: u32,
}

/// How to read a file.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub limits: Limits,
    /// ISO country in which national numbers are read.
    pub region: Option<&'a str>,
}

/// Why a file is no call list; nothing of it is imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the file is empty")]
    Empty,
    #[error("the file is no spreadsheet that can be read (.csv, .xlsx, .xls): {0}")]
    NoSpreadsheet(String),
    #[error("the file is encrypted")]
    Encrypted,
    #[error("the file has too many {0}")]
    TooMany(&'static str),
    #[error("there is no column phone_number; {0}")]
    NoPhoneColumn(String),
    #[error("a column's name holds a NUL character")]
    NulInHeader,
    #[error("the column {0} is there twice")]
    ColumnTwice(&'static str),
    #[error("row {row}, the header, {message}")]
    FaultyHeader { row: u32, message: String },
    #[error("row {row}: a quote opens a cell and is never closed, so that the rest of the file is one cell")]
    OpenQuote { row: u32 },
    #[error("row {row}: a quoted cell goes on over several lines that look like rows of the list; a quote is missing or one too many")]
    StrayQuote { row: u32 },
}

/// The cells of one row that hold something, trimmed, by column (0 is the first).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cells(Vec<(u32, String)>);

impl Cells {
    /// Adds a cell after the others; one without text is left out.
    fn push(&mut self, column: u32, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            self.0.push((column, text.to_owned()));
        }
    }

    fn get(&self, column: u32) -> &str {
        let found = self.0.binary_search_by_key(&column, |(column, _)| *column).ok();
        found.and_then(|at| self.0.get(at)).map_or("", |(_, text)| text)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.0.iter().map(|(column, text)| (*column, text.as_str()))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What stands in one row.
pub(crate) enum Line<'a> {
    Cells {
        cells: &'a Cells,
        /// What is doubtful in it, for the notes of the contact.
        note: Option<&'static str>,
    },
    /// It cannot be read, for this reason.
    Faulty(String),
    /// It is hidden and therefore not read.
    Hidden,
}

/// Called with each row's number (the header is row 1) and content.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(u32, Line<'_>) -> Result<(), Unreadable>;

/// What was read, as the answer reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The sheet of a workbook.
    pub sheet: Option<String>,
    /// Of a text.
    pub encoding: Option<&'static str>,
    pub delimiter: Option<char>,
    /// Rows of the sheet that hold something but are hidden.
    pub hidden_rows: u64,
    /// Columns that are stored under another name than their header.
    pub notes: Vec<String>,
}

/// Reads the rows of a file of any kind.
fn read_lines(bytes: &[u8], reading: Reading<'_>, sink: Sink<'_>) -> Result<Source, Unreadable> {
    let of_sheet = |sheet| Source { sheet: Some(sheet), ..Source::default() };
    match bytes {
        [] => Err(Unreadable::Empty),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => workbook::xlsx::read(bytes, reading.limits, sink).map(of_sheet),
        [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1, ..] => workbook::xls::read(bytes, reading.limits, sink).map(of_sheet),
        _ => text::read(bytes, reading, sink).map(|text| Source {
            encoding: Some(text.encoding),
            delimiter: Some(text.delimiter),
            ..Source::default()
        }),
    }
}

/// Reads a call list: every row under the header that is not blank is a contact or an error.
pub fn read_contacts(
    bytes: &[u8],
    reading: Reading<'_>,
    mut each: impl FnMut(Result<Contact, RowError>) -> Result<(), Unreadable>,
) -> Result<Source, Unreadable> {
    let limits = reading.limits;
    let mut columns: Option<Columns> = None;
    let mut used_columns: HashSet<u32> = HashSet::new();
    let mut hidden_rows = 0;
    let source = read_lines(bytes, reading, &mut |row, line| {
        if row > limits.rows.saturating_add(1) {
            return Err(Unreadable::TooMany("rows"));
        }
        match (line, &mut columns) {
            (Line::Hidden, _) => hidden_rows += 1,
            (Line::Faulty(message), None) => return Err(Unreadable::FaultyHeader { row, message }),
            (Line::Faulty(message), Some(_)) => each(Err(RowError { row, message }))?,
            (Line::Cells { cells, .. }, _) if cells.is_empty() => {}
            (Line::Cells { cells, .. }, None) => columns = Some(Columns::of(cells, limits)?),
            (Line::Cells { cells, note }, Some(columns)) => {
                used_columns.extend(cells.iter().map(|(column, _)| column));
                if used_columns.len() > limits.columns as usize {
                    return Err(Unreadable::TooMany("columns"));
                }
                each(columns.contact(row, cells, reading.region).map(|mut contact| {
                    contact.notes.extend(note.map(str::to_owned));
                    contact
                }))?;
            }
        }
        Ok(())
    })?;
    let columns = columns.ok_or(Unreadable::Empty)?;
    Ok(Source { hidden_rows, notes: columns.notes, ..source })
}
