//! Call lists: spreadsheets from users, read row by row within limits.

mod columns;
mod header_names;
mod row_error;
mod rows;
#[cfg(test)]
mod tests;
mod text;
mod workbook;

use std::collections::HashSet;

use self::columns::Columns;
pub(crate) use self::rows::{CELLS_MAX, Cells, Line, Sink};
pub use self::{
    columns::{Contact, NewContact},
    row_error::{CellError, RowError, RowFault},
    rows::{Limits, Reading, Source, Unreadable},
};

/// Reads the rows of a file in any supported format.
fn read_lines(bytes: &[u8], reading: Reading<'_>, sink: Sink<'_>) -> Result<Source, Unreadable> {
    let of_sheet = |sheet| Source { sheet: Some(sheet), ..Source::default() };
    match bytes {
        [] => Err(Unreadable::Empty),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => workbook::xlsx::read(bytes, reading, sink).map(of_sheet),
        [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1, ..] => workbook::xls::read(bytes, reading, sink).map(of_sheet),
        _ => text::read(bytes, reading, sink).map(|text| Source {
            encoding: Some(text.encoding),
            delimiter: Some(text.delimiter),
            ..Source::default()
        }),
    }
}

/// Reads a call list: every row under the header that is not blank becomes a contact or an error.
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
            (Line::Faulty(message), Some(_)) => each(Err(RowError { row, cell: None, fault: RowFault::Unreadable { detail: message } }))?,
            (Line::Cells { cells, .. }, _) if cells.is_empty() => {}
            (Line::Cells { cells, .. }, None) => columns = Some(Columns::of(cells, reading)?),
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
