//! Reads the log: in log order, and stream by stream.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{Fact, count};
use futures::TryStreamExt as _;
use uuid::Uuid;

use crate::{
    bounded_page::{BoundedPage, PageReader},
    database::Pool,
    error::StoreError,
    event::{StoredEvent, StreamName},
};

/// Most events of one page.
pub const PAGE_EVENTS_MAX: i64 = 5_000;
/// Bytes of payload text after which a page ends; a page has at least one event.
pub const PAGE_BYTES_MAX: usize = 16 << 20;

/// Bytes of payload text after which a page for a company ends, and the number of its events that are read at once: each event may have a
/// megabyte.
const COMPANY_PAGE_BYTES_MAX: usize = 4 << 20;
const ROWS_AT_ONCE: usize = 100;

/// Which of a company's events to show.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub category: Option<String>,
    pub event_type: Option<String>,
    pub stream: Option<StreamName>,
    /// Categories whose events are left out.
    pub hidden_categories: Vec<&'static str>,
}

impl Filter {
    /// Whether the filter passes an event.
    pub fn passes(&self, stream: &StreamName, event_type: &str) -> bool {
        self.stream.as_ref().is_none_or(|wanted| wanted == stream)
            && self.category.as_deref().is_none_or(|category| category == stream.category())
            && self.event_type.as_deref().is_none_or(|wanted| wanted == event_type)
            && !self.hidden_categories.contains(&stream.category())
    }
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

/// If reading a page takes longer, its connection is dead.
const READ_DEADLINE: Duration = Duration::from_secs(40);

/// One page of the events after `after`, in log order: limited in events and in bytes.
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
        // Positions have no gap: a missing position was removed from the log, and the reader must not continue as if the event had never
        // existed.
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

/// A company's events after `after` that pass the filter, in log order. At most `limit`, and a page that has reached
/// [`COMPANY_PAGE_BYTES_MAX`] ends.
pub(crate) async fn company_page(
    pool: &Pool,
    company_id: Uuid,
    after: i64,
    filter: &Filter,
    limit: usize,
) -> Result<BoundedPage<StoredEvent>, StoreError> {
    let mut reader = reader(limit);
    while let Some(count) = reader.rows_to_read() {
        let (after, count) = (place(&reader, after), count::to_i64(count));
        let rows = match &filter.stream {
            Some(stream) => stream_rows(pool, company_id, after, stream, filter, count).await?,
            None => typed_rows(pool, company_id, after, filter, count).await?,
        };
        add(&mut reader, rows)?;
    }
    Ok(reader.into_page())
}

fn reader(limit: usize) -> PageReader<StoredEvent> {
    PageReader::new(limit, COMPANY_PAGE_BYTES_MAX, ROWS_AT_ONCE)
}

/// Where to continue reading: after the last event, or where the page begins.
fn place(reader: &PageReader<StoredEvent>, begin: i64) -> i64 {
    reader.last().map_or(begin, |event| event.position)
}

fn add(reader: &mut PageReader<StoredEvent>, rows: Vec<Row>) -> Result<(), StoreError> {
    let events = rows.into_iter().map(StoredEvent::try_from).collect::<Result<_, _>>()?;
    reader.add(events, |event: &StoredEvent| event.payload.len());
    Ok(())
}

/// Each event type is read from its own place in the index `(company_id, event_type, position nulls first)`, so that only events that pass
/// are read. No other index has that order: PostgreSQL cannot choose to read the log of all companies and filter it.
async fn typed_rows(pool: &Pool, company_id: Uuid, after: i64, filter: &Filter, limit: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"with recursive types as (
               (select event_type from events where company_id = $1 order by company_id, event_type limit 1)
               union all
               select (select e.event_type from events e where (e.company_id, e.event_type) > ($1, t.event_type) and e.company_id <= $1
                        order by e.company_id, e.event_type limit 1)
                 from types t where t.event_type is not null)
           select e.position, stream, version, event_id, event_type, schema_version, company_id, payload::text as "payload!",
                  metadata::text as "metadata!", occurred_at, recorded_at
             from (select p.position
                     from types t cross join lateral (
                              select position from events e
                               where e.company_id = $1 and e.event_type = t.event_type and e.position > $2
                               order by e.position nulls first limit $6) p
                    where ($3::text[] is null or t.event_type = any($3)) and ($4::text is null or t.event_type = $4)
                      and not t.event_type = any($5)
                    order by p.position
                    limit $6) page
                  join events e on e.position = page.position
            order by e.position"#,
        company_id,
        after,
        filter.category.as_deref().map(types_of) as Option<Vec<&str>>,
        filter.event_type,
        &filter.hidden_categories.iter().flat_map(|category| types_of(category)).collect::<Vec<_>>() as &[&str],
        limit
    )
    .fetch_all(pool)
    .await
}

/// The event types of a category; each type belongs to one category.
fn types_of(category: &str) -> Vec<&'static str> {
    Fact::catalogue().into_iter().filter(|(of, ..)| *of == category).map(|(_, event_type, _)| event_type).collect()
}

/// The same for one stream.
async fn stream_rows(
    pool: &Pool,
    company_id: Uuid,
    after: i64,
    name: &StreamName,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    let is_other = filter.category.as_deref().is_some_and(|category| category != name.category());
    if is_other || filter.hidden_categories.contains(&name.category()) {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        Row,
        r#"select position as "position!", e.stream as "stream!", version as "version!", event_id as "event_id!",
                  event_type as "event_type!", schema_version as "schema_version!", e.company_id as "company_id!",
                  payload::text as "payload!", metadata::text as "metadata!", occurred_at as "occurred_at!", recorded_at as "recorded_at!"
             from (select stream, stream_version_at(stream, $3) as seen from streams where stream = $1 and company_id = $2 offset 0) s
                  cross join lateral (select * from events e
                                       where e.stream = s.stream and e.version > s.seen and ($4::text is null or e.event_type = $4)
                                       order by e.stream, e.version limit $5) e
            order by version"#,
        name.to_string(),
        company_id,
        after,
        filter.event_type,
        limit
    )
    .fetch_all(pool)
    .await
}

/// The events of a company's streams after a position, in log order, and no events of another company's streams. At most `limit`, and a
/// page that has reached [`COMPANY_PAGE_BYTES_MAX`] ends.
pub(crate) async fn history_page(
    pool: &Pool,
    company_id: Uuid,
    streams: &[StreamName],
    after: i64,
    limit: usize,
) -> Result<BoundedPage<StoredEvent>, StoreError> {
    let names: Vec<_> = streams.iter().map(ToString::to_string).collect();
    let mut reader = reader(limit);
    while let Some(count) = reader.rows_to_read() {
        let rows = history_rows(pool, company_id, &names, place(&reader, after), count::to_i64(count)).await?;
        add(&mut reader, rows)?;
    }
    Ok(reader.into_page())
}

async fn history_rows(pool: &Pool, company_id: Uuid, streams: &[String], after: i64, limit: i64) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"select position as "position!", e.stream as "stream!", version as "version!", event_id as "event_id!",
                  event_type as "event_type!", schema_version as "schema_version!", e.company_id as "company_id!",
                  payload::text as "payload!", metadata::text as "metadata!", occurred_at as "occurred_at!", recorded_at as "recorded_at!"
             from (select stream, stream_version_at(stream, $3) as seen from streams where stream = any($1) and company_id = $2 offset 0) s
                  cross join lateral (select * from events e where e.stream = s.stream and e.version > s.seen
                                       order by e.stream, e.version limit $4) e
            order by position limit $4"#,
        streams,
        company_id,
        after,
        limit
    )
    .fetch_all(pool)
    .await
}

/// Finds it by halving the log: `recorded_at` never decreases.
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

/// The events of one stream with a version above `after`, oldest first; at most `limit`.
pub(crate) async fn stream(pool: &Pool, stream: &StreamName, after: i64, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, stream, version, event_id, event_type, schema_version, company_id, payload::text as "payload!",
                  metadata::text as "metadata!", occurred_at, recorded_at
             from events
            where stream = $1 and version > $2
            order by stream, version
            limit $3"#,
        stream.to_string(),
        after,
        limit
    );
    rows.fetch_all(pool).await?.into_iter().map(StoredEvent::try_from).collect()
}
