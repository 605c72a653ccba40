//! `.xls` (BIFF in an OLE container).

use std::{collections::HashSet, io::Cursor};

use calamine::{Data, Reader as _, SheetType, SheetVisible, Xls, XlsError};

use super::{
    super::{Cells, Reading, Sink, Unreadable, header_names::Candidate},
    Passed, Rows, biff,
    cells::text_of,
    read_sheet,
};

/// Reads the call list of a workbook; returns the name of its sheet.
pub(in super::super) fn read(bytes: &[u8], reading: Reading<'_>, sink: Sink<'_>) -> Result<String, Unreadable> {
    let hidden_rows = biff::check(&biff::workbook(bytes)?)?;
    let mut book: Xls<_> = Xls::new(Cursor::new(bytes)).map_err(unreadable)?;
    let sheets = book.sheets_metadata().to_vec();
    let mut passed = Passed::default();
    for (sheet, hidden) in sheets.iter().zip(hidden_rows).filter(|(sheet, _)| sheet.typ == SheetType::WorkSheet) {
        if sheet.visible != SheetVisible::Visible {
            passed.hidden += 1;
            continue;
        }
        let range = book.worksheet_range(&sheet.name).map_err(unreadable)?;
        let (first_row, first_column) = range.start().unwrap_or_default();
        let mut rows = SheetRows { rows: range.rows(), next_row: first_row + 1, first_column, hidden };
        match read_sheet(&mut rows, reading, sink)? {
            None => return Ok(sheet.name.clone()),
            Some(cells) => passed.sheets.push(Candidate::new(Some(&sheet.name), cells.iter().map(|(_, cell)| cell))),
        }
    }
    Err(passed.refuse(reading))
}

struct SheetRows<'a> {
    rows: calamine::Rows<'a, Data>,
    next_row: u32,
    first_column: u32,
    /// Row numbers from 1.
    hidden: HashSet<u32>,
}

impl Rows for SheetRows<'_> {
    fn next_row(&mut self) -> Result<Option<(u32, Cells)>, Unreadable> {
        let Some(values) = self.rows.next() else { return Ok(None) };
        let row = self.next_row;
        self.next_row += 1;
        let mut cells = Cells::default();
        for (column, value) in (self.first_column..).zip(values) {
            cells.push(column, &text_of(value));
        }
        Ok(Some((row, cells)))
    }

    fn is_hidden(&mut self, row: u32) -> Result<bool, Unreadable> {
        Ok(self.hidden.contains(&row))
    }
}

fn unreadable(error: XlsError) -> Unreadable {
    match error {
        XlsError::Password => Unreadable::Encrypted,
        error => Unreadable::NoSpreadsheet(error.to_string()),
    }
}
