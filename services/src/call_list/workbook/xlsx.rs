//! `.xlsx`, cell by cell: a sheet with a single cell far from the origin takes no more memory than that cell. A file of some kilobytes may
//! use one long text in many cells, so a text is copied only after its length and the length of the row are checked.

use std::{
    borrow::Cow,
    collections::HashSet,
    io::{Cursor, Read, Seek},
};

use calamine::{DataRef, Reader as _, SheetType, SheetVisible, Xlsx, XlsxCellReader, XlsxError};

use super::{
    super::{CELLS_MAX, Cells, Reading, Sink, Unreadable, header_names::Candidate},
    Passed, Rows,
    archive::check_archive,
    cells::text_of,
    hidden_rows::{HiddenRows, Parts},
    read_sheet,
};

/// Maximum number of sheets in one workbook.
const SHEETS_MAX: usize = 1_000;
/// Maximum number of characters in one cell: Excel's own limit.
const CELL_MAX_CHARS: usize = 32_767;
/// Maximum size of the text of one row, in bytes. The limit for a contact is lower, see `ROW_MAX_BYTES`.
const ROW_TEXT_MAX_BYTES: usize = 1 << 20;

/// Reads the call list of a workbook; returns the name of its sheet.
pub(in super::super) fn read(bytes: &[u8], reading: Reading<'_>, sink: Sink<'_>) -> Result<String, Unreadable> {
    check_archive(bytes)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(unreadable)?;
    let mut parts = Parts::open(bytes)?;
    let sheets = book.sheets_metadata().to_vec();
    if sheets.len() > SHEETS_MAX {
        return Err(Unreadable::TooMany("sheets"));
    }
    let mut names = HashSet::new();
    if !sheets.iter().all(|sheet| names.insert(&sheet.name)) {
        return Err(Unreadable::NoSpreadsheet("two sheets have the same name".to_owned()));
    }
    let mut passed = Passed::default();
    for (number, sheet) in sheets.iter().enumerate().filter(|(_, sheet)| sheet.typ == SheetType::WorkSheet) {
        if sheet.visible != SheetVisible::Visible {
            passed.hidden += 1;
            continue;
        }
        let cells = book.worksheet_cells_reader(&sheet.name).map_err(unreadable)?;
        let mut rows = SheetRows { cells, ahead: None, at_end: false, hidden: parts.hidden_rows(number)? };
        match read_sheet(&mut rows, reading, sink)? {
            None => return Ok(sheet.name.clone()),
            Some(cells) => passed.sheets.push(Candidate::new(Some(&sheet.name), cells.iter().map(|(_, cell)| cell))),
        }
    }
    Err(passed.refuse(reading))
}

struct SheetRows<'c, 'p, 'a, RS: Read + Seek> {
    cells: XlsxCellReader<'c, RS>,
    /// The first cell of the next row.
    ahead: Option<SheetCell<'c>>,
    at_end: bool,
    hidden: HiddenRows<'p, 'a>,
}

/// A non-empty cell: row and column from 0, and its text, which may be borrowed from a shared string.
struct SheetCell<'c> {
    row: u32,
    column: u32,
    text: Cow<'c, str>,
}

impl<'c, RS: Read + Seek> SheetRows<'c, '_, '_, RS> {
    fn next_cell(&mut self) -> Result<Option<SheetCell<'c>>, Unreadable> {
        // The reader must not be called after the end.
        while !self.at_end {
            let Some(cell) = self.cells.next_cell().map_err(unreadable)? else {
                self.at_end = true;
                break;
            };
            let value = cell.get_value();
            let text = text_of(value);
            if text.is_empty() {
                continue;
            }
            let (row, column) = cell.get_position();
            if column >= CELLS_MAX {
                return Err(Unreadable::TooMany("columns"));
            }
            if text.len() > CELL_MAX_CHARS && text.chars().count() > CELL_MAX_CHARS {
                return Err(Unreadable::TooMany("characters in one cell"));
            }
            let text = match value {
                DataRef::SharedString(shared) => Cow::Borrowed(*shared),
                _ => Cow::Owned(text.into_owned()),
            };
            return Ok(Some(SheetCell { row, column, text }));
        }
        Ok(None)
    }
}

impl<RS: Read + Seek> Rows for SheetRows<'_, '_, '_, RS> {
    fn next_row(&mut self) -> Result<Option<(u32, Cells)>, Unreadable> {
        let first = match self.ahead.take() {
            Some(cell) => Some(cell),
            None => self.next_cell()?,
        };
        let Some(first) = first else { return Ok(None) };
        let (row, mut text_bytes) = (first.row, first.text.len());
        let mut cells = vec![first];
        while let Some(cell) = self.next_cell()? {
            if cell.row < row {
                return Err(Unreadable::NoSpreadsheet("its rows are out of order".to_owned()));
            }
            if cell.row > row {
                self.ahead = Some(cell);
                break;
            }
            text_bytes += cell.text.len();
            if cells.len() >= CELLS_MAX as usize {
                return Err(Unreadable::TooMany("columns"));
            }
            if text_bytes > ROW_TEXT_MAX_BYTES {
                return Err(Unreadable::TooMany("characters in one row"));
            }
            cells.push(cell);
        }
        // If a cell occurs twice, its last value is used.
        cells.reverse();
        cells.sort_by_key(|cell| cell.column);
        cells.dedup_by_key(|cell| cell.column);
        let mut row_cells = Cells::default();
        for cell in cells {
            row_cells.push(cell.column, &cell.text);
        }
        Ok(Some((row.saturating_add(1), row_cells)))
    }

    fn is_hidden(&mut self, row: u32) -> Result<bool, Unreadable> {
        self.hidden.contains(row)
    }
}

fn unreadable(error: XlsxError) -> Unreadable {
    match error {
        XlsxError::Password => Unreadable::Encrypted,
        error => Unreadable::NoSpreadsheet(error.to_string()),
    }
}
