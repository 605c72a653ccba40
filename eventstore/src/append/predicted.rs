//! An append whose places are predicted: while no other process appends, this process has the log's end and can assign positions, versions
//! and hashes itself. One plain statement then writes everything if the log is as predicted, or nothing.
//!
//! The statement holds the same lock as `append_events`. Its snapshot may be older than the lock, but not than the head that it expects: if
//! another process has appended since, the head's row has another position, and the update finds no row.

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    batch::Batch,
    columns::{Columns, Places, copy_in},
};
use crate::{canonical, clock::DatabaseClock};

/// Where the log continues, unless another process appends.
pub(super) struct Prediction {
    pub position: i64,
    pub hash: [u8; 32],
    pub recorded_at: DateTime<Utc>,
}

/// The end of the log after an append.
pub(super) struct Predicted {
    places: Places,
    last: Prediction,
}

impl Prediction {
    /// The places of a batch at this time of the database; `None` if the batch depends on versions that only the log has.
    pub fn place(&self, batch: &Batch, columns: &Columns<'_>, now: DateTime<Utc>) -> Option<Predicted> {
        if batch.streams.iter().any(|slot| slot.count == 0 || slot.expected.version().is_none()) {
            return None;
        }
        let recorded_at = self.recorded_at.max(now);
        let (mut hash, mut position) = (self.hash, self.position);
        let mut places = Places { first_position: position + 1, recorded_at, versions: Vec::new(), hashes: Vec::new() };
        for ((slot, event), offset) in batch.events().zip(&columns.offsets) {
            position += 1;
            let version = columns.expected.get(slot)? + i64::from(*offset);
            hash = canonical::link(&hash, &event.digest, position, version, recorded_at);
            places.versions.push(version);
            places.hashes.push(hash.to_vec());
        }
        Some(Predicted { places, last: Prediction { position, hash, recorded_at } })
    }
}

/// Writes a batch to its predicted places. Returns the position before the batch and where the log continues; `None` if the log is not as
/// predicted.
pub(super) async fn write(
    connection: &mut PgConnection,
    batch: &Batch,
    columns: &Columns<'_>,
    predicted: Predicted,
    clock: &DatabaseClock,
) -> Result<Option<(i64, Prediction)>, sqlx::Error> {
    let Predicted { places, last } = predicted;
    let before = places.first_position - 1;
    let told = if columns.have_content() {
        let rows = Rows { slots: &columns.slots, event_ids: &columns.event_ids, versions: &places.versions, hashes: &places.hashes };
        move_head(connection, columns, &rows, before, &last).await?
    } else {
        let mut transaction = connection.begin().await?;
        let told = move_head(&mut transaction, columns, &Rows::default(), before, &last).await?;
        if told.is_some() {
            copy_in(&mut transaction, batch, columns, &places).await?;
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        told
    };
    Ok(told.map(|time| {
        clock.note(time);
        (before, last)
    }))
}

/// The values that the statement inserts itself, beside the columns' content; empty if the events are copied in.
#[derive(Default)]
struct Rows<'a> {
    slots: &'a [i32],
    event_ids: &'a [Uuid],
    versions: &'a [i64],
    hashes: &'a [Vec<u8>],
}

/// Moves the head and the streams forward and inserts `rows`. Returns the database's clock; `None` if the log does not end at `before` or a
/// partition is nearly full.
async fn move_head(
    connection: &mut PgConnection,
    columns: &Columns<'_>,
    rows: &Rows<'_>,
    before: i64,
    last: &Prediction,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
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
           select require_as_predicted((select count(*) from moved) = (select count(*) from unnest($8::bigint[]) expected where expected > 0)) as "whole!",
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
    Ok(moved.fetch_optional(connection).await?.map(|row| row.clock))
}
