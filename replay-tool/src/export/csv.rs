//! CSV that no spreadsheet takes for formulas and that reads back as it was.
//!
//! An empty cell is null. A text that is empty, or begins with what spreadsheets take for a formula or with an apostrophe, has an
//! apostrophe before it (OWASP ASVS 5.0, 1.2.10); whoever reads it back takes one leading apostrophe off. Numbers, ids and times are as
//! they are. Lists are JSON.

use std::io::Write;

use super::{Cell, Column, RowWriter};

pub struct Writer<W: Write>(csv::Writer<W>);

impl<W: Write> Writer<W> {
    pub fn new(columns: &[Column], out: W) -> anyhow::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(columns.iter().map(|column| &column.name))?;
        Ok(Self(writer))
    }
}

impl<W: Write> RowWriter for Writer<W> {
    fn write(&mut self, row: Vec<Cell>) -> anyhow::Result<()> {
        let cells = row.into_iter().map(text).collect::<serde_json::Result<Vec<_>>>()?;
        Ok(self.0.write_record(cells)?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

fn text(cell: Cell) -> serde_json::Result<String> {
    Ok(match cell {
        Cell::Null => String::new(),
        Cell::Text(text) | Cell::Json(text) => escape(text),
        Cell::Decimal(value) => value.normalize().to_string(),
        Cell::Uuid(id) => id.to_string(),
        Cell::Time(at) => Cell::time(at),
        Cell::Bool(_) | Cell::Int(_) | Cell::Ints(_) => cell.to_json()?,
    })
}

fn escape(text: String) -> String {
    if text.is_empty() || text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::Kind;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        let mut writer = Box::new(Writer::new(&[Column::new("text", Kind::Text), Column::new("n", Kind::Int)], &mut out).unwrap());
        writer.write(vec![Cell::Text(text.to_owned()), Cell::Int(-1)]).unwrap();
        writer.write(vec![Cell::Null, Cell::Null]).unwrap();
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        assert_eq!(written("+12025550100"), "text,n\n'+12025550100,-1\n,\n");
        assert_eq!(written("=1+1"), "text,n\n'=1+1,-1\n,\n");
        assert_eq!(written("{\"a\": 1}"), "text,n\n\"{\"\"a\"\": 1}\",-1\n,\n");
        assert_eq!(written(""), "text,n\n',-1\n,\n");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in prop_oneof![any::<String>(), "[=+@'\t\r\n\",-]{0,6}"]) {
            let written = written(&text);
            let mut reader = csv::Reader::from_reader(written.as_bytes());
            let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
            let read = &rows[0][0];
            prop_assert!(!read.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(read.strip_prefix('\'').unwrap_or(read), text);
            prop_assert_eq!(&rows[1][0], "");
        }
    }
}
