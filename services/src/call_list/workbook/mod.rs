//! Workbooks: the call list is the first visible sheet with the column of the phone numbers.

mod archive;
mod biff;
mod cells;
mod hidden_rows;
mod shared_strings;
#[cfg(test)]
mod tests;
pub(super) mod xls;
pub(super) mod xlsx;

use super::{
    Cells, Line, Reading, Sink, Unreadable,
    header_names::{Candidate, describe_missing},
};

/// Rows of one sheet, from the top.
trait Rows {
    /// The next row that holds a cell: its number (the first is 1) and its cells.
    fn next_row(&mut self) -> Result<Option<(u32, Cells)>, Unreadable>;

    /// Whether a row is hidden: by the user, by a filter or by a height of zero. The caller must ask for rows in ascending order.
    fn is_hidden(&mut self, row: u32) -> Result<bool, Unreadable>;
}

/// Sheets that are not a call list.
#[derive(Default)]
struct Passed {
    sheets: Vec<Candidate>,
    hidden: usize,
}

impl Passed {
    fn refuse(&self, reading: Reading<'_>) -> Unreadable {
        let is_empty = self.sheets.iter().all(Candidate::is_empty) && self.hidden == 0;
        if is_empty {
            return Unreadable::Empty;
        }
        Unreadable::NoPhoneColumn { column: reading.phone_column(), detail: describe_missing(&self.sheets, self.hidden) }
    }
}

/// Reads a sheet if its first visible row that is not blank has the column of the phone numbers; otherwise returns the cells of that row, or
/// none if there is no such row.
fn read_sheet(rows: &mut impl Rows, reading: Reading<'_>, sink: Sink<'_>) -> Result<Option<Cells>, Unreadable> {
    let mut has_header = false;
    let mut hidden_above = Vec::new();
    while let Some((row, cells)) = rows.next_row()? {
        if row > reading.limits.rows.saturating_add(1) {
            return Err(Unreadable::TooMany("rows"));
        }
        if cells.is_empty() {
            continue;
        }
        if rows.is_hidden(row)? {
            if has_header {
                sink(row, Line::Hidden)?;
            } else {
                hidden_above.push(row);
            }
            continue;
        }
        if !has_header {
            if !cells.iter().any(|(_, cell)| reading.is_phone_column(cell)) {
                return Ok(Some(cells));
            }
            has_header = true;
            for row in hidden_above.drain(..) {
                sink(row, Line::Hidden)?;
            }
        }
        sink(row, Line::Cells { cells: &cells, note: None })?;
    }
    Ok(if has_header { None } else { Some(Cells::default()) })
}
