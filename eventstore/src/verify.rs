//! Recomputes the chain and says where the log is not what it was.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    canonical::{self, Content},
    error::StoreError,
};

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("position {expected} is missing; the next event is at {found}")]
    Gap { expected: i64, found: i64 },
    #[error("position {position}: the event is not the one that was appended, or one before it was changed")]
    HashDiffers { position: i64 },
    #[error("position {position}: the content cannot be hashed: {reason}")]
    NotCanonical { position: i64, reason: String },
    #[error("position {position}: version {found} of {stream} follows version {before}")]
    VersionGap { position: i64, stream: String, before: i64, found: i64 },
    #[error("the log ends at position {found}, its head says {expected}: the tail is cut off or the head was changed")]
    TailDiffers { expected: i64, found: i64 },
}

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub events: u64,
    pub last_position: i64,
    /// Of the last event, hex.
    pub last_hash: String,
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

/// Verifies the whole log up to its present head, calling `progress` with each position done.
pub async fn verify(pool: &PgPool, mut progress: impl FnMut(i64)) -> Result<Verdict, StoreError> {
    let head = sqlx::query!("select position, hash from log_head").fetch_one(pool).await?;
    let mut chain = Chain::default();
    let fault = loop {
        let page = page(pool, chain.position, head.position).await?;
        if page.is_empty() {
            let sound = (chain.position, chain.hash.as_slice()) == (head.position, head.hash.as_slice());
            break (!sound).then_some(Fault::TailDiffers { expected: head.position, found: chain.position });
        }
        if let Some(fault) = page.iter().find_map(|row| chain.follow(row).err()) {
            break Some(fault);
        }
        progress(chain.position);
    };
    Ok(Verdict { events: chain.events, last_position: chain.position, last_hash: hex::encode(chain.hash), fault })
}

/// Events that are read in one go: a statement must not take long.
const PAGE_EVENTS: i64 = 5_000;

async fn page(pool: &PgPool, after: i64, until: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        "select position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash
           from events where position > $1 and position <= $2 order by position limit $3",
        after,
        until,
        PAGE_EVENTS
    )
    .fetch_all(pool)
    .await
}

#[derive(Default)]
struct Chain {
    events: u64,
    position: i64,
    hash: [u8; 32],
    versions: HashMap<String, i64>,
}

impl Chain {
    fn follow(&mut self, row: &Row) -> Result<(), Fault> {
        let position = row.position;
        if position != self.position + 1 {
            return Err(Fault::Gap { expected: self.position + 1, found: position });
        }
        let before = self.versions.entry(row.stream.clone()).or_default();
        if row.version != *before + 1 {
            return Err(Fault::VersionGap { position, stream: row.stream.clone(), before: *before, found: row.version });
        }
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
        let hash = canonical::link(&self.hash, &digest, position, row.version, row.recorded_at);
        if hash.as_slice() != row.hash {
            return Err(Fault::HashDiffers { position });
        }
        *before = row.version;
        (self.hash, self.position, self.events) = (hash, position, self.events + 1);
        Ok(())
    }
}
