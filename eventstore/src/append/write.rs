//! Writes a batch: to its predicted places, or to places that the database assigns. A large batch is copied in, because that costs half as
//! much per event.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::count;
use serde::Deserialize;
use sqlx::{Connection, PgConnection, types::Json};
use uuid::Uuid;

use super::{
    batch::{Batch, Found, Stored},
    columns::{Columns, Places, copy_in},
    predicted::{self, Prediction},
};
use crate::clock::DatabaseClock;

/// A batch with at least this many events is copied in.
const COPY_EVENTS_MIN: usize = 500;

/// The result of writing a batch.
pub(super) enum Written {
    /// Its events follow behind `position`, in order.
    At { position: i64, recorded_at: DateTime<Utc> },
    /// Nothing was written: the log differs from what the batch expects.
    Not(Found),
}

/// Writes batches over the given connection, and stores where the log ends.
pub(super) struct Writer {
    /// Whether it may copy into the log.
    may_copy: bool,
    prediction: Option<Prediction>,
    clock: DatabaseClock,
    /// Position of the last event that this process appended.
    last_position: Option<i64>,
}

impl Writer {
    pub const fn new(may_copy: bool, clock: DatabaseClock) -> Self {
        Self { may_copy, prediction: None, clock, last_position: None }
    }

    /// Writes the whole batch or nothing. `again`: an answer was lost, the events may be in the log already.
    pub async fn write(&mut self, connection: &mut PgConnection, batch: &Batch, again: bool) -> Result<Written, sqlx::Error> {
        let columns = Columns::of(batch, batch.size.events < COPY_EVENTS_MIN || !self.may_copy);
        let prediction = self.prediction.take().filter(|_| !again);
        let now = self.clock.now();
        if let Some(predicted) = prediction.zip(now).and_then(|(prediction, now)| prediction.place(batch, &columns, now)) {
            match predicted::write(connection, batch, &columns, predicted, &self.clock).await {
                Ok(Some((position, prediction))) => {
                    let recorded_at = prediction.recorded_at;
                    self.last_position = Some(prediction.position);
                    self.prediction = Some(prediction);
                    return Ok(Written::At { position, recorded_at });
                }
                // Another process has appended, or the known time was ahead of the database's.
                Ok(None) => self.clock.doubt(),
                // A stream is not as expected, or the content cannot be stored: append_events finds out which.
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.ask(connection, batch, &columns, again).await
    }

    async fn ask(
        &mut self,
        connection: &mut PgConnection,
        batch: &Batch,
        columns: &Columns<'_>,
        again: bool,
    ) -> Result<Written, sqlx::Error> {
        let answer = if columns.have_content() {
            let answer = append(connection, columns, again, true).await?;
            self.note(&answer);
            answer
        } else {
            let mut transaction = connection.begin().await?;
            let mut answer = append(&mut transaction, columns, again, false).await?;
            self.note(&answer);
            if let Some(places) = answer.take_places(columns) {
                copy_in(&mut transaction, batch, columns, &places).await?;
                transaction.commit().await?;
            } else {
                transaction.rollback().await?;
            }
            answer
        };
        let Some(position) = answer.position else { return Ok(Written::Not(answer.found())) };
        let recorded_at = answer.recorded_at;
        // Prediction is worth a try once no other process has appended in between.
        if self.last_position == Some(position) {
            self.prediction = answer.prediction(position, batch);
        }
        self.last_position = Some(position + count::to_i64(batch.size.events));
        Ok(Written::At { position, recorded_at })
    }

    fn note(&self, answer: &Answer) {
        if let Some(clock) = answer.clock {
            self.clock.note(clock);
        }
    }
}

fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "NV001" || code.starts_with("22") || code.starts_with("23"))
}

/// The answer of `append_events`.
struct Answer {
    position: Option<i64>,
    recorded_at: DateTime<Utc>,
    found: Option<Vec<i64>>,
    owners: Option<Vec<Option<Uuid>>>,
    hashes: Option<Vec<Vec<u8>>>,
    last_hash: Option<Vec<u8>>,
    clock: Option<DateTime<Utc>>,
    stored: Option<Json<Vec<StoredRow>>>,
}

#[derive(Deserialize)]
struct StoredRow {
    event_id: Uuid,
    stream: String,
    position: i64,
    recorded_at_us: i64,
}

impl Answer {
    /// Where the caller must insert the events.
    fn take_places(&mut self, columns: &Columns<'_>) -> Option<Places> {
        let first_position = self.position? + 1;
        let found = self.found.as_deref().unwrap_or_default();
        let version = |(slot, offset): (&i32, &i32)| Some(found.get(usize::try_from(*slot).ok()?.checked_sub(1)?)? + i64::from(*offset));
        let versions = columns.slots.iter().zip(&columns.offsets).filter_map(version).collect();
        Some(Places { first_position, recorded_at: self.recorded_at, versions, hashes: self.hashes.take().unwrap_or_default() })
    }

    fn prediction(&self, before: i64, batch: &Batch) -> Option<Prediction> {
        let hash = self.last_hash.as_deref()?.try_into().ok()?;
        let position = before + count::to_i64(batch.size.events);
        Some(Prediction { position, hash, recorded_at: self.recorded_at })
    }

    #[expect(clippy::expect_used, reason = "recorded_at is a server's clock")]
    fn found(self) -> Found {
        let stored = self.stored.map(|json| json.0).unwrap_or_default().into_iter().map(|row| {
            let recorded_at = DateTime::from_timestamp_micros(row.recorded_at_us).expect("recorded_at is not 262 000 years away");
            (row.event_id, Stored { stream: row.stream, position: row.position, recorded_at })
        });
        let stored: HashMap<_, _> = stored.collect();
        Found { versions: self.found.unwrap_or_default(), owners: self.owners.unwrap_or_default(), stored }
    }
}

async fn append(connection: &mut PgConnection, columns: &Columns<'_>, again: bool, insert: bool) -> Result<Answer, sqlx::Error> {
    sqlx::query_as!(
        Answer,
        r#"select o_position as position, o_recorded_at as "recorded_at!", o_found as found, o_owners as "owners: Vec<Option<Uuid>>",
                  o_hashes as hashes, o_last_hash as last_hash, o_clock as clock, o_stored as "stored: Json<Vec<StoredRow>>"
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
        columns.least_event_id(),
        again,
        insert
    )
    .fetch_one(connection)
    .await
}
