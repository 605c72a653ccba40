use domain::{Coded, Reason, phone::PhoneError};
use serde::Serialize;

use super::header_names::cut;

/// Why a row became no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    pub row: u32,
    /// The cell with the error, if it is in one cell.
    pub cell: Option<CellError>,
    pub fault: RowFault,
}

/// A cell that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellError {
    /// Name of its column.
    pub column: String,
    /// What it holds, cut. It may be personal: answers have it, events do not.
    pub value: String,
}

impl CellError {
    pub(super) fn new(column: &str, value: &str) -> Self {
        Self { column: column.to_owned(), value: cut(value) }
    }
}

/// What is wrong with a row, without the content of the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RowFault {
    #[error(transparent)]
    Phone(PhoneError),
    #[error("a value holds a NUL character")]
    NulCharacter,
    #[error("priority is not a whole number")]
    PriorityNotWhole,
    #[error("the data has more than {max} bytes")]
    TooLong { max: usize },
    /// The row cannot be split into cells; the detail is in English.
    #[error("{detail}")]
    Unreadable { detail: String },
    #[error("phone number repeats {what} {first}")]
    Repeated { what: &'static str, first: u32 },
    #[error("phone number is in the campaign already")]
    InCampaign,
}

impl Coded for RowFault {
    const AREA: &'static str = "row";
}

impl RowFault {
    /// The fault with its code.
    pub fn reason(self) -> Reason {
        match self {
            Self::Phone(error) => error.into(),
            fault => fault.into(),
        }
    }
}
