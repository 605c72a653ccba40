//! The database's clock, as this process knows it from the database's answers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};

/// A time that the database told, and when its answer was read. A time that is computed from it is late by the transit time of the answer, and
/// never early.
#[derive(Clone, Copy)]
struct Reading {
    time: DateTime<Utc>,
    read: Instant,
    /// Whether the next answer replaces it.
    is_doubtful: bool,
}

impl Reading {
    fn at(self, moment: Instant) -> DateTime<Utc> {
        let since = moment.saturating_duration_since(self.read).as_micros();
        self.time + TimeDelta::microseconds(i64::try_from(since).unwrap_or(i64::MAX / 2))
    }
}

/// The latest of the times that follow from the database's answers: none of them is early, and it never goes back unless the database's clock
/// does. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct DatabaseClock(Arc<Mutex<Option<Reading>>>);

impl DatabaseClock {
    fn reading(&self) -> MutexGuard<'_, Option<Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an answer into account, which was read just now.
    pub fn note(&self, time: DateTime<Utc>) {
        let new = Reading { time, read: Instant::now(), is_doubtful: false };
        let mut known = self.reading();
        *known = Some(known.filter(|known| !known.is_doubtful && known.at(new.read) >= time).unwrap_or(new));
    }

    /// The known time may be ahead of the database's clock: the next answer counts, whatever it says.
    pub fn doubt(&self) {
        if let Some(known) = self.reading().as_mut() {
            known.is_doubtful = true;
        }
    }

    /// The present time; `None` before the first answer.
    pub fn now(&self) -> Option<DateTime<Utc>> {
        self.reading().map(|known| known.at(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_with_the_shortest_way_counts() {
        let clock = DatabaseClock::default();
        assert_eq!(clock.now(), None);
        let start = DateTime::<Utc>::UNIX_EPOCH;
        clock.note(start);
        let early = clock.now().unwrap();
        assert!(early >= start && early < start + TimeDelta::seconds(10));
        // An answer that took long says less.
        clock.note(start - TimeDelta::seconds(5));
        assert!(clock.now().unwrap() >= early);
        clock.note(start + TimeDelta::seconds(60));
        assert!(clock.now().unwrap() >= start + TimeDelta::seconds(60));
        clock.doubt();
        assert!(clock.now().is_some());
        clock.note(start);
        assert!(clock.now().unwrap() < start + TimeDelta::seconds(10));
    }
}
