//! A batch as the arguments of `append_events`. A large one is copied in, in PostgreSQL's binary format
//! (<https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4>), because that costs half as much per event.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    ExpectedVersion,
    batch::{Batch, Found, Stored},
};
use crate::event::NewEvent;

/// From so many events on a batch is copied in.
const COPY_EVENTS_MIN: usize = 500;

/// What became of a batch.
pub(super) enum Written {
    /// Its events follow behind `position`, in order.
    At { position: i64, recorded_at: DateTime<Utc> },
    /// Nothing was written: the log has something else than the batch supposed.
    Not(Found),
}

/// The arguments of `append_events`.
#[derive(Default)]
struct Columns<'a> {
    streams: Vec<String>,
    companies: Vec<Uuid>,
    expected: Vec<i64>,
    slots: Vec<i32>,
    offsets: Vec<i32>,
    event_ids: Vec<Uuid>,
    types: Vec<&'a str>,
    schemas: Vec<i16>,
    payloads: Vec<&'a str>,
    metadata: Vec<&'a str>,
    occurred: Vec<DateTime<Utc>>,
    digests: Vec<u8>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a Batch, with_content: bool) -> Self {
        let mut columns = Self::default();
        for slot in &batch.streams {
            columns.streams.push(slot.name.to_string());
            columns.companies.push(slot.company_id);
            columns.expected.push(slot.expected.to_sql());
        }
        let mut counts = vec![0; batch.streams.len()];
        for (slot, event) in batch.events() {
            if let Some(count) = counts.get_mut(slot) {
                *count += 1;
                columns.offsets.push(*count);
            }
            columns.slots.push(i32::try_from(slot + 1).unwrap_or(i32::MAX));
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
}

/// What `append_events` answers.
struct Answer {
    position: Option<i64>,
    recorded_at: DateTime<Utc>,
    found: Option<Vec<i64>>,
    owners: Option<Vec<Option<Uuid>>>,
    hashes: Option<Vec<Vec<u8>>>,
    stored: Option<sqlx::types::Json<Vec<StoredRow>>>,
}

#[derive(Deserialize)]
struct StoredRow {
    event_id: Uuid,
    stream: String,
    position: i64,
    recorded_at_us: i64,
}

impl Answer {
    fn found(self) -> Found {
        let stored = self.stored.map(|json| json.0).unwrap_or_default().into_iter().map(|row| {
            let recorded_at = DateTime::from_timestamp_micros(row.recorded_at_us).unwrap_or_default();
            (row.event_id, Stored { stream: row.stream, position: row.position, recorded_at })
        });
        let stored: HashMap<_, _> = stored.collect();
        Found { versions: self.found.unwrap_or_default(), owners: self.owners.unwrap_or_default(), stored }
    }
}

/// Writes all of the batch or nothing. `again`: an answer was lost, the events may be in the log already.
pub(super) async fn write(connection: &mut PgConnection, batch: &Batch, again: bool) -> Result<Written, sqlx::Error> {
    if batch.size.events >= COPY_EVENTS_MIN {
        return write_large(connection, batch, again).await;
    }
    let columns = Columns::of(batch, true);
    let answer = append(connection, &columns, again, true).await?;
    Ok(match answer.position {
        Some(position) => Written::At { position, recorded_at: answer.recorded_at },
        None => Written::Not(answer.found()),
    })
}

async fn write_large(connection: &mut PgConnection, batch: &Batch, again: bool) -> Result<Written, sqlx::Error> {
    let columns = Columns::of(batch, false);
    let mut transaction = connection.begin().await?;
    let answer = append(&mut transaction, &columns, again, false).await?;
    let Some(position) = answer.position else {
        transaction.rollback().await?;
        return Ok(Written::Not(answer.found()));
    };
    let recorded_at = answer.recorded_at;
    let rows = rows(batch, &columns, position, &answer);
    let count = rows.len();
    let mut copy = transaction
        .copy_in_raw(
            "copy events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
             from stdin (format binary)",
        )
        .await?;
    let mut buffer = SIGNATURE.to_vec();
    for row in rows {
        row.write(&mut buffer);
        if buffer.len() >= CHUNK_BYTES {
            copy.send(std::mem::take(&mut buffer)).await?;
        }
    }
    buffer.extend_from_slice(&END.to_be_bytes());
    copy.send(buffer).await?;
    let copied = copy.finish().await?;
    if usize::try_from(copied) != Ok(count) || count != batch.size.events {
        return Err(sqlx::Error::Protocol(format!("of {} events {count} were placed and {copied} copied", batch.size.events)));
    }
    transaction.commit().await?;
    Ok(Written::At { position, recorded_at })
}

async fn append(connection: &mut PgConnection, columns: &Columns<'_>, again: bool, insert: bool) -> Result<Answer, sqlx::Error> {
    let least_event_id = columns.event_ids.iter().min().copied().unwrap_or_default();
    sqlx::query_as!(
        Answer,
        r#"select o_position as position, o_recorded_at as "recorded_at!", o_found as found, o_owners as "owners: Vec<Option<Uuid>>", o_hashes as hashes,
                  o_stored as "stored: sqlx::types::Json<Vec<StoredRow>>"
             from append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"#,
        &columns.streams,
        &columns.companies,
        &columns.expected,
        &columns.slots,
        &columns.offsets,
        &columns.event_ids,
        &columns.types as &[&str],
        &columns.schemas,
        &columns.payloads as &[&str],
        &columns.metadata as &[&str],
        &columns.occurred,
        &columns.digests,
        least_event_id,
        again,
        insert
    )
    .fetch_one(connection)
    .await
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const END: i16 = -1;
const COLUMNS: i16 = 12;
/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 1 << 20;
/// PostgreSQL counts from 2000-01-01; in microseconds since 1970.
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

fn rows<'a>(batch: &'a Batch, columns: &'a Columns<'a>, position: i64, answer: &'a Answer) -> Vec<Row<'a>> {
    let (found, hashes) = (answer.found.as_deref().unwrap_or_default(), answer.hashes.as_deref().unwrap_or_default());
    let placed = (position + 1..).zip(batch.events()).zip(&columns.offsets).zip(hashes);
    let rows = placed.filter_map(|(((position, (slot, event)), offset), hash)| {
        Some(Row {
            position,
            stream: columns.streams.get(slot)?,
            version: found.get(slot)? + i64::from(*offset),
            company_id: *columns.companies.get(slot)?,
            event,
            recorded_at: answer.recorded_at,
            hash,
        })
    });
    rows.collect()
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

fn length(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(&i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes());
}

fn timestamp(at: DateTime<Utc>) -> [u8; 8] {
    (at.timestamp_micros() - EPOCH_2000_US).to_be_bytes()
}

impl ExpectedVersion {
    const fn to_sql(self) -> i64 {
        match self.version() {
            Some(version) => version,
            None => -1,
        }
    }
}
