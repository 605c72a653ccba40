//! Pages of lists.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The place in a list that is ordered by time and id, newest first: the next page begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    pub at: DateTime<Utc>,
    pub id: Uuid,
}
