//! Which commands can be written together, and which of them have lost: pure.
//!
//! Commands of one batch are treated as if each arrived alone, one after the other: a command may expect the events of the one before it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::count;
use uuid::Uuid;

use super::pending::{Appended, ExpectedVersion, Fate, Outcome, Pending, Size};
use crate::{
    error::{Conflict, StoreError},
    event::{NewEvent, StreamName},
};

/// Commands in one batch at most.
pub(super) const APPEND_BATCH_MAX: usize = 256;
/// Events after which a batch is closed.
const APPEND_BATCH_EVENTS: usize = 4_000;
/// Payload bytes after which a batch is closed.
const APPEND_BATCH_BYTES: usize = 8 << 20;

/// Commands that win or lose, depending on the versions of their streams in the log.
#[derive(Default)]
pub(super) struct Batch {
    pub commands: Vec<Pending>,
    pub streams: Vec<Slot>,
    slots: HashMap<StreamName, usize>,
    /// The stream of each write, in order.
    write_slots: Vec<usize>,
    pub size: Size,
}

/// A stream that the batch writes to or depends on.
pub(super) struct Slot {
    pub name: StreamName,
    pub company_id: Uuid,
    /// The version that the first of the batch's commands expects.
    pub expected: ExpectedVersion,
    /// Events of the batch for this stream.
    pub count: i64,
}

impl Slot {
    /// The version after the commands of the batch, if it can be determined.
    const fn next(&self) -> Option<i64> {
        match self.expected.version() {
            Some(version) => Some(version + self.count),
            None => None,
        }
    }
}

/// The content of the log that differs from the expectations of a batch.
pub(super) struct Found {
    /// One version per stream of the batch.
    pub versions: Vec<i64>,
    pub owners: Vec<Option<Uuid>>,
    /// Events that are in the log already, by id.
    pub stored: HashMap<Uuid, Stored>,
}

pub(super) struct Stored {
    pub stream: String,
    pub position: i64,
    pub recorded_at: DateTime<Utc>,
}

/// The result for a command that could not be written with the others.
enum Resolution {
    Answer(Result<Appended, StoreError>),
    /// It may win without the commands that have lost.
    Retry,
}

impl Batch {
    pub fn of(pending: Pending) -> Self {
        let mut batch = Self::default();
        batch.take(pending);
        batch
    }

    pub fn is_full(&self) -> bool {
        self.commands.len() >= APPEND_BATCH_MAX || self.size.events >= APPEND_BATCH_EVENTS || self.size.bytes >= APPEND_BATCH_BYTES
    }

    /// Adds the command, or returns it if the batch is full or the command cannot win after the others: it is processed after they are
    /// answered. A command that depends on a failed append is answered at once.
    pub fn take(&mut self, next: Pending) -> Option<Pending> {
        let depends_on = || next.writes.iter().filter_map(|write| write.depends_on.as_ref());
        if depends_on().any(|outcome| outcome.fate() == Fate::Aborted) {
            next.answer(Err(StoreError::Overtaken));
            return None;
        }
        let is_here = |outcome: &Outcome| self.commands.iter().any(|pending| pending.outcome.is(outcome));
        let dependencies_committed = depends_on().all(|outcome| outcome.fate() == Fate::Committed || is_here(outcome));
        let fits = next.writes.iter().all(|write| match self.slot(&write.stream) {
            None => true,
            Some(slot) => {
                let expected = write.expected.version();
                slot.company_id == next.company_id && (expected.is_none() || expected == slot.next())
            }
        });
        if self.is_full() || !dependencies_committed || !fits {
            return Some(next);
        }
        for write in &next.writes {
            let index = *self.slots.entry(write.stream.clone()).or_insert(self.streams.len());
            if index == self.streams.len() {
                self.streams.push(Slot { name: write.stream.clone(), company_id: next.company_id, expected: write.expected, count: 0 });
            }
            if let Some(slot) = self.streams.get_mut(index) {
                slot.count += count::to_i64(write.events.len());
            }
            self.write_slots.push(index);
        }
        self.size += next.size;
        self.commands.push(next);
        None
    }

    fn slot(&self, stream: &StreamName) -> Option<&Slot> {
        self.streams.get(*self.slots.get(stream)?)
    }

    /// Answers a waiting command that expects an older version than this batch has left in the log, or returns the command.
    pub fn reject_stale(&self, waiting: Pending) -> Option<Pending> {
        let lost = waiting.writes.iter().find_map(|write| {
            let (expected, actual) = (write.expected.version()?, self.slot(&write.stream)?.next()?);
            (expected < actual).then(|| Conflict { stream: write.stream.to_string(), expected, actual })
        });
        match lost {
            Some(conflict) => {
                waiting.answer(Err(conflict.into()));
                None
            }
            None => Some(waiting),
        }
    }

    /// The events in log order, each with the index of its stream.
    pub fn events(&self) -> impl Iterator<Item = (usize, &NewEvent)> {
        let writes = self.commands.iter().flat_map(|pending| &pending.writes).zip(&self.write_slots);
        writes.flat_map(|(write, slot)| write.events.iter().map(move |event| (*slot, event)))
    }

    /// Answers all commands after the batch was written behind `position`. Returns the position of the last event.
    pub fn won(self, position: i64, recorded_at: DateTime<Utc>) -> i64 {
        let mut position = position;
        for pending in self.commands {
            position += count::to_i64(pending.size.events);
            pending.answer(Ok(Appended { position, recorded_at, repeated: false }));
        }
        position
    }

    /// Answers the commands that have lost or were already in the log; returns those that may win without them.
    pub fn resolve(self, found: &Found) -> Vec<Pending> {
        let mut written = vec![false; self.streams.len()];
        let mut again = Vec::new();
        for pending in self.commands {
            match resolve(&pending, &self.slots, found, &written) {
                Resolution::Answer(answer) => pending.answer(answer),
                Resolution::Retry => {
                    for write in &pending.writes {
                        if let Some(written) = self.slots.get(&write.stream).and_then(|slot| written.get_mut(*slot)) {
                            *written = true;
                        }
                    }
                    again.push(pending);
                }
            }
        }
        again
    }

    /// Answers all commands with the same failure.
    pub fn failed(self, reason: &str) {
        for pending in self.commands {
            pending.answer(Err(StoreError::AppendFailed(reason.to_owned())));
        }
    }
}

/// `written` marks the streams on which the outcome of an earlier command of the batch is still open.
fn resolve(pending: &Pending, slots: &HashMap<StreamName, usize>, found: &Found, written: &[bool]) -> Resolution {
    if let Some(answer) = resolve_stored(pending, found) {
        return Resolution::Answer(answer);
    }
    // The event that it was decided on was not appended, whatever the version is.
    if pending.writes.iter().filter_map(|write| write.depends_on.as_ref()).any(|outcome| outcome.fate() == Fate::Aborted) {
        return Resolution::Answer(Err(StoreError::Overtaken));
    }
    for write in &pending.writes {
        let Some(slot) = slots.get(&write.stream).copied().filter(|slot| written.get(*slot) == Some(&false)) else { continue };
        let actual = found.versions.get(slot).copied().unwrap_or_default();
        let stream = write.stream.to_string();
        match (found.owners.get(slot).copied().flatten(), write.expected.version()) {
            (Some(owner), _) if owner != pending.company_id => return Resolution::Answer(Err(StoreError::OtherCompany(stream))),
            (_, Some(expected)) if expected != actual => return Resolution::Answer(Err(Conflict { stream, expected, actual }.into())),
            _ => {}
        }
    }
    Resolution::Retry
}

/// The first answer again, if all of the command's events are at their places in the log.
fn resolve_stored(pending: &Pending, found: &Found) -> Option<Result<Appended, StoreError>> {
    let events = pending.writes.iter().flat_map(|write| write.events.iter().map(|event| (write.stream.to_string(), event.event_id)));
    let stored: Vec<_> = events.map(|(stream, id)| found.stored.get(&id).filter(|stored| stored.stream == stream).ok_or(id)).collect();
    let last = stored.iter().flatten().max_by_key(|stored| stored.position);
    match last {
        Some(last) if stored.iter().all(Result::is_ok) => {
            Some(Ok(Appended { position: last.position, recorded_at: last.recorded_at, repeated: true }))
        }
        _ if last.is_some() || stored.iter().any(|s| s.as_ref().is_err_and(|id| found.stored.contains_key(id))) => {
            Some(Err(StoreError::DuplicateEventId))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::append::{StreamWrite, Waiting};

    const COMPANY: Uuid = Uuid::from_u128(1);
    const STREAM: &str = "call-00000000-0000-0000-0000-000000000001";

    type Answer = oneshot::Receiver<Result<Appended, StoreError>>;

    pub fn event(id: u128) -> NewEvent {
        NewEvent {
            event_id: Uuid::from_u128(id),
            event_type: "Tested".to_owned(),
            schema_version: 1,
            payload: "{}".to_owned(),
            metadata: Arc::from("{}"),
            occurred_at: DateTime::UNIX_EPOCH,
            digest: [0; 32],
        }
    }

    /// A command that appends events with the given ids to one stream.
    fn command(expected: ExpectedVersion, ids: &[u128]) -> (Pending, Answer) {
        command_on(expected, ids, None)
    }

    /// The same, decided on the events of a pending append.
    fn command_on(expected: ExpectedVersion, ids: &[u128], depends_on: Option<Outcome>) -> (Pending, Answer) {
        let events = ids.iter().map(|id| event(*id)).collect();
        let writes = vec![StreamWrite { stream: STREAM.parse().unwrap(), expected, events, depends_on }];
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { all: Arc::default(), bytes: 0 };
        (Pending { company_id: COMPANY, size: Size::of(&writes), writes, reply, outcome: Outcome::default(), _waiting: waiting }, answer)
    }

    fn found(version: i64) -> Found {
        Found { versions: vec![version], owners: vec![(version > 0).then_some(COMPANY)], stored: HashMap::new() }
    }

    #[test]
    fn commands_on_one_stream_go_together_when_each_expects_what_the_one_before_leaves() {
        let mut batch = Batch::of(command(ExpectedVersion::Exact(4), &[1, 2]).0);
        assert!(batch.take(command(ExpectedVersion::Exact(6), &[3]).0).is_none());
        assert!(batch.take(command(ExpectedVersion::Any, &[4]).0).is_none());
        assert!(batch.take(command(ExpectedVersion::Exact(8), &[]).0).is_none());
        assert_eq!((batch.streams.len(), batch.streams[0].count, batch.commands.len()), (1, 4, 4));
    }

    #[test]
    fn a_command_that_cannot_win_after_the_others_waits_for_its_own_turn() {
        let mut batch = Batch::of(command(ExpectedVersion::Exact(4), &[1]).0);
        assert!(batch.take(command(ExpectedVersion::Exact(4), &[2]).0).is_some());
        assert!(batch.take(command(ExpectedVersion::NoStream, &[2]).0).is_some());
        let mut batch = Batch::of(command(ExpectedVersion::Any, &[1]).0);
        assert!(batch.take(command(ExpectedVersion::Exact(5), &[2]).0).is_some(), "nobody knows the version yet");
        let (mut other, _answer) = command(ExpectedVersion::Any, &[3]);
        other.company_id = Uuid::from_u128(2);
        assert!(batch.take(other).is_some());
    }

    #[test]
    fn who_lost_hears_both_versions_and_the_one_behind_it_may_still_win() {
        let (first, mut first_answer) = command(ExpectedVersion::Exact(4), &[1]);
        let (second, mut second_answer) = command(ExpectedVersion::Exact(5), &[2]);
        let mut batch = Batch::of(first);
        assert!(batch.take(second).is_none());
        let again = batch.resolve(&found(5));
        let conflict = first_answer.try_recv().unwrap().unwrap_err();
        assert!(matches!(conflict, StoreError::Conflict(Conflict { expected: 4, actual: 5, .. })));
        assert_eq!(again.len(), 1);
        assert!(second_answer.try_recv().is_err(), "not answered yet");
    }

    /// Another process's event got the version that the first command's event should have had: the second command expects the right
    /// version, but was decided on an event that was never appended.
    #[test]
    fn who_was_decided_on_an_append_that_lost_has_lost_whatever_the_version() {
        let (first, _) = command(ExpectedVersion::Exact(4), &[1]);
        let first_outcome = first.outcome.clone();
        let (second, mut second_answer) = command_on(ExpectedVersion::Exact(5), &[2], Some(first_outcome.clone()));
        let (third, mut third_answer) = command_on(ExpectedVersion::Exact(6), &[3], Some(second.outcome.clone()));
        let (late, mut late_answer) = command_on(ExpectedVersion::Exact(5), &[4], Some(first_outcome));
        let mut batch = Batch::of(first);
        assert!(batch.take(second).is_none() && batch.take(third).is_none());
        assert!(batch.resolve(&found(5)).is_empty());
        for answer in [&mut second_answer, &mut third_answer] {
            assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Overtaken)));
        }
        assert!(Batch::default().take(late).is_none(), "it is answered, not taken");
        assert!(matches!(late_answer.try_recv().unwrap(), Err(StoreError::Overtaken)));
    }

    #[test]
    fn who_rests_on_an_append_goes_with_it_or_after_it_and_never_before() {
        let (first, _) = command(ExpectedVersion::Exact(4), &[1]);
        let (second, _) = command_on(ExpectedVersion::Exact(5), &[2], Some(first.outcome.clone()));
        let mut early = Batch::default();
        let second = early.take(second).expect("what it rests on is not decided");
        Batch::of(first).won(7, DateTime::UNIX_EPOCH);
        assert!(early.take(second).is_none());
        assert_eq!(early.commands.len(), 1);
    }

    #[test]
    fn who_expects_an_older_version_than_was_just_written_hears_it_at_once() {
        let batch = Batch::of(command(ExpectedVersion::Exact(4), &[1, 2]).0);
        let (waiting, mut answer) = command(ExpectedVersion::Exact(4), &[3]);
        assert!(batch.reject_stale(waiting).is_none());
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Conflict(Conflict { expected: 4, actual: 6, .. }))));
        assert!(batch.reject_stale(command(ExpectedVersion::Exact(6), &[4]).0).is_some());
    }

    #[test]
    fn a_stream_of_another_company_is_refused_whatever_is_expected() {
        let (pending, mut answer) = command(ExpectedVersion::Any, &[1]);
        let found = Found { owners: vec![Some(Uuid::from_u128(2))], ..found(3) };
        assert!(Batch::of(pending).resolve(&found).is_empty());
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::OtherCompany(_))));
    }

    #[test]
    fn a_command_that_is_in_the_log_already_is_answered_as_the_first_time() {
        let stored = |id: u128, position, stream: &str| {
            (Uuid::from_u128(id), Stored { stream: stream.to_owned(), position, recorded_at: DateTime::UNIX_EPOCH })
        };
        let cases = [
            (vec![stored(1, 8, STREAM), stored(2, 9, STREAM)], true),
            (vec![stored(1, 8, STREAM)], false),
            (vec![stored(1, 8, "call-x"), stored(2, 9, STREAM)], false),
        ];
        for (stored, repeated) in cases {
            let (pending, mut answer) = command(ExpectedVersion::Exact(0), &[1, 2]);
            let found = Found { stored: stored.into_iter().collect(), ..found(2) };
            assert!(Batch::of(pending).resolve(&found).is_empty());
            match answer.try_recv().unwrap() {
                Ok(appended) => assert_eq!((appended.position, appended.repeated, repeated), (9, true, true)),
                Err(error) => assert!(matches!(error, StoreError::DuplicateEventId) && !repeated),
            }
        }
    }
}
