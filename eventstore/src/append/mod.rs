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
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub use worker::APPEND_DEADLINE;

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
    /// The append, still on its way, whose events the expected version counts: the write is good only if that one succeeds.
    pub(crate) rests_on: Option<Outcome>,
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
    size: Size,
    reply: oneshot::Sender<Result<Appended, StoreError>>,
    outcome: Outcome,
    /// Bytes that wait, until it is answered.
    _waiting: Waiting,
}

impl Pending {
    fn answer(self, answer: Result<Appended, StoreError>) {
        // Of what came again the content is not known: whoever rests on it has to decide anew.
        self.outcome.settle(answer.as_ref().is_ok_and(|appended| !appended.repeated));
        let _ = self.reply.send(answer);
    }
}

/// What became of an append; those decided on its events ask. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome(Arc<AtomicU8>);

/// What is known of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Won,
    Lost,
}

impl Outcome {
    fn settle(&self, won: bool) {
        self.0.store(if won { 1 } else { 2 }, Ordering::Release);
    }

    fn fate(&self) -> Fate {
        match self.0.load(Ordering::Acquire) {
            0 => Fate::Open,
            1 => Fate::Won,
            _ => Fate::Lost,
        }
    }

    /// Whether both are the same append's.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

struct Waiting {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
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
    /// Starts the task that writes the batches over a connection of its own. COPY is not open to everybody.
    pub fn start(options: PgConnectOptions, may_copy: bool, head: Head) -> Self {
        let (queue, pending) = mpsc::channel(APPEND_QUEUE_MAX);
        tokio::spawn(worker::Worker::new(options, may_copy, head, pending).run());
        Self { queue, waiting_bytes: Arc::default() }
    }

    /// Commands that wait for the next batch.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Puts a command into the queue. All of `writes` will be written or nothing; each stream occurs once. Its outcome can be rested
    /// on before the answer is there.
    pub fn enqueue(&self, company_id: Uuid, writes: Vec<StreamWrite>) -> Result<(Answer, Outcome), StoreError> {
        let mut streams = HashSet::with_capacity(writes.len());
        if let Some(twice) = writes.iter().find(|write| !streams.insert(&write.stream)) {
            return Err(StoreError::StreamTwice(twice.stream.to_string()));
        }
        let size = Size::of(&writes);
        let before = self.waiting_bytes.fetch_add(size.bytes, Ordering::Relaxed);
        let waiting = Waiting { all: Arc::clone(&self.waiting_bytes), bytes: size.bytes };
        // A command that is larger than the whole queue still fits into an empty one.
        if before > 0 && before + size.bytes > APPEND_QUEUE_BYTES {
            return Err(StoreError::Overloaded);
        }
        let (reply, answer) = oneshot::channel();
        let outcome = Outcome::default();
        let pending = Pending { company_id, writes, size, reply, outcome: outcome.clone(), _waiting: waiting };
        self.queue.try_send(pending).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::ShuttingDown,
        })?;
        Ok((Answer(answer), outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::batch::tests::event;

    fn writes(bytes: usize) -> Vec<StreamWrite> {
        let event = NewEvent { payload: "x".repeat(bytes), ..event(1) };
        let stream = "call-00000000-0000-0000-0000-000000000001".parse().unwrap();
        vec![StreamWrite { stream, expected: ExpectedVersion::Any, events: vec![event], rests_on: None }]
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_until_its_commands_are_answered() {
        let (queue, mut pending) = mpsc::channel(APPEND_QUEUE_MAX);
        let appender = Appender { queue, waiting_bytes: Arc::default() };
        let enqueue = |bytes| appender.enqueue(Uuid::nil(), writes(bytes)).map(drop);
        assert!(enqueue(APPEND_QUEUE_BYTES * 2).is_ok(), "an empty queue takes everything");
        assert!(matches!(enqueue(1), Err(StoreError::Overloaded)));
        let taken = pending.try_recv().unwrap();
        assert!(matches!(enqueue(1), Err(StoreError::Overloaded)), "it is taken, but not answered");
        taken.answer(Err(StoreError::Overtaken));
        assert!(enqueue(APPEND_QUEUE_BYTES / 2).is_ok() && enqueue(APPEND_QUEUE_BYTES / 3).is_ok());
        assert!(matches!(enqueue(APPEND_QUEUE_BYTES / 3), Err(StoreError::Overloaded)));
    }

    #[test]
    fn a_command_names_a_stream_once() {
        let (queue, _pending) = mpsc::channel(APPEND_QUEUE_MAX);
        let appender = Appender { queue, waiting_bytes: Arc::default() };
        let twice = appender.enqueue(Uuid::nil(), [writes(1), writes(1)].concat());
        assert!(matches!(twice, Err(StoreError::StreamTwice(_))));
    }
}
