use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

impl Column {
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind }
    }
}

/// The type of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    /// An exact decimal with at most this number of decimals.
    Decimal {
        scale: i8,
    },
    Text,
    Uuid,
    Time,
    /// A JSON text.
    Json,
    Ints,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Decimal(Decimal),
    Text(String),
    Uuid(Uuid),
    Time(DateTime<Utc>),
    Json(String),
    Ints(Vec<i64>),
}

impl Cell {
    /// Times as RFC 3339 in UTC.
    pub fn time(at: DateTime<Utc>) -> String {
        at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    }

    /// Converts to a JSON text. Decimals are exact strings, as everywhere in the API.
    pub fn to_json(&self) -> serde_json::Result<String> {
        match self {
            Self::Null => Ok("null".to_owned()),
            Self::Bool(value) => serde_json::to_string(value),
            Self::Int(value) => serde_json::to_string(value),
            Self::Decimal(value) => serde_json::to_string(&value.normalize().to_string()),
            Self::Text(value) => serde_json::to_string(value),
            Self::Uuid(value) => serde_json::to_string(value),
            Self::Time(value) => serde_json::to_string(&Self::time(*value)),
            Self::Json(text) => Ok(text.clone()),
            Self::Ints(values) => serde_json::to_string(values),
        }
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! from {
    ($($type:ty => $cell:ident),+ $(,)?) => {
        $(impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                Self::$cell(value)
            }
        })+
    };
}

from! {
    bool => Bool,
    i64 => Int,
    Decimal => Decimal,
    String => Text,
    Uuid => Uuid,
    DateTime<Utc> => Time,
    Vec<i64> => Ints,
}

/// Selects rows; the period is half-open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    pub company: Option<Uuid>,
}

/// Writes rows with a cell for each column.
pub trait RowWriter {
    fn write(&mut self, row: Vec<Cell>) -> anyhow::Result<()>;

    /// Writes all buffered data. The output is incomplete before this call.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}
