//! A batch as columns, and as rows of a binary COPY (<https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4>).

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::batch::Batch;
use crate::event::NewEvent;

/// Streams, one element each; and events in log order, one element each.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub streams: Vec<String>,
    pub companies: Vec<Uuid>,
    /// Version that the stream must have; -1 for any.
    pub expected: Vec<i64>,
    /// Events of the batch for the stream.
    pub counts: Vec<i64>,
    /// Index of the event's stream, from 1.
    pub slots: Vec<i32>,
    /// 1 for the stream's first event of the batch, 2 for its second, ….
    pub offsets: Vec<i32>,
    pub event_ids: Vec<Uuid>,
    pub digests: Vec<u8>,
    pub types: Vec<&'a str>,
    pub schemas: Vec<i16>,
    pub payloads: Vec<&'a str>,
    pub metadata: Vec<&'a str>,
    pub occurred: Vec<DateTime<Utc>>,
}

impl<'a> Columns<'a> {
    /// Without content, the columns are enough to assign places to the events that are copied in.
    #[expect(clippy::expect_used, reason = "APPEND_BATCH_MAX and APPEND_BATCH_EVENTS")]
    pub fn of(batch: &'a Batch, with_content: bool) -> Self {
        let mut columns = Self::default();
        for slot in &batch.streams {
            columns.streams.push(slot.name.to_string());
            columns.companies.push(slot.company_id);
            columns.expected.push(slot.expected.version().unwrap_or(-1));
            columns.counts.push(slot.count);
        }
        let mut counts = vec![0; batch.streams.len()];
        for (slot, event) in batch.events() {
            if let Some(count) = counts.get_mut(slot) {
                *count += 1;
                columns.offsets.push(*count);
            }
            columns.slots.push(i32::try_from(slot + 1).expect("a batch has far fewer than 2^31 streams"));
            columns.event_ids.push(event.event_id);
            columns.digests.extend_from_slice(&event.digest);
            if with_content {
                columns.push_content(event);
            }
        }
        columns
    }

    fn push_content(&mut self, event: &'a NewEvent) {
        self.types.push(&event.event_type);
        self.schemas.push(event.schema_version);
        self.payloads.push(&event.payload);
        self.metadata.push(&event.metadata);
        self.occurred.push(event.occurred_at);
    }

    pub fn have_content(&self) -> bool {
        !self.types.is_empty()
    }

    pub fn least_event_id(&self) -> Uuid {
        self.event_ids.iter().min().copied().unwrap_or_default()
    }
}

/// The places for the events of a batch.
pub(super) struct Places {
    /// Position of the first event.
    pub first_position: i64,
    pub recorded_at: DateTime<Utc>,
    pub versions: Vec<i64>,
    pub hashes: Vec<Vec<u8>>,
}

/// Copies the events of a batch to their places.
pub(super) async fn copy_in(
    connection: &mut PgConnection,
    batch: &Batch,
    columns: &Columns<'_>,
    places: &Places,
) -> Result<(), sqlx::Error> {
    let mut copy = connection
        .copy_in_raw(
            "copy events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
             from stdin (format binary)",
        )
        .await?;
    let mut buffer = SIGNATURE.to_vec();
    let placed = (places.first_position..).zip(batch.events()).zip(&places.versions).zip(&places.hashes);
    for (((position, (slot, event)), version), hash) in placed {
        let (Some(stream), Some(company_id)) = (columns.streams.get(slot), columns.companies.get(slot)) else { continue };
        let row = Row { position, stream, version: *version, company_id: *company_id, event, recorded_at: places.recorded_at, hash };
        row.write(&mut buffer);
        if buffer.len() >= CHUNK_BYTES {
            copy.send(std::mem::take(&mut buffer)).await?;
        }
    }
    buffer.extend_from_slice(&END.to_be_bytes());
    copy.send(buffer).await?;
    let copied = copy.finish().await?;
    if usize::try_from(copied) != Ok(batch.size.events) {
        return Err(sqlx::Error::Protocol(format!("of {} events {copied} were copied", batch.size.events)));
    }
    Ok(())
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;
const COLUMNS: i16 = 12;
/// Bytes that are sent in one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// The origin of PostgreSQL's timestamps, 2000-01-01, in microseconds since 1970.
const EPOCH_2000_US: i64 = 946_684_800_000_000;
const JSONB_FORMAT: u8 = 1;

/// A row of the log.
struct Row<'a> {
    position: i64,
    stream: &'a str,
    version: i64,
    company_id: Uuid,
    event: &'a NewEvent,
    recorded_at: DateTime<Utc>,
    hash: &'a [u8],
}

impl Row<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&COLUMNS.to_be_bytes());
        field(out, &self.position.to_be_bytes());
        field(out, self.stream.as_bytes());
        field(out, &self.version.to_be_bytes());
        field(out, self.event.event_id.as_bytes());
        field(out, self.event.event_type.as_bytes());
        field(out, &self.event.schema_version.to_be_bytes());
        field(out, self.company_id.as_bytes());
        jsonb(out, &self.event.payload);
        jsonb(out, &self.event.metadata);
        field(out, &timestamp(self.event.occurred_at));
        field(out, &timestamp(self.recorded_at));
        field(out, self.hash);
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn jsonb(out: &mut Vec<u8>, text: &str) {
    length(out, text.len() + 1);
    out.push(JSONB_FORMAT);
    out.extend_from_slice(text.as_bytes());
}

#[expect(clippy::expect_used, reason = "texts of an event have a limit")]
fn length(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(&i32::try_from(bytes).expect("a field of an event has far less than 2 GiB").to_be_bytes());
}

fn timestamp(at: DateTime<Utc>) -> [u8; 8] {
    (at.timestamp_micros() - EPOCH_2000_US).to_be_bytes()
}
