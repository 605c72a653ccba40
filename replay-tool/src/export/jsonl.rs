//! One JSON object per line, with its fields in the order of the columns.

use std::io::{self, BufWriter, Write};

use services::tables::{Cell, RowWriter};

use super::Column;

pub struct Writer<W: Write> {
    columns: Vec<Column>,
    out: BufWriter<W>,
}

impl<W: Write> Writer<W> {
    pub fn new(columns: Vec<Column>, out: W) -> Self {
        Self { columns, out: BufWriter::new(out) }
    }
}

impl<W: Write> RowWriter for Writer<W> {
    fn write(&mut self, row: Vec<Cell>) -> io::Result<()> {
        let fields = self.columns.iter().zip(&row).map(|(column, cell)| Ok(format!("\"{}\":{}", column.name, cell.to_json()?)));
        let fields: Vec<_> = fields.collect::<serde_json::Result<_>>()?;
        writeln!(self.out, "{{{}}}", fields.join(","))
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}
