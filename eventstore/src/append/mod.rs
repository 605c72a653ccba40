//! Coalesced append: commands that arrive together are written in one transaction.
//!
//! The transaction holds the head still, checks the versions of the streams, gives out positions, links the hash chain and
//! inserts; each command gets its own answer. While one batch is being committed the next one gathers. `batch.rs` has the
//! rules, `worker.rs` runs them, `write.rs` and `foreseen.rs` speak to the database: in one round trip, unless the batch is large.

mod batch;
mod columns;
mod foreseen;
mod worker;
mod write;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    error::StoreError,
    event::{NewEvent, StreamName},
    head::Head,
};

/// Commands that wait for the next batch at most; a further one is refused as overload.
const APPEND_QUEUE_MAX: usize = 4_096;
/// Bytes that wait for the next batch at most; a further command is refused as overload.
const APPEND_QUEUE_BYTES: usize = 64 << 20;

/// What version a stream must have for a command to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// No event yet.
    NoStream,
    Exact(i64),
    Any,
}

impl ExpectedVersion {
    /// The version, if there is one that is expected; 0 for no stream.
    pub(crate) const fn version(self) -> Option<i64> {
        match self {
            Self::NoStream => Some(0),
            Self::Exact(version) => Some(version),
            Self::Any => None,
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
    /// The events were in the log before: the command came again.
    pub repeated: bool,
}

/// A command on its way.
struct Pending {
    company_id: Uuid,
    writes: Vec<StreamWrite>,
    reply: oneshot::Sender<Result<Appended, StoreError>>,
    size: Size,
}

/// What a command or a batch holds.
#[derive(Clone, Copy, Default)]
struct Size {
    events: usize,
    bytes: usize,
}

impl Size {
    fn of(writes: &[StreamWrite]) -> Self {
        let events = writes.iter().flat_map(|w| &w.events);
        events.fold(Self::default(), |size, e| Self { events: size.events + 1, bytes: size.bytes + e.payload.len() + e.metadata.len() })
    }
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// The front of the queue.
#[derive(Clone)]
pub(crate) struct Appender {
    queue: mpsc::Sender<Pending>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// The answer to an append that is on its way.
pub(crate) struct Answer(oneshot::Receiver<Result<Appended, StoreError>>);

impl Answer {
    pub async fn get(self) -> Result<Appended, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::ShuttingDown))
    }
}

impl Appender {
    /// Starts the task that writes the batches over a connection of its own.
    pub fn start(options: PgConnectOptions, head: Head) -> Self {
        let (queue, pending) = mpsc::channel(APPEND_QUEUE_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(worker::Worker::new(options, head, pending, Arc::clone(&waiting_bytes)).run());
        Self { queue, waiting_bytes }
    }

    /// Puts a command into the queue. All of `writes` will be written or nothing; each stream occurs once.
    pub fn enqueue(&self, company_id: Uuid, writes: Vec<StreamWrite>) -> Result<Answer, StoreError> {
        let mut streams = HashSet::with_capacity(writes.len());
        if let Some(twice) = writes.iter().find(|write| !streams.insert(&write.stream)) {
            return Err(StoreError::StreamTwice(twice.stream.to_string()));
        }
        let size = Size::of(&writes);
        let waiting = self.waiting_bytes.fetch_add(size.bytes, Ordering::Relaxed);
        let give_back = |error| {
            self.waiting_bytes.fetch_sub(size.bytes, Ordering::Relaxed);
            error
        };
        // A command that is larger than the whole queue still fits into an empty one.
        if waiting > 0 && waiting + size.bytes > APPEND_QUEUE_BYTES {
            return Err(give_back(StoreError::Overloaded));
        }
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Pending { company_id, writes, reply, size }).map_err(|refused| {
            give_back(match refused {
                mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => StoreError::ShuttingDown,
            })
        })?;
        Ok(Answer(answer))
    }
}
