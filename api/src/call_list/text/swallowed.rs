//! Whether a quoted cell with line ends holds rows of the list, because one quote opened it by mistake and another one closed it.

use super::records::Record;

/// Continuation lines of one cell that are compared with rows of the list.
const LINES_MAX: usize = 1_000;

/// What a row of the list looks like.
pub(super) struct Shape<'a> {
    pub delimiter: u8,
    /// Cells of the header.
    pub cells: usize,
    pub phone_column: Option<usize>,
    pub is_phone_number: &'a dyn Fn(&[u8]) -> bool,
}

/// What a quoted cell with line ends holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Swallowed {
    Nothing,
    /// A row, or a phone number in an honest note.
    Doubtful,
    Rows,
}

/// What a line within a quoted cell looks like.
#[derive(PartialEq, Eq)]
enum LineKind {
    Text,
    /// A phone number stands where the phone column is, but the line is not as wide as a row: a note may have a number on a line of its own.
    Number,
    Row,
}

impl Shape<'_> {
    pub fn most_swallowed(&self, record: &Record, data: &[u8]) -> Swallowed {
        let of_cell = |(column, inside): &(usize, std::ops::Range<usize>)| {
            let cell = data.get(inside.clone()).unwrap_or_default();
            self.in_first_line(record, cell, *column).max(self.in_further_lines(record, cell, *column))
        };
        record.multi_line.iter().map(of_cell).max().unwrap_or(Swallowed::Nothing)
    }

    /// The line that the quote stands in may complete its row: it has a phone number where the phone column is. If the record is as wide as
    /// the header and has a phone number of its own, both readings are possible.
    fn in_first_line(&self, record: &Record, cell: &[u8], column: usize) -> Swallowed {
        let Some(phone_column) = self.phone_column.filter(|phone_column| *phone_column > column) else { return Swallowed::Nothing };
        let first = cell.split(is_line_end).next().unwrap_or_default();
        if !self.has_number(first, phone_column - column) {
            return Swallowed::Nothing;
        }
        let is_complete = record.width() == self.cells && record.cells().nth(phone_column).is_some_and(self.is_phone_number);
        if is_complete { Swallowed::Doubtful } else { Swallowed::Rows }
    }

    /// The further lines hold rows if one of them looks like a row. It is doubtful if none does but one has a phone number; and if less than
    /// half of them have one and the cell is the last of a record that is as wide as the header.
    ///
    /// Delimiters alone do not make a line look like a row: notes have commas.
    fn in_further_lines(&self, record: &Record, cell: &[u8], column: usize) -> Swallowed {
        let (mut rows, mut numbers, mut all) = (0, 0, 0);
        let lines = cell.split(is_line_end).skip(1).filter(|line| !line.trim_ascii().is_empty());
        for line in lines.take(LINES_MAX) {
            all += 1;
            match self.kind_of(line, column) {
                LineKind::Row => rows += 1,
                LineKind::Number => numbers += 1,
                LineKind::Text => {}
            }
        }
        let is_last = record.width() == self.cells && column + 1 == self.cells;
        match (rows, numbers) {
            (0, 0) => Swallowed::Nothing,
            // Two numbers may share a cell.
            (1, 0) if self.cells == 1 => Swallowed::Nothing,
            (0, _) => Swallowed::Doubtful,
            _ if is_last && (rows + numbers) * 2 < all => Swallowed::Doubtful,
            _ => Swallowed::Rows,
        }
    }

    /// A row has a phone number where the phone column is, a delimiter unless the list has only one column, and at most as many cells as the
    /// header. Numbers below each other in the cell of the phone column are no rows: their row is an error.
    fn kind_of(&self, line: &[u8], column: usize) -> LineKind {
        let width = line.split(|b| *b == self.delimiter).count();
        let is_further_number = self.cells > 1 && self.phone_column == Some(column) && width == 1;
        match self.phone_column {
            Some(phone_column) if !is_further_number && self.has_number(line, phone_column) => {
                if (self.cells.min(2)..=self.cells).contains(&width) { LineKind::Row } else { LineKind::Number }
            }
            _ => LineKind::Text,
        }
    }

    fn has_number(&self, line: &[u8], column: usize) -> bool {
        line.split(|b| *b == self.delimiter).nth(column).is_some_and(self.is_phone_number)
    }
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
