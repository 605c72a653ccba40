//! Reading the log: in log order, and stream by stream.

use chrono::{DateTime, Utc};
use futures::{Stream, TryStreamExt};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    error::StoreError,
    event::{Metadata, StoredEvent, StreamName},
};

/// Events of one page at most.
pub const PAGE_EVENTS_MAX: i64 = 2_000;
/// Payload bytes after which a page ends; a page has at least one event.
pub const PAGE_BYTES_MAX: i64 = 16 << 20;

/// Which of a company's events to show.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub category: Option<String>,
    pub event_type: Option<String>,
    pub stream: Option<StreamName>,
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
}

impl TryFrom<Row> for StoredEvent {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |reason: String| StoreError::Unreadable { position: row.position, reason };
        let stream: StreamName = row.stream.parse().map_err(|e: crate::event::NoStreamName| unreadable(e.to_string()))?;
        let metadata: Metadata = serde_json::from_value(row.metadata).map_err(|e| unreadable(format!("metadata: {e}")))?;
        Ok(Self {
            position: row.position,
            stream,
            version: row.version,
            event_id: row.event_id,
            event_type: row.event_type,
            schema_version: row.schema_version,
            company_id: row.company_id,
            payload: row.payload,
            metadata,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
        })
    }
}

/// All events after `after`, in log order, one page: bounded in events and in bytes.
pub(crate) async fn page(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position as "position!", stream as "stream!", version as "version!", event_id as "event_id!", event_type as "event_type!",
                  schema_version as "schema_version!", company_id as "company_id!", payload as "payload!", metadata as "metadata!",
                  occurred_at as "occurred_at!", recorded_at as "recorded_at!"
             from (select *, sum(pg_column_size(payload)) over (order by position) - pg_column_size(payload) as bytes_before
                     from events where position > $1 order by position limit $2) page
            where bytes_before < $3
            order by position"#,
        after,
        limit.clamp(1, PAGE_EVENTS_MAX),
        PAGE_BYTES_MAX
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredEvent::try_from).collect()
}

/// A company's events after `after` that pass the filter, in log order.
pub(crate) async fn company_page(
    pool: &PgPool,
    company_id: Uuid,
    after: i64,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at
             from events
            where company_id = $1 and position > $2
              and ($3::text is null or stream like $3 || '-%')
              and ($4::text is null or event_type = $4)
              and ($5::text is null or stream = $5)
            order by position
            limit $6"#,
        company_id,
        after,
        filter.category,
        filter.event_type,
        filter.stream.as_ref().map(StreamName::to_string),
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredEvent::try_from).collect()
}

/// The events of one stream with a version above `after` that were recorded until `until`, oldest first.
pub(crate) fn stream(
    pool: &PgPool,
    stream: &StreamName,
    after: i64,
    until: Option<DateTime<Utc>>,
) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at
             from events
            where stream = $1 and version > $2 and ($3::timestamptz is null or recorded_at <= $3)
            order by version"#,
        stream.to_string(),
        after,
        until
    );
    rows.fetch(pool).map_err(StoreError::from).and_then(|row| std::future::ready(StoredEvent::try_from(row)))
}
