//! An append whose places are foreseen: while no other process appends, ours knows the log's end and can give out positions,
//! versions and hashes itself. One plain statement then writes everything, if the log is as foreseen, or nothing.
//!
//! It holds the same lock as `append_events`. Its snapshot may be older than the lock, but not than the head that it expects: if
//! anybody has appended since, the head's row has another position, and the update finds none.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    batch::Batch,
    columns::{Columns, Places, copy_in},
};
use crate::canonical;

/// Where the log will go on, unless another process appends.
pub(super) struct Foresight {
    pub position: i64,
    pub hash: [u8; 32],
    pub recorded_at: DateTime<Utc>,
    /// The database's clock, and when it was read: carried on it is behind by the way of one answer, never ahead.
    pub clock: (DateTime<Utc>, Instant),
}

/// What the log looks like after an append.
pub(super) struct Foreseen {
    places: Places,
    last: Foresight,
}

impl Foresight {
    /// The places of a batch; none when it depends on versions that only the log knows.
    pub fn place(&self, batch: &Batch, columns: &Columns<'_>) -> Option<Foreseen> {
        if batch.streams.iter().any(|slot| slot.count == 0 || slot.expected.version().is_none()) {
            return None;
        }
        let (clock, read) = self.clock;
        let recorded_at = self.recorded_at.max(clock + TimeDelta::microseconds(i64::try_from(read.elapsed().as_micros()).ok()?));
        let (mut hash, mut position) = (self.hash, self.position);
        let mut places = Places { first_position: position + 1, recorded_at, versions: Vec::new(), hashes: Vec::new() };
        for ((slot, event), offset) in batch.events().zip(&columns.offsets) {
            position += 1;
            let version = columns.expected.get(slot)? + i64::from(*offset);
            hash = canonical::link(&hash, &event.digest, position, version, recorded_at);
            places.versions.push(version);
            places.hashes.push(hash.to_vec());
        }
        Some(Foreseen { places, last: Foresight { position, hash, recorded_at, clock: self.clock } })
    }
}

/// Writes a batch to its foreseen places and tells the position before it and where the log goes on; none when the log is not
/// as foreseen.
pub(super) async fn write(
    connection: &mut PgConnection,
    batch: &Batch,
    columns: &Columns<'_>,
    foreseen: Foreseen,
) -> Result<Option<(i64, Foresight)>, sqlx::Error> {
    let Foreseen { places, last } = foreseen;
    let before = places.first_position - 1;
    let clock = if columns.have_content() {
        let rows = Rows { slots: &columns.slots, event_ids: &columns.event_ids, versions: &places.versions, hashes: &places.hashes };
        move_head(connection, columns, &rows, before, &last).await?
    } else {
        let mut transaction = connection.begin().await?;
        let clock = move_head(&mut transaction, columns, &Rows::default(), before, &last).await?;
        if clock.is_some() {
            copy_in(&mut transaction, batch, columns, &places).await?;
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        clock
    };
    Ok(clock.map(|clock| (before, Foresight { clock, ..last })))
}

/// What the statement inserts itself, beside the columns' content; nothing when the events are copied in.
#[derive(Default)]
struct Rows<'a> {
    slots: &'a [i32],
    event_ids: &'a [Uuid],
    versions: &'a [i64],
    hashes: &'a [Vec<u8>],
}

/// Moves the head and the streams on and inserts `rows`. The database's clock; none if the log ends elsewhere than at `before`
/// or a partition is about to be full.
async fn move_head(
    connection: &mut PgConnection,
    columns: &Columns<'_>,
    rows: &Rows<'_>,
    before: i64,
    last: &Foresight,
) -> Result<Option<(DateTime<Utc>, Instant)>, sqlx::Error> {
    let moved = sqlx::query!(
        r#"with held as materialized (
               select pg_advisory_xact_lock(hashtextextended(current_schema() || '.log_head', 0))
           ), head as (
               update log_head h set position = $2, hash = $3, recorded_at = $4 from held
                where h.position = $1 and h.recorded_at <= $4 and $4 between clock_timestamp() - interval '1 second' and clock_timestamp()
                  and $2 < h.partition_end and h.closed_event_id < $5
               returning h.position
           ), created as (
               insert into streams (stream, company_id, version)
               select n.stream, n.company_id, n.count from head, unnest($6::text[], $7::uuid[], $8::bigint[], $9::bigint[]) n(stream, company_id, expected, count)
                where n.expected = 0
           ), moved as (
               update streams s set version = s.version + n.count
                 from head, unnest($6::text[], $7::uuid[], $8::bigint[], $9::bigint[]) n(stream, company_id, expected, count)
                where s.stream = n.stream and n.expected > 0 and s.version = n.expected and s.company_id = n.company_id
               returning 1
           ), stored as (
               insert into events (position, stream, version, event_id, event_type, schema_version, company_id, payload, metadata, occurred_at, recorded_at, hash)
               select $1 + e.n, ($6::text[])[e.slot], e.version, e.event_id, e.event_type, e.schema_version, ($7::uuid[])[e.slot], e.payload::jsonb,
                      e.metadata::jsonb, e.occurred_at, $4, e.hash
                 from head, unnest($10::int[], $11::bigint[], $12::uuid[], $13::text[], $14::smallint[], $15::text[], $16::text[], $17::timestamptz[], $18::bytea[])
                      with ordinality e(slot, version, event_id, event_type, schema_version, payload, metadata, occurred_at, hash, n)
           )
           select require_as_foreseen((select count(*) from moved) = (select count(*) from unnest($8::bigint[]) expected where expected > 0)) as "whole!",
                  clock_timestamp() as "clock!"
             from head"#,
        before,
        last.position,
        &last.hash[..],
        last.recorded_at,
        columns.least_event_id(),
        &columns.streams,
        &columns.companies,
        &columns.expected,
        &columns.counts,
        rows.slots,
        rows.versions,
        rows.event_ids,
        &columns.types as &[&str],
        &columns.schemas,
        &columns.payloads as &[&str],
        &columns.metadata as &[&str],
        &columns.occurred,
        rows.hashes as &[Vec<u8>]
    );
    Ok(moved.fetch_optional(connection).await?.map(|row| (row.clock, Instant::now())))
}
