//! CSV without cells that a spreadsheet would run as formulas, and from which every value can be restored.
//!
//! An empty cell is null. Texts and JSON are in quotes, an empty text is `""`: programs that detect the quote character (DuckDB, Python's
//! `csv.Sniffer`) find the right one. A text that begins with an apostrophe, or with a character that spreadsheets treat as the start of a
//! formula, gets an apostrophe before it, within the quotes (OWASP ASVS 5.0, 1.2.10); a reader removes one leading apostrophe ([`unguarded`]). Numbers, ids
//! and times are unchanged. Lists are JSON.

use std::io::{self, BufWriter, Write};

use super::{Cell, RowWriter};

/// Marks the file as UTF-8 for Excel, which reads a file without the mark in the machine's own encoding.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub struct Writer<W: Write>(BufWriter<W>);

impl<W: Write> Writer<W> {
    /// `columns` are the names in the first line.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>, out: W, has_mark: bool) -> io::Result<Self> {
        let mut writer = Self(BufWriter::new(out));
        if has_mark {
            writer.0.write_all(BYTE_ORDER_MARK)?;
        }
        writer.write_line(columns.into_iter().map(heading).collect())?;
        Ok(writer)
    }

    fn write_line(&mut self, cells: Vec<String>) -> io::Result<()> {
        writeln!(self.0, "{}", cells.join(","))
    }
}

impl Writer<Vec<u8>> {
    /// The bytes that were written since the last call.
    pub fn take(&mut self) -> io::Result<Vec<u8>> {
        self.0.flush()?;
        Ok(std::mem::take(self.0.get_mut()))
    }
}

impl<W: Write> RowWriter for Writer<W> {
    fn write(&mut self, row: Vec<Cell>) -> io::Result<()> {
        let cells = row.into_iter().map(written).collect::<serde_json::Result<_>>()?;
        self.write_line(cells)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

/// A cell in its CSV form.
fn written(cell: Cell) -> serde_json::Result<String> {
    Ok(match cell {
        Cell::Null => String::new(),
        Cell::Text(text) | Cell::Json(text) => quote(&text),
        Cell::Decimal(value) => value.normalize().to_string(),
        Cell::Uuid(id) => id.to_string(),
        Cell::Time(at) => Cell::time(at),
        Cell::Ints(_) => quote(&cell.to_json()?),
        Cell::Bool(_) | Cell::Int(_) | Cell::Float(_) => cell.to_json()?,
    })
}

/// The name of a column; a name with characters other than those of SQL names is in quotes.
fn heading(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_plain { name.to_owned() } else { quote(name) }
}

/// Characters that spreadsheets treat as the start of a formula, and the apostrophe itself.
const GUARDED: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\''];

fn quote(text: &str) -> String {
    let guard = if text.starts_with(GUARDED) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

/// The text of a cell without the apostrophe that protects it, as spreadsheets read it.
pub fn unguarded(text: &str) -> &str {
    text.strip_prefix('\'').filter(|rest| rest.starts_with(GUARDED)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> String {
        let mut out = Vec::new();
        let mut writer = Box::new(Writer::new(["text", "n"], &mut out, false).unwrap());
        writer.write(vec![Cell::Text(text.to_owned()), Cell::Int(-1)]).unwrap();
        writer.write(vec![Cell::Null, Cell::Null]).unwrap();
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        assert_eq!(file("+12025550100"), "text,n\n\"'+12025550100\",-1\n,\n");
        assert_eq!(file("=1+1"), "text,n\n\"'=1+1\",-1\n,\n");
        assert_eq!(file("{\"a\": 1}"), "text,n\n\"{\"\"a\"\": 1}\",-1\n,\n");
    }

    #[test]
    fn an_empty_text_is_two_quotes_and_null_is_nothing() {
        assert_eq!(file(""), "text,n\n\"\",-1\n,\n");
    }

    #[test]
    fn a_mark_stands_before_the_names_which_are_no_formulas_either() {
        let mut out = Vec::new();
        Box::new(Writer::new(["text", "=1+1"], &mut out, true).unwrap()).finish().unwrap();
        assert_eq!(out, b"\xef\xbb\xbftext,\"'=1+1\"\n");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in prop_oneof![any::<String>(), "[=+@'\t\r\n\",-]{0,6}"]) {
            let file = file(&text);
            let mut reader = csv::Reader::from_reader(file.as_bytes());
            let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
            let read = &rows[0][0];
            prop_assert!(!read.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(unguarded(read), text);
            prop_assert_eq!(&rows[1][0], "");
        }
    }
}
