//! Parquet: typed columns, compressed. Times are microseconds in UTC, decimals are exact, lists are lists; ids and JSON are texts.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{BooleanBuilder, Decimal128Builder, Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder},
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use rust_decimal::Decimal;

use services::tables::{Cell, RowWriter};

use super::{Column, Kind};

/// Number of digits of a decimal column: the maximum of 128 bits.
const PRECISION: u8 = 38;
/// Number of rows that are converted to columns together, and number of rows of a row group.
const BATCH_ROWS: usize = 8_192;
const ROW_GROUP_ROWS: usize = 131_072;
/// Maximum size of a row group in memory before it is written, in bytes.
const ROW_GROUP_BYTES: usize = 64 << 20;

pub struct Writer<W: Write + Send> {
    kinds: Vec<Kind>,
    schema: Arc<Schema>,
    rows: Vec<Vec<Cell>>,
    out: ArrowWriter<W>,
}

impl<W: Write + Send> Writer<W> {
    pub fn new(columns: &[Column], out: W) -> anyhow::Result<Self> {
        let fields: Vec<_> = columns.iter().map(|column| Field::new(&column.name, data_type(column.kind), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let out = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties))?;
        Ok(Self { kinds: columns.iter().map(|column| column.kind).collect(), schema, rows: Vec::new(), out })
    }

    fn write_batch(&mut self) -> anyhow::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut cells: Vec<_> = self.rows.drain(..).map(Vec::into_iter).collect();
        let columns = self.kinds.iter().map(|kind| array(*kind, cells.iter_mut().filter_map(Iterator::next)));
        let columns = columns.collect::<anyhow::Result<Vec<_>>>()?;
        self.out.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
        if self.out.in_progress_size() > ROW_GROUP_BYTES {
            self.out.flush()?;
        }
        Ok(())
    }
}

impl<W: Write + Send> RowWriter for Writer<W> {
    fn write(&mut self, row: Vec<Cell>) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() >= BATCH_ROWS { self.write_batch().map_err(io::Error::other) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.write_batch().map_err(io::Error::other)?;
        self.out.close()?;
        Ok(())
    }
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int => DataType::Int64,
        Kind::Decimal { scale } => DataType::Decimal128(PRECISION, scale),
        Kind::Text | Kind::Uuid | Kind::Json => DataType::Utf8,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Ints => DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true))),
    }
}

fn array(kind: Kind, cells: impl Iterator<Item = Cell>) -> anyhow::Result<ArrayRef> {
    Ok(match kind {
        Kind::Bool => {
            let mut builder = BooleanBuilder::new();
            cells.for_each(|cell| builder.append_option(if let Cell::Bool(value) = cell { Some(value) } else { None }));
            Arc::new(builder.finish())
        }
        Kind::Int => {
            let mut builder = Int64Builder::new();
            cells.for_each(|cell| builder.append_option(if let Cell::Int(value) = cell { Some(value) } else { None }));
            Arc::new(builder.finish())
        }
        Kind::Decimal { scale } => {
            let mut builder = Decimal128Builder::new().with_data_type(data_type(kind));
            for cell in cells {
                builder.append_option(if let Cell::Decimal(value) = cell { Some(mantissa(value, scale)?) } else { None });
            }
            Arc::new(builder.finish())
        }
        Kind::Text | Kind::Uuid | Kind::Json => {
            let mut builder = StringBuilder::new();
            cells.for_each(|cell| match cell {
                Cell::Text(text) | Cell::Json(text) => builder.append_value(text),
                Cell::Uuid(id) => builder.append_value(id.to_string()),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        Kind::Time => {
            let mut builder = TimestampMicrosecondBuilder::new().with_data_type(data_type(kind));
            cells.for_each(|cell| builder.append_option(if let Cell::Time(at) = cell { Some(at.timestamp_micros()) } else { None }));
            Arc::new(builder.finish())
        }
        Kind::Ints => {
            let mut builder = ListBuilder::new(Int64Builder::new());
            cells.for_each(|cell| match cell {
                Cell::Ints(values) => builder.append_value(values.into_iter().map(Some)),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
    })
}

/// The number times 10^`scale`; every value of the column fits.
fn mantissa(value: Decimal, scale: i8) -> anyhow::Result<i128> {
    let value = value.normalize();
    let missing = u32::try_from(scale).ok().and_then(|scale| scale.checked_sub(value.scale()));
    let mantissa = missing.and_then(|missing| value.mantissa().checked_mul(10_i128.checked_pow(missing)?));
    mantissa.ok_or_else(|| anyhow::anyhow!("{value} does not fit a Parquet decimal with {scale} decimals; export it as JSON lines"))
}
