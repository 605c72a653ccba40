//! Records of delimited text (RFC 4180), as the csv crate reads them, with one exception: a quote that opens a cell and is never closed is
//! an error, and not a cell that holds the rest of the file.
//!
//! - A quote opens a quoted cell only as the cell's first character; elsewhere in an unquoted cell it is an ordinary character (`5" pipe`).
//! - Inside a quoted cell two quotes stand for one, and line ends and delimiters are text.
//! - If a quoted cell is still open at the end of the file, the file is refused.
//! - Blanks after the closing quote are ignored. Other text after it makes the row an error; if the cell holds line ends as well, the file
//!   is refused, because the quotes are misplaced and may have swallowed other rows.
//! - If the content of a quoted cell with line ends looks like rows of the list, the file is refused; see `swallowed.rs`.
//!
//! A record is one row, regardless of the number of lines inside its quotes; an empty line is a row too.

use super::super::{CELLS_MAX, Unreadable};

/// One record. Its buffers are reused for the next record.
#[derive(Default)]
pub(super) struct Record {
    pub row: u32,
    text: Vec<u8>,
    /// The end of each cell in `text`.
    ends: Vec<usize>,
    /// Quoted cells with line ends: the column, and the range of the cell's text in the data.
    pub multi_line: Vec<(usize, std::ops::Range<usize>)>,
    pub has_text_after_quote: bool,
}

impl Record {
    pub fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }

    pub fn width(&self) -> usize {
        self.ends.len()
    }

    pub fn is_blank(&self) -> bool {
        are_blank(self.cells())
    }
}

/// Whether all cells of a row are blank.
pub(super) fn are_blank<'c>(mut cells: impl Iterator<Item = &'c [u8]>) -> bool {
    cells.all(|cell| cell.trim_ascii().is_empty())
}

pub(super) struct Records<'a> {
    data: &'a [u8],
    at: usize,
    delimiter: u8,
    row: u32,
}

impl<'a> Records<'a> {
    pub fn new(data: &'a [u8], delimiter: u8) -> Self {
        Self { data, at: 0, delimiter, row: 0 }
    }

    /// Reads the next record into `record`; returns false at the end of the data.
    pub fn read(&mut self, record: &mut Record) -> Result<bool, Unreadable> {
        if self.at >= self.data.len() {
            return Ok(false);
        }
        self.row = self.row.saturating_add(1);
        record.row = self.row;
        record.text.clear();
        record.ends.clear();
        record.multi_line.clear();
        record.has_text_after_quote = false;
        loop {
            if self.data.get(self.at) == Some(&b'"') {
                self.read_quoted(record)?;
            } else {
                record.text.extend_from_slice(self.advance_to_end_of_cell());
            }
            record.ends.push(record.text.len());
            if record.ends.len() > CELLS_MAX as usize {
                return Err(Unreadable::TooMany("columns"));
            }
            match self.data.get(self.at..).unwrap_or_default() {
                [b'\r', b'\n', ..] => self.at += 2,
                [b'\r' | b'\n', ..] => self.at += 1,
                [] => {}
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            return Ok(true);
        }
    }

    fn advance_to_end_of_cell(&mut self) -> &'a [u8] {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|b| *b == self.delimiter || matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn read_quoted(&mut self, record: &mut Record) -> Result<(), Unreadable> {
        let start = self.at + 1;
        self.at = start;
        loop {
            let rest = self.data.get(self.at..).unwrap_or_default();
            let quote = rest.iter().position(|b| *b == b'"').ok_or(Unreadable::OpenQuote { row: record.row })?;
            record.text.extend_from_slice(rest.get(..quote).unwrap_or_default());
            self.at += quote + 1;
            if self.data.get(self.at) != Some(&b'"') {
                break;
            }
            record.text.push(b'"');
            self.at += 1;
        }
        let inside = start..self.at - 1;
        if self.data.get(inside.clone()).unwrap_or_default().iter().any(|b| matches!(b, b'\r' | b'\n')) {
            record.multi_line.push((record.ends.len(), inside));
        }
        let after = self.advance_to_end_of_cell();
        if !after.iter().all(u8::is_ascii_whitespace) {
            record.has_text_after_quote = true;
            record.text.extend_from_slice(after);
        }
        Ok(())
    }
}
