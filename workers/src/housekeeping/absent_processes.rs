//! Detects processes that are gone: they have had no connection to the database for some time.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// How long a process must be without a connection until it is regarded as gone: a process that has lost its connections opens new ones
/// within some hundred milliseconds.
const GONE_AFTER: Duration = Duration::from_millis(1_500);
/// Maximum time between two checks: if a process is absent at both, it is regarded as absent in between. Within a longer time it may have
/// had connections.
const LOOK_GAP_MAX: Duration = Duration::from_secs(1);

/// For each process without a connection, the time since which it was absent at every check.
#[derive(Default)]
pub(crate) struct AbsentProcesses {
    since: HashMap<String, Instant>,
    looked_at: Option<Instant>,
}

impl AbsentProcesses {
    /// Records the processes that are absent `now`; returns those that have been absent for [`GONE_AFTER`].
    pub fn update(&mut self, absent: Vec<String>, now: Instant) -> Vec<String> {
        if self.looked_at.is_none_or(|before| now.duration_since(before) > LOOK_GAP_MAX) {
            self.look_failed();
        }
        let before = std::mem::take(&mut self.since);
        self.since =
            absent.into_iter().map(|name| (before.get(&name).copied().unwrap_or(now), name)).map(|(since, name)| (name, since)).collect();
        self.looked_at = Some(now);
        self.since.iter().filter(|(_, since)| now.duration_since(**since) >= GONE_AFTER).map(|(name, _)| name.clone()).collect()
    }

    /// A check failed, so it is unknown which processes were absent: the measurement starts from the beginning.
    pub fn look_failed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs checks at these times in milliseconds; at each one process "a" is absent or present. Returns the result of the last check.
    #[track_caller]
    fn looks(looks: &[(u64, bool)]) -> Vec<String> {
        let (mut processes, begin) = (AbsentProcesses::default(), Instant::now());
        let mut gone = Vec::new();
        for (at_ms, is_absent) in looks {
            let absent = if *is_absent { vec!["a".to_owned()] } else { Vec::new() };
            gone = processes.update(absent, begin + Duration::from_millis(*at_ms));
        }
        gone
    }

    #[test]
    fn a_process_that_is_absent_for_long_enough_is_gone() {
        assert!(looks(&[(0, true), (500, true), (1_000, true), (1_499, true)]).is_empty());
        assert_eq!(looks(&[(0, true), (500, true), (1_000, true), (1_500, true)]), ["a"]);
    }

    #[test]
    fn a_process_that_reappears_begins_again() {
        assert!(looks(&[(0, true), (500, true), (1_000, false), (1_500, true), (2_000, true)]).is_empty());
        assert_eq!(looks(&[(0, true), (500, false), (1_000, true), (1_500, true), (2_000, true), (2_500, true)]), ["a"]);
    }

    #[test]
    fn what_happened_in_a_long_gap_between_looks_is_not_known() {
        assert!(looks(&[(0, true), (2_000, true)]).is_empty());
        assert!(looks(&[(0, true), (500, true), (1_501, true), (2_501, true)]).is_empty());
        assert_eq!(looks(&[(0, true), (500, true), (1_501, true), (2_301, true), (3_001, true)]), ["a"]);
    }

    #[test]
    fn a_failed_look_begins_again() {
        let (mut processes, begin) = (AbsentProcesses::default(), Instant::now());
        let mut look = |at_ms| processes.update(vec!["a".to_owned()], begin + Duration::from_millis(at_ms));
        assert!(look(0).is_empty() && look(800).is_empty());
        processes.look_failed();
        let mut look = |at_ms| processes.update(vec!["a".to_owned()], begin + Duration::from_millis(at_ms));
        assert!(look(1_600).is_empty() && look(2_400).is_empty());
        assert_eq!(look(3_100), ["a"]);
    }
}
