//! Tables for spreadsheets and other programs: rows of typed cells, written as CSV or XLSX.

mod cell;
pub mod csv;
pub mod xlsx;

use std::io;

pub use cell::Cell;

/// Writes rows with a cell for each column.
pub trait RowWriter {
    fn write(&mut self, row: Vec<Cell>) -> io::Result<()>;

    /// Writes all buffered data. The output is incomplete before this call.
    fn finish(self: Box<Self>) -> io::Result<()>;
}
