//! A command that waits to be appended, and its outcome.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    error::StoreError,
    event::{NewEvent, StreamName},
};

/// The version that a stream must have for a command to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// The stream has no event yet.
    NoStream,
    Exact(i64),
    Any,
}

impl ExpectedVersion {
    /// The expected version, if there is one; 0 for no stream.
    pub(crate) const fn version(self) -> Option<i64> {
        match self {
            Self::NoStream => Some(0),
            Self::Exact(version) => Some(version),
            Self::Any => None,
        }
    }
}

/// Events for one stream; without events, only the stream's version is checked.
#[derive(Clone, Debug)]
pub struct StreamWrite {
    pub stream: StreamName,
    pub expected: ExpectedVersion,
    pub events: Vec<NewEvent>,
    /// The pending append whose events the expected version includes: the write is valid only if that append succeeds.
    pub(crate) depends_on: Option<Outcome>,
}

/// The result of a successful append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Position of the command's last event.
    pub position: i64,
    pub recorded_at: DateTime<Utc>,
    /// The events were already in the log: the command is repeated.
    pub repeated: bool,
}

/// A command that waits to be appended.
pub(super) struct Pending {
    pub company_id: Uuid,
    pub writes: Vec<StreamWrite>,
    pub size: Size,
    pub reply: oneshot::Sender<Result<Appended, StoreError>>,
    pub outcome: Outcome,
    /// Bytes that wait in the queue, until the command is answered.
    pub _waiting: Waiting,
}

impl Pending {
    pub fn answer(self, answer: Result<Appended, StoreError>) {
        // The content of a repeated append is not known: a command that depends on it must be decided again.
        self.outcome.settle(answer.as_ref().is_ok_and(|appended| !appended.repeated));
        let _ = self.reply.send(answer);
    }
}

/// The outcome of an append, which commands that were decided on its events check. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome(Arc<AtomicU8>);

/// The known state of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Committed,
    Aborted,
}

impl Outcome {
    pub(super) fn settle(&self, won: bool) {
        self.0.store(if won { 1 } else { 2 }, Ordering::Release);
    }

    pub(super) fn fate(&self) -> Fate {
        match self.0.load(Ordering::Acquire) {
            0 => Fate::Open,
            1 => Fate::Committed,
            _ => Fate::Aborted,
        }
    }

    /// Whether both belong to the same append.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

pub(super) struct Waiting {
    pub all: Arc<AtomicUsize>,
    pub bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The size of a command or a batch.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub events: usize,
    pub bytes: usize,
}

impl Size {
    pub fn of(writes: &[StreamWrite]) -> Self {
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
