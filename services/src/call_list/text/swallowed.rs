//! Detects whether a quoted cell with line ends holds rows of the list, because a misplaced quote opened it and another quote closed it.

use super::records::Record;

/// Maximum number of lines of one cell that are compared with rows of the list.
const LINES_MAX: usize = 1_000;

/// The shape of a row of the list.
pub(super) struct Shape<'a> {
    pub delimiter: u8,
    /// Number of cells in the header.
    pub cells: usize,
    pub phone_column: Option<usize>,
    pub is_phone_number: &'a dyn Fn(&[u8]) -> bool,
}

/// The probable content of a quoted cell with line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Swallowed {
    Nothing,
    /// A row of the list, or a genuine note with a phone number.
    Doubtful,
    Rows,
}

/// The kind of a line within a quoted cell.
#[derive(PartialEq, Eq)]
enum LineKind {
    Text,
    /// There is a phone number in the phone column, but the line has a different number of cells than a row: a note may have a number on a
    /// separate line.
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

    /// The line that contains the opening quote may complete a row: it has a phone number in the phone column. If the record has as many
    /// cells as the header and has its own phone number, both readings are possible.
    fn in_first_line(&self, record: &Record, cell: &[u8], column: usize) -> Swallowed {
        let Some(phone_column) = self.phone_column.filter(|phone_column| *phone_column > column) else { return Swallowed::Nothing };
        let first = cell.split(is_line_end).next().unwrap_or_default();
        if !self.has_number(first, phone_column - column) {
            return Swallowed::Nothing;
        }
        let is_complete = record.width() == self.cells && record.cells().nth(phone_column).is_some_and(self.is_phone_number);
        if is_complete { Swallowed::Doubtful } else { Swallowed::Rows }
    }

    /// The further lines hold rows if one of them looks like a row. The cell is doubtful if no line looks like a row but one has a phone
    /// number. It is also doubtful if fewer than half of the lines have a phone number and the cell is the last one of a record with as
    /// many cells as the header.
    ///
    /// A line with delimiters alone does not look like a row: notes contain commas.
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
            // One cell may hold two numbers.
            (1, 0) if self.cells == 1 => Swallowed::Nothing,
            (0, _) => Swallowed::Doubtful,
            _ if is_last && (rows + numbers) * 2 < all => Swallowed::Doubtful,
            _ => Swallowed::Rows,
        }
    }

    /// A row has a phone number in the phone column, a delimiter unless the list has only one column, and at most as many cells as the
    /// header. Several numbers on separate lines of one phone cell are not rows: their row is an error.
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
