use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Decimal(Decimal),
    Float(f64),
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
            Self::Float(value) => serde_json::to_string(value),
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

impl From<i32> for Cell {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Cell {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

from! {
    bool => Bool,
    i64 => Int,
    Decimal => Decimal,
    f64 => Float,
    String => Text,
    Uuid => Uuid,
    DateTime<Utc> => Time,
    Vec<i64> => Ints,
}
