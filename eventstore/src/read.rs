//! Reading the log: in log order, and stream by stream.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::count;
use futures::{Stream, TryStreamExt};
use uuid::Uuid;

use crate::{
    database::Pool,
    error::StoreError,
    event::{StoredEvent, StreamName},
};

/// Events of one page at most.
pub const PAGE_EVENTS_MAX: i64 = 5_000;
/// Bytes of payload text after which a page ends; a page has at least one event.
pub const PAGE_BYTES_MAX: usize = 16 << 20;

/// Which of a company's events to show.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub category: Option<String>,
    pub event_type: Option<String>,
    pub stream: Option<StreamName>,
    /// Categories whose events are left out.
    pub hidden_categories: Vec<&'static str>,
}

struct Row {
    position: i64,
    stream: String,
    version: i64,
    event_id: Uuid,
    event_type: String,
    schema_version: i16,
    company_id: Uuid,
    payload: String,
    metadata: String,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
}

impl TryFrom<Row> for StoredEvent {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |reason: String| StoreError::Unreadable { position: row.position, reason };
        let stream: StreamName = row.stream.parse().map_err(|e: crate::event::NoStreamName| unreadable(e.to_string()))?;
        Ok(Self {
            position: row.position,
            stream,
            version: row.version,
            event_id: row.event_id,
            event_type: row.event_type,
            schema_version: row.schema_version,
            company_id: row.company_id,
            payload: row.payload,
            metadata: row.metadata,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
        })
    }
}

/// A page that takes longer comes from a dead connection.
const READ_DEADLINE: Duration = Duration::from_secs(40);

/// All events after `after`, in log order, one page: bounded in events and in bytes.
pub(crate) async fn page(pool: &Pool, after: i64, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
    let page = tokio::time::timeout(READ_DEADLINE, page_in_time(pool, after, limit)).await;
    page.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()))
}

async fn page_in_time(pool: &Pool, after: i64, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
    let mut rows = sqlx::query_as!(
        Row,
        r#"select position, stream, version, event_id, event_type, schema_version, company_id, payload::text as "payload!",
                  metadata::text as "metadata!", occurred_at, recorded_at
             from events where position > $1 order by position limit $2"#,
        after,
        limit.clamp(1, PAGE_EVENTS_MAX)
    )
    .fetch(pool);
    let mut events = Vec::new();
    let (mut bytes, mut expected) = (0, after + 1);
    while let Some(row) = rows.try_next().await? {
        // Positions have no gap: if one is missing, it was taken out of the log, and nobody may go on as if it had never been.
        if row.position != expected {
            return Err(StoreError::Unreadable { position: expected, reason: "it is not in the log".to_owned() });
        }
        expected += 1;
        bytes += row.payload.len();
        events.push(StoredEvent::try_from(row)?);
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(events)
}

/// A company's events after `after` that pass the filter, in log order.
pub(crate) async fn company_page(
    pool: &Pool,
    company_id: Uuid,
    after: i64,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    if let Some(name) = &filter.stream {
        return stream_page(pool, company_id, after, name, filter, limit).await;
    }
    let rows = sqlx::query_as!(
        Row,
        r#"select position, stream, version, event_id, event_type, schema_version, company_id, payload::text as "payload!",
                  metadata::text as "metadata!", occurred_at, recorded_at
             from events
            where company_id = $1 and position > $2
              and ($3::text is null or split_part(stream, '-', 1) = $3)
              and ($4::text is null or event_type = $4)
              and not split_part(stream, '-', 1) = any($5)
            order by position
            limit $6"#,
        company_id,
        after,
        filter.category,
        filter.event_type,
        &filter.hidden_categories as &[&str],
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(StoredEvent::try_from).collect()
}

/// The same of one stream, which is short: what passes is picked out here.
async fn stream_page(
    pool: &Pool,
    company_id: Uuid,
    after: i64,
    name: &StreamName,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let hidden = filter.hidden_categories.contains(&name.category());
    let wanted = |event: &StoredEvent| {
        event.company_id == company_id
            && event.position > after
            && filter.category.as_deref().is_none_or(|category| category == name.category())
            && filter.event_type.as_ref().is_none_or(|event_type| *event_type == event.event_type)
    };
    if hidden {
        return Ok(Vec::new());
    }
    let seen = sqlx::query_scalar!(
        r#"select coalesce((select e.version from events e where e.stream = s.stream and e.position <= $3 order by e.version desc limit 1), 0) as "seen!"
             from streams s where s.stream = $1 and s.company_id = $2"#,
        name.to_string(),
        company_id,
        after
    );
    let Some(seen) = seen.fetch_optional(pool).await? else { return Ok(Vec::new()) };
    let mut events: Vec<StoredEvent> = stream(pool, name, seen, None).try_collect().await?;
    events.retain(wanted);
    events.truncate(count::to_usize(limit));
    Ok(events)
}

/// Halves the log until it is found: `recorded_at` never goes back.
pub(crate) async fn position_before(pool: &Pool, moment: DateTime<Utc>) -> Result<i64, StoreError> {
    let bounds = sqlx::query!(r#"select coalesce(min(position), 1) - 1 as "low!", coalesce(max(position), 0) as "high!" from events"#);
    let bounds = bounds.fetch_one(pool).await?;
    let (mut low, mut high) = (bounds.low, bounds.high);
    while low < high {
        let middle = low + (high - low + 1) / 2;
        let recorded_at = sqlx::query_scalar!("select recorded_at from events where position = $1", middle).fetch_optional(pool).await?;
        if recorded_at.is_some_and(|at| at < moment) { low = middle } else { high = middle - 1 }
    }
    Ok(low)
}

/// The events with these ids, in log order.
pub(crate) async fn by_ids(pool: &Pool, ids: &[Uuid]) -> Result<Vec<StoredEvent>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, stream, version, event_id, event_type, schema_version, company_id, payload::text as "payload!",
                  metadata::text as "metadata!", occurred_at, recorded_at
             from events where event_id = any($1) order by position"#,
        ids
    );
    rows.fetch_all(pool).await?.into_iter().map(StoredEvent::try_from).collect()
}

/// The events of one stream with a version above `after` that were recorded until `until`, oldest first.
pub(crate) fn stream(
    pool: &Pool,
    stream: &StreamName,
    after: i64,
    until: Option<DateTime<Utc>>,
) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, stream, version, event_id, event_type, schema_version, company_id, payload::text as "payload!",
                  metadata::text as "metadata!", occurred_at, recorded_at
             from events
            where stream = $1 and version > $2 and ($3::timestamptz is null or recorded_at <= $3)
            order by version"#,
        stream.to_string(),
        after,
        until
    );
    rows.fetch(pool).map_err(StoreError::from).and_then(|row| std::future::ready(StoredEvent::try_from(row)))
}
