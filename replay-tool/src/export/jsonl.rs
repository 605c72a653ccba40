//! One JSON object per line, with its fields in the order of the columns.

use std::io::{BufWriter, Write};

use super::{Cell, Column, RowWriter};

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
    fn write(&mut self, row: Vec<Cell>) -> anyhow::Result<()> {
        let fields = self.columns.iter().zip(&row).map(|(column, cell)| Ok(format!("\"{}\":{}", column.name, cell.to_json()?)));
        let fields: Vec<_> = fields.collect::<serde_json::Result<_>>()?;
        Ok(writeln!(self.out, "{{{}}}", fields.join(","))?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}
