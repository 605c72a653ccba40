//! The rows of a file, the options for reading, and the reasons why a file is not a call list.

use super::header_names::{self, PHONE_NUMBER};

/// Maximum number of cells that are read in one row: the number of columns of an Excel sheet.
pub(crate) const CELLS_MAX: u32 = 16_384;

/// Limits for the content of a file.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows: u32,
    /// Maximum number of columns that hold a value in some row.
    pub columns: u32,
}

/// Options for reading a file.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub limits: Limits,
    /// ISO country for phone numbers in national format.
    pub region: Option<&'a str>,
    /// Header of the column with the phone numbers; by default `phone_number`.
    pub phone_column: Option<&'a str>,
}

impl Reading<'_> {
    /// Whether a header cell is that of the phone numbers, without regard to case, surrounding blanks and invisible characters.
    pub(super) fn is_phone_column(&self, header: &str) -> bool {
        let header = header_names::lower_case(header);
        self.phone_column.map_or_else(|| header == PHONE_NUMBER, |column| header == header_names::lower_case(column))
    }

    /// The name of the column with the phone numbers, for messages.
    pub(super) fn phone_column(&self) -> String {
        self.phone_column.map_or_else(|| PHONE_NUMBER.to_owned(), header_names::cut)
    }
}

/// Why a file is not a call list; no row of it is imported.
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
    #[error("there is no column {column}; {detail}")]
    NoPhoneColumn { column: String, detail: String },
    #[error("a column's name holds a NUL character")]
    NulInHeader,
    #[error("the column {0} is there twice")]
    ColumnTwice(String),
    #[error("row {row}, the header, {message}")]
    FaultyHeader { row: u32, message: String },
    #[error("row {row}: a quote opens a cell and is never closed, so that the rest of the file is one cell")]
    OpenQuote { row: u32 },
    #[error("row {row}: a quoted cell goes on over several lines that look like rows of the list; a quote is missing or one too many")]
    StrayQuote { row: u32 },
}

/// The non-empty cells of one row, trimmed, by column (0 is the first).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cells(Vec<(u32, String)>);

impl Cells {
    /// Adds a cell after the others; a cell without text is skipped.
    pub(crate) fn push(&mut self, column: u32, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            self.0.push((column, text.to_owned()));
        }
    }

    pub(crate) fn get(&self, column: u32) -> &str {
        let found = self.0.binary_search_by_key(&column, |(column, _)| *column).ok();
        found.and_then(|at| self.0.get(at)).map_or("", |(_, text)| text)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.0.iter().map(|(column, text)| (*column, text.as_str()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The content of one row.
pub(crate) enum Line<'a> {
    Cells {
        cells: &'a Cells,
        /// A doubt about the row, for the notes of the contact.
        note: Option<&'static str>,
    },
    /// The row cannot be read, for this reason.
    Faulty(String),
    /// The row is hidden and therefore skipped.
    Hidden,
}

/// A callback that gets each row's number (the header is row 1) and content.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(u32, Line<'_>) -> Result<(), Unreadable>;

/// Properties of the file, as the answer reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Name of the sheet, for a workbook.
    pub sheet: Option<String>,
    /// Encoding, for a text file.
    pub encoding: Option<&'static str>,
    pub delimiter: Option<char>,
    /// Rows of the sheet that hold a value but are hidden.
    pub hidden_rows: u64,
    /// Notes about columns that are stored under a name other than their header.
    pub notes: Vec<String>,
}
