//! Recomputes the links of a part of the log.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use serde_json::Value;
use uuid::Uuid;

use super::Fault;
use crate::{
    canonical::{self, Content},
    database::Pool,
    error::StoreError,
};

/// Positions from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub first: i64,
    pub last: i64,
}

/// The content of a part of the log, up to the first fault.
pub(crate) struct Checked {
    /// The hash that the part builds on: the hash that is stored with the event before it.
    pub base: Option<[u8; 32]>,
    /// Stream, version and hash of each event, in log order.
    pub events: Vec<(String, i64, [u8; 32])>,
    pub last_hash: [u8; 32],
    pub fault: Option<Fault>,
}

struct Row {
    position: i64,
    stream: String,
    version: i64,
    event_id: Uuid,
    event_type: String,
    schema_version: i16,
    company_id: Uuid,
    payload: Value,
    metadata: Value,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    hash: Vec<u8>,
}

/// Recomputes every link of `span`, from the hash that is stored with the event before it, or from `base` if that event does not exist or
/// is not trusted.
pub(crate) async fn check(pool: &Pool, span: Span, base: Option<[u8; 32]>) -> Result<Checked, StoreError> {
    let base = match base {
        Some(base) => Some(base),
        None => stored_hash(pool, span.first - 1).await?,
    };
    let rows = sqlx::query_as!(
        Row,
        "select position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash
           from events where position between $1 and $2 order by position",
        span.first,
        span.last
    );
    let mut rows = rows.fetch(pool);
    let mut checked = Checked { base, events: Vec::new(), last_hash: base.unwrap_or_default(), fault: None };
    let mut expected = span.first;
    while let Some(row) = rows.try_next().await? {
        if row.position != expected {
            checked.fault = Some(Fault::Gap { expected, found: row.position });
            return Ok(checked);
        }
        match link(&checked.last_hash, &row) {
            Ok(hash) => checked.last_hash = hash,
            Err(fault) => {
                checked.fault = Some(fault);
                return Ok(checked);
            }
        }
        expected += 1;
        checked.events.push((row.stream, row.version, checked.last_hash));
    }
    if expected <= span.last {
        checked.fault = Some(Fault::Missing { first: expected, last: span.last });
    }
    Ok(checked)
}

/// The first position in the log: 1, unless partitions were detached.
pub(crate) async fn beginning(pool: &Pool) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(r#"select coalesce(min(first), 1) as "first!" from event_partitions"#).fetch_one(pool).await?)
}

/// The hash that is stored with an event; zeros for the position before the first event. `None` if the event does not exist.
pub(crate) async fn stored_hash(pool: &Pool, position: i64) -> Result<Option<[u8; 32]>, StoreError> {
    if position == 0 {
        return Ok(Some([0; 32]));
    }
    let hash = sqlx::query_scalar!("select hash from events where position = $1", position).fetch_optional(pool).await?;
    Ok(hash.and_then(|hash| hash.try_into().ok()))
}

fn link(before: &[u8; 32], row: &Row) -> Result<[u8; 32], Fault> {
    let position = row.position;
    let text = |value| canonical::to_text(value).map_err(|e| Fault::NotCanonical { position, reason: e.to_string() });
    let digest = Content {
        company_id: row.company_id,
        event_id: row.event_id,
        event_type: &row.event_type,
        metadata: &text(&row.metadata)?,
        occurred_at: row.occurred_at,
        payload: &text(&row.payload)?,
        schema_version: row.schema_version,
        stream: &row.stream,
    }
    .digest();
    let hash = canonical::link(before, &digest, position, row.version, row.recorded_at);
    if hash.as_slice() == row.hash { Ok(hash) } else { Err(Fault::HashDiffers { position }) }
}
