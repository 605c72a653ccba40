//! `.xlsx`, cell by cell: a sheet of one far-out cell takes no more memory than that cell.

use std::io::{Cursor, Read, Seek};

use calamine::{Reader as _, SheetType, SheetVisible, Xlsx, XlsxCellReader, XlsxError};

use super::{
    super::{CELLS_MAX, Cells, Limits, Sink, Unreadable, header_names::Candidate},
    Passed, Rows,
    archive::check_archive,
    cells::text_of_ref,
    hidden_rows::{HiddenRows, Parts},
    read_sheet,
};

/// Reads the list of a workbook; gives the name of its sheet.
pub(in super::super) fn read(bytes: &[u8], limits: Limits, sink: Sink<'_>) -> Result<String, Unreadable> {
    check_archive(bytes)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(unreadable)?;
    let mut parts = Parts::open(bytes)?;
    let sheets = book.sheets_metadata().to_vec();
    let mut passed = Passed::default();
    for (number, sheet) in sheets.iter().enumerate().filter(|(_, sheet)| sheet.typ == SheetType::WorkSheet) {
        if sheet.visible != SheetVisible::Visible {
            passed.hidden += 1;
            continue;
        }
        let cells = book.worksheet_cells_reader(&sheet.name).map_err(unreadable)?;
        let mut rows = SheetRows { cells, ahead: None, at_end: false, hidden: parts.hidden_rows(number)? };
        match read_sheet(&mut rows, limits, sink)? {
            None => return Ok(sheet.name.clone()),
            Some(columns) => passed.sheets.push(Candidate { sheet: Some(sheet.name.clone()), columns }),
        }
    }
    Err(passed.refuse())
}

struct SheetRows<'c, 'p, 'a, RS: Read + Seek> {
    cells: XlsxCellReader<'c, RS>,
    /// The first cell of the next row: row and column from 0, and text.
    ahead: Option<(u32, u32, String)>,
    at_end: bool,
    hidden: HiddenRows<'p, 'a>,
}

impl<RS: Read + Seek> SheetRows<'_, '_, '_, RS> {
    fn next_cell(&mut self) -> Result<Option<(u32, u32, String)>, Unreadable> {
        // The reader must not be asked again after the end.
        while !self.at_end {
            let Some(cell) = self.cells.next_cell().map_err(unreadable)? else {
                self.at_end = true;
                break;
            };
            let text = text_of_ref(cell.get_value());
            if text.is_empty() {
                continue;
            }
            let (row, column) = cell.get_position();
            if column >= CELLS_MAX {
                return Err(Unreadable::TooMany("columns"));
            }
            return Ok(Some((row, column, text)));
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
        let Some((row, column, text)) = first else { return Ok(None) };
        let mut cells = vec![(column, text)];
        while let Some((next_row, column, text)) = self.next_cell()? {
            if next_row < row {
                return Err(Unreadable::NoSpreadsheet("its rows are out of order".to_owned()));
            }
            if next_row > row {
                self.ahead = Some((next_row, column, text));
                break;
            }
            if cells.len() >= CELLS_MAX as usize {
                return Err(Unreadable::TooMany("columns"));
            }
            cells.push((column, text));
        }
        // A cell that is there twice has its last value.
        cells.reverse();
        cells.sort_by_key(|(column, _)| *column);
        cells.dedup_by_key(|(column, _)| *column);
        let mut row_cells = Cells::default();
        for (column, text) in cells {
            row_cells.push(column, &text);
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
