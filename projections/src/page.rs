//! Pages of lists.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The place in a list that is ordered by time and id, newest first: what comes after it is the next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    pub at: DateTime<Utc>,
    pub id: Uuid,
}
