//! XLSX workbooks.
//!
//! A text is always a text cell, never a formula. Times are dates of the spreadsheet in UTC. A spreadsheet's number has 15 significant digits:
//! a whole number with more is a text, and decimals are rounded. JSON and lists are texts. Spreadsheets limit a sheet to 1,048,576 rows and a cell to 32,767 characters: further rows are on a
//! further sheet, and a longer text is cut and ends with `…`.
//!
//! The rows are held in temporary files without a name (in `TMPDIR`, else `/tmp`), not in memory.

use std::io::{self, Write};

use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};

use super::{Cell, RowWriter};

const SHEET_ROWS_MAX: u32 = 1_048_576;
/// Maximum length of a cell, in units of UTF-16.
const CELL_MAX: usize = 32_767;
/// Largest whole number that a spreadsheet shows with all of its digits.
const WHOLE_NUMBER_MAX: u64 = 999_999_999_999_999;
const CUT: char = '…';
const TIME_FORMAT: &str = "yyyy-mm-dd hh:mm:ss.000";
/// Of every column, in characters.
const COLUMN_WIDTH: f64 = 22.0;

pub struct Writer<W: Write + Send> {
    columns: Vec<String>,
    workbook: Workbook,
    sheets: usize,
    /// The next row of the last sheet.
    row: u32,
    time: Format,
    out: W,
}

impl<W: Write + Send> Writer<W> {
    /// `columns` are the names in the first row.
    pub fn new(columns: Vec<String>, out: W) -> io::Result<Self> {
        let time = Format::new().set_num_format(TIME_FORMAT);
        let mut writer = Self { columns, workbook: Workbook::new(), sheets: 0, row: 0, time, out };
        writer.add_sheet().map_err(io::Error::other)?;
        Ok(writer)
    }

    /// A sheet with the names of the columns, which stay visible.
    fn add_sheet(&mut self) -> Result<(), XlsxError> {
        let heading = Format::new().set_bold();
        let sheet = self.workbook.add_worksheet_with_constant_memory()?;
        sheet.set_freeze_panes(1, 0)?;
        for (column, number) in self.columns.iter().zip(0..) {
            sheet.set_column_width(number, COLUMN_WIDTH)?;
            sheet.write_string_with_format(0, number, cut(column.clone()), &heading)?;
        }
        (self.sheets, self.row) = (self.sheets + 1, 1);
        Ok(())
    }

    fn write_row(&mut self, row: Vec<Cell>) -> Result<(), XlsxError> {
        if self.row == SHEET_ROWS_MAX {
            self.add_sheet()?;
        }
        let sheet = self.workbook.worksheet_from_index(self.sheets - 1)?;
        for (cell, column) in row.into_iter().zip(0..) {
            write_cell(sheet, (self.row, column), cell, &self.time)?;
        }
        self.row += 1;
        Ok(())
    }
}

impl<W: Write + Send> RowWriter for Writer<W> {
    fn write(&mut self, row: Vec<Cell>) -> io::Result<()> {
        self.write_row(row).map_err(io::Error::other)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.workbook.save_to_writer(&mut self.out).map_err(io::Error::other)?;
        self.out.flush()
    }
}

#[expect(clippy::cast_precision_loss, clippy::expect_used, reason = "a spreadsheet has no other numbers; see the message")]
fn write_cell(sheet: &mut Worksheet, (row, column): (u32, u16), cell: Cell, time: &Format) -> Result<(), XlsxError> {
    match cell {
        Cell::Null => return Ok(()),
        Cell::Bool(value) => sheet.write_boolean(row, column, value)?,
        Cell::Int(value) if value.unsigned_abs() > WHOLE_NUMBER_MAX => sheet.write_string(row, column, value.to_string())?,
        Cell::Decimal(value) if value.fract().is_zero() && value.abs() > Decimal::from(WHOLE_NUMBER_MAX) => {
            sheet.write_string(row, column, value.normalize().to_string())?
        }
        Cell::Int(value) => sheet.write_number(row, column, value as f64)?,
        Cell::Float(value) => sheet.write_number(row, column, value)?,
        Cell::Decimal(value) => sheet.write_number(row, column, value.to_f64().expect("every decimal has a nearest f64"))?,
        Cell::Time(at) => sheet.write_datetime_with_format(row, column, at.naive_utc(), time)?,
        Cell::Text(text) | Cell::Json(text) => sheet.write_string(row, column, cut(text))?,
        Cell::Uuid(id) => sheet.write_string(row, column, id.to_string())?,
        Cell::Ints(values) => sheet.write_string(row, column, cut(format!("{values:?}").replace(' ', "")))?,
    };
    Ok(())
}

/// A text that fits a cell.
fn cut(text: String) -> String {
    if text.len() <= CELL_MAX || text.encode_utf16().count() <= CELL_MAX {
        return text;
    }
    let mut units = CUT.len_utf16();
    let fitting = text.chars().take_while(|c| {
        units += c.len_utf16();
        units <= CELL_MAX
    });
    fitting.collect::<String>() + &CUT.to_string()
}

#[cfg(test)]
mod tests {
    use calamine::{Data, Reader as _};
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn read(columns: &[&str], rows: Vec<Vec<Cell>>) -> Vec<Vec<Data>> {
        let mut out = Vec::new();
        let mut writer = Box::new(Writer::new(columns.iter().map(ToString::to_string).collect(), &mut out).unwrap());
        rows.into_iter().for_each(|row| writer.write(row).unwrap());
        writer.finish().unwrap();
        let mut workbook: calamine::Xlsx<_> = calamine::open_workbook_from_rs(io::Cursor::new(out)).unwrap();
        workbook.worksheet_range("Sheet1").unwrap().rows().map(<[Data]>::to_vec).collect()
    }

    #[test]
    fn cells_keep_their_types_and_no_text_is_a_formula() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_250).unwrap();
        let columns = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let row = vec![
            Cell::Text("=1+1".to_owned()),
            Cell::Text("+12025550100".to_owned()),
            Cell::Int(-7),
            Cell::Decimal("0.000086".parse().unwrap()),
            Cell::Time(at),
            Cell::Bool(true),
            Cell::Uuid(Uuid::nil()),
            Cell::Ints(vec![1, 2]),
            Cell::Null,
        ];
        let rows = read(&columns, vec![row]);
        let text = |text: &str| Data::String(text.to_owned());
        assert_eq!(rows[0], columns.map(text));
        let read = &rows[1];
        assert_eq!(read[..4], [text("=1+1"), text("+12025550100"), Data::Float(-7.0), Data::Float(0.000_086)]);
        let Data::DateTime(time) = &read[4] else { panic!("{:?}", read[4]) };
        assert_eq!((time.as_f64() * 86_400_000.0).round(), 1_800_000_000_250.0 + 25_569.0 * 86_400_000.0);
        assert_eq!(read[5..], [Data::Bool(true), text("00000000-0000-0000-0000-000000000000"), text("[1,2]"), Data::Empty]);
    }

    #[test]
    fn a_long_whole_number_keeps_its_digits() {
        let row =
            vec![Cell::Int(999_999_999_999_999), Cell::Int(-1_000_000_000_000_000), Cell::Decimal("12345678901234567890".parse().unwrap())];
        let text = |text: &str| Data::String(text.to_owned());
        let expected = [Data::Float(999_999_999_999_999.0), text("-1000000000000000"), text("12345678901234567890")];
        assert_eq!(read(&["a", "b", "c"], vec![row])[1], expected);
    }

    #[test]
    fn a_long_text_is_cut_where_a_spreadsheet_would_refuse_it() {
        for text in ["x".repeat(40_000), "😀".repeat(20_000), "é".repeat(32_768)] {
            let rows = read(&["a"], vec![vec![Cell::Text(text.clone())]]);
            let Data::String(read) = &rows[1][0] else { panic!("no text") };
            let kept = read.strip_suffix(CUT).unwrap();
            assert!(text.starts_with(kept) && read.encode_utf16().count() >= CELL_MAX - 1 && read.encode_utf16().count() <= CELL_MAX);
        }
        let fits = "é".repeat(CELL_MAX);
        let rows = read(&["a"], vec![vec![Cell::Text(fits.clone())]]);
        assert_eq!(rows[1][0], Data::String(fits));
    }
}
