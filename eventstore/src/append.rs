//! Coalesced append: commands that arrive together are written by one statement, `append_events`, in one round trip.
//!
//! The statement locks the head row, checks every stream's expected version, gives out positions, links the hash chain and
//! inserts; each command gets its own answer. While one batch is being committed the next one gathers.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    error::{Conflict, StoreError},
    event::{NewEvent, StreamName},
    head::Head,
};

/// Commands that wait for the next batch at most; a further one is refused as overload.
const APPEND_QUEUE_MAX: usize = 4_096;
/// Commands in one batch at most.
const APPEND_BATCH_MAX: usize = 256;
/// Events after which a batch is closed.
const APPEND_BATCH_EVENTS: usize = 4_000;
/// Payload bytes after which a batch is closed.
const APPEND_BATCH_BYTES: usize = 8 << 20;
/// A batch that takes longer is given up; its connection is closed, its commands hear that nothing is known.
const APPEND_DEADLINE: Duration = Duration::from_secs(30);

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What PostgreSQL gives a batch; less than we wait, so that a batch we gave up does not come in later.
const STATEMENT_TIMEOUT: &str = "25s";

/// What version a stream must have for a command to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// No event yet.
    NoStream,
    Exact(i64),
    Any,
}

impl ExpectedVersion {
    const fn to_sql(self) -> i64 {
        match self {
            Self::NoStream => 0,
            Self::Exact(version) => version,
            Self::Any => -1,
        }
    }
}

/// Events for one stream; without events only its version is expected.
#[derive(Clone, Debug)]
pub struct StreamWrite {
    pub stream: StreamName,
    pub expected: ExpectedVersion,
    pub events: Vec<NewEvent>,
}

/// What an append that succeeded came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Of the command's last event.
    pub position: i64,
    pub recorded_at: DateTime<Utc>,
}

struct Pending {
    company_id: Uuid,
    writes: Vec<StreamWrite>,
    reply: oneshot::Sender<Result<Appended, StoreError>>,
}

impl Pending {
    fn events(&self) -> usize {
        self.writes.iter().map(|w| w.events.len()).sum()
    }

    fn bytes(&self) -> usize {
        self.writes.iter().flat_map(|w| &w.events).map(|e| e.payload.len() + e.metadata.len()).sum()
    }
}

/// The front of the queue.
#[derive(Clone)]
pub(crate) struct Appender {
    queue: mpsc::Sender<Pending>,
}

impl Appender {
    /// Starts the task that writes the batches over a connection of its own.
    pub(crate) fn start(options: PgConnectOptions, head: Head) -> Self {
        let options = options.options([("statement_timeout", STATEMENT_TIMEOUT)]);
        let (queue, pending) = mpsc::channel(APPEND_QUEUE_MAX);
        tokio::spawn(Worker { options, head, connection: None, pending, deferred: VecDeque::new() }.run());
        Self { queue }
    }

    /// Writes all or nothing of `writes`, which name each stream once.
    pub(crate) async fn append(&self, company_id: Uuid, writes: Vec<StreamWrite>) -> Result<Appended, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Pending { company_id, writes, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::ShuttingDown,
        })?;
        answer.await.unwrap_or(Err(StoreError::ShuttingDown))
    }
}

struct Worker {
    options: PgConnectOptions,
    head: Head,
    connection: Option<PgConnection>,
    pending: mpsc::Receiver<Pending>,
    /// Commands that name a stream of the batch before them.
    deferred: VecDeque<Pending>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            let results = self.flush(&batch).await;
            for (pending, result) in batch.into_iter().zip(results) {
                let _ = pending.reply.send(result);
            }
        }
    }

    /// The next batch: whatever waits, within the limits, each stream once. `None` when nobody can append any more.
    async fn gather(&mut self) -> Option<Vec<Pending>> {
        let first = match self.deferred.pop_front() {
            Some(first) => first,
            None => self.pending.recv().await?,
        };
        let mut batch = Batch::with(first);
        let mut still_deferred = VecDeque::new();
        while let Some(next) = self.deferred.pop_front() {
            still_deferred.extend(batch.take(next));
        }
        while !batch.is_full() && still_deferred.len() < APPEND_BATCH_MAX {
            let Ok(next) = self.pending.try_recv() else { break };
            still_deferred.extend(batch.take(next));
        }
        self.deferred = still_deferred;
        Some(batch.commands)
    }

    async fn flush(&mut self, batch: &[Pending]) -> Vec<Result<Appended, StoreError>> {
        match self.try_flush(batch).await {
            Ok(results) => results,
            // One command's content may have spoilt it for all: each gets its own try, unless the connection is what failed.
            Err(sqlx::Error::Database(error)) if batch.len() > 1 && self.connection.is_some() => {
                tracing::warn!(%error, commands = batch.len(), "an append batch failed; its commands are tried one by one");
                let mut results = Vec::with_capacity(batch.len());
                for pending in batch {
                    let alone = self.try_flush(std::slice::from_ref(pending)).await;
                    results.push(alone.unwrap_or_else(|e| vec![Err(e.into())]).pop().unwrap_or(Err(StoreError::ShuttingDown)));
                }
                results
            }
            Err(error) => {
                tracing::warn!(%error, commands = batch.len(), "an append batch failed");
                batch.iter().map(|_| Err(StoreError::AppendFailed(error.to_string()))).collect()
            }
        }
    }

    /// Writes a batch over the connection; a connection that failed or did not answer in time is not used again.
    async fn try_flush(&mut self, batch: &[Pending]) -> Result<Vec<Result<Appended, StoreError>>, sqlx::Error> {
        let timed_out = |_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connecting = tokio::time::timeout(CONNECT_DEADLINE, PgConnection::connect_with(&self.options)).await;
                connecting.unwrap_or_else(timed_out)?
            }
        };
        let result = tokio::time::timeout(APPEND_DEADLINE, write(&mut connection, batch)).await;
        let result = result.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        let usable = match &result {
            Ok(_) => true,
            Err(sqlx::Error::Database(error)) => !is_fatal(error.as_ref()),
            Err(_) => false,
        };
        if usable {
            self.connection = Some(connection);
        }
        let results = result?;
        if let Some(position) = results.iter().flatten().map(|appended| appended.position).max() {
            self.head.advance(position);
        }
        Ok(results)
    }
}

fn is_fatal(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

struct Batch {
    commands: Vec<Pending>,
    streams: HashSet<StreamName>,
    events: usize,
    bytes: usize,
}

impl Batch {
    fn with(first: Pending) -> Self {
        let mut batch = Self { commands: Vec::new(), streams: HashSet::new(), events: 0, bytes: 0 };
        batch.take(first);
        batch
    }

    fn is_full(&self) -> bool {
        self.commands.len() >= APPEND_BATCH_MAX || self.events >= APPEND_BATCH_EVENTS || self.bytes >= APPEND_BATCH_BYTES
    }

    /// Takes the command, or gives it back when the batch is full or has one of its streams already.
    fn take(&mut self, next: Pending) -> Option<Pending> {
        if self.is_full() || next.writes.iter().any(|w| self.streams.contains(&w.stream)) {
            return Some(next);
        }
        self.streams.extend(next.writes.iter().map(|w| w.stream.clone()));
        self.events += next.events();
        self.bytes += next.bytes();
        self.commands.push(next);
        None
    }
}

/// The arguments of `append_events`, column by column.
#[derive(Default)]
struct Columns {
    commands: Vec<i32>,
    streams: Vec<String>,
    expected: Vec<i64>,
    counts: Vec<i32>,
    companies: Vec<Uuid>,
    event_ids: Vec<Uuid>,
    types: Vec<String>,
    schemas: Vec<i16>,
    payloads: Vec<String>,
    metadata: Vec<String>,
    occurred: Vec<DateTime<Utc>>,
    digests: Vec<Vec<u8>>,
}

impl Columns {
    fn of(batch: &[Pending]) -> Self {
        let mut columns = Self::default();
        for (command, pending) in (0..).zip(batch) {
            for write in &pending.writes {
                columns.commands.push(command);
                columns.streams.push(write.stream.to_string());
                columns.expected.push(write.expected.to_sql());
                columns.counts.push(i32::try_from(write.events.len()).unwrap_or(i32::MAX));
                columns.companies.push(pending.company_id);
                write.events.iter().for_each(|event| columns.push(event));
            }
        }
        columns
    }

    fn push(&mut self, event: &NewEvent) {
        self.event_ids.push(event.event_id);
        self.types.push(event.event_type.clone());
        self.schemas.push(event.schema_version);
        self.payloads.push(event.payload.clone());
        self.metadata.push(event.metadata.clone());
        self.occurred.push(event.occurred_at);
        self.digests.push(event.digest.to_vec());
    }
}

async fn write(connection: &mut PgConnection, batch: &[Pending]) -> Result<Vec<Result<Appended, StoreError>>, sqlx::Error> {
    let c = Columns::of(batch);
    let rows = sqlx::query!(
        r#"select o_command as "command!", o_position as position, o_recorded_at as "recorded_at!",
                  o_stream as stream, o_expected as expected, o_actual as actual
             from append_events($1, $2, $3, $4, $5, $6, $7, $8, $9::text[]::jsonb[], $10::text[]::jsonb[], $11, $12)"#,
        &c.commands,
        &c.streams,
        &c.expected,
        &c.counts,
        &c.companies,
        &c.event_ids,
        &c.types,
        &c.schemas,
        &c.payloads,
        &c.metadata,
        &c.occurred,
        &c.digests
    )
    .fetch_all(connection)
    .await?;
    // Every command must have an answer: a missing one is an error, never a silent success.
    let mut results: Vec<_> = batch.iter().map(|_| Err(StoreError::AppendFailed("the log gave no answer".into()))).collect();
    for row in rows {
        let result = match (row.position, row.stream, row.expected, row.actual) {
            (Some(position), ..) => Ok(Appended { position, recorded_at: row.recorded_at }),
            (None, Some(stream), Some(expected), Some(actual)) if expected < 0 || expected == actual => {
                tracing::debug!(stream, actual, "an append to another company's stream was refused");
                Err(StoreError::OtherCompany(stream))
            }
            (None, Some(stream), Some(expected), Some(actual)) => Err(Conflict { stream, expected, actual }.into()),
            _ => continue,
        };
        if let Some(slot) = usize::try_from(row.command).ok().and_then(|i| results.get_mut(i)) {
            *slot = result;
        }
    }
    Ok(results)
}
