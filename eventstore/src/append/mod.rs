//! Coalesced append: commands that arrive together are written in one transaction.
//!
//! The transaction locks the log, checks the versions of the streams, assigns positions, links the hash chain and inserts; each command
//! gets its own answer. While one batch is being committed, the next one is gathered. `batch.rs` has the rules, `worker.rs` runs them,
//! `write.rs` and `predicted.rs` send the statements to the database: in one round trip, unless the batch is large.

mod batch;
mod columns;
mod pending;
mod predicted;
mod worker;
mod write;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub(crate) use pending::{Appended, Outcome};
pub use pending::{ExpectedVersion, StreamWrite};
pub use worker::APPEND_DEADLINE;

use pending::{Pending, Size, Waiting};

use crate::{error::StoreError, head::Head};

/// Most commands that may wait for the next batch; a further command is refused as overload.
const APPEND_QUEUE_MAX: usize = 4_096;
/// Most bytes that may wait for the next batch; a further command is refused as overload.
const APPEND_QUEUE_BYTES: usize = 64 << 20;

/// The sending end of the queue.
#[derive(Clone)]
pub(crate) struct Appender {
    queue: mpsc::Sender<Pending>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// The answer to a pending append.
pub(crate) struct Answer(oneshot::Receiver<Result<Appended, StoreError>>);

impl Answer {
    pub async fn get(self) -> Result<Appended, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::ShuttingDown))
    }
}

impl Appender {
    /// Starts the task that writes the batches over its own connection. Not every role may use COPY.
    pub fn start(options: PgConnectOptions, may_copy: bool, head: Head) -> Self {
        let (queue, pending) = mpsc::channel(APPEND_QUEUE_MAX);
        tokio::spawn(worker::Worker::new(options, may_copy, head, pending).run());
        Self { queue, waiting_bytes: Arc::default() }
    }

    /// Commands that wait for the next batch.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Puts a command into the queue. Either all of `writes` will be written or nothing; each stream occurs once. Another command can
    /// depend on its outcome before the answer is there.
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
    use crate::event::NewEvent;

    fn writes(bytes: usize) -> Vec<StreamWrite> {
        let event = NewEvent { payload: "x".repeat(bytes), ..event(1) };
        let stream = "call-00000000-0000-0000-0000-000000000001".parse().unwrap();
        vec![StreamWrite { stream, expected: ExpectedVersion::Any, events: vec![event], depends_on: None }]
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
