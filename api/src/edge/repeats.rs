//! Repeated refusals: if a client repeats the same refused request, the audit has one entry with a count.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use uuid::Uuid;

/// How long after a refusal its repeats are counted in its entry.
const REPEATS_WINDOW: Duration = Duration::from_secs(60);
/// Maximum delay between a repeat and the writing of the count.
const WRITE_WITHIN: Duration = Duration::from_secs(2);
/// Maximum number of refusals whose repeats are counted at once; further ones have an entry each.
const OPEN_MAX: usize = 10_000;

/// The properties that equal refusals share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Nil if the caller was not authenticated.
    pub company_id: Uuid,
    /// Kind and id of the actor.
    pub actor: Option<String>,
    pub action: String,
    pub status: StatusCode,
    pub reason: Option<String>,
    pub client: Option<String>,
}

/// The number of equal refusals in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub company_id: Uuid,
    pub audit_id: Uuid,
    pub count: i32,
}

struct Open {
    audit_id: Uuid,
    since: Instant,
    count: i32,
    is_written: bool,
}

/// The entries whose repeats are being counted.
#[derive(Default)]
pub struct Repeats {
    open: HashMap<Refused, Open>,
    /// When changed counts have to be written, if there are any.
    write_at: Option<Instant>,
    /// When closed entries were last dropped.
    pruned_at: Option<Instant>,
}

impl Repeats {
    /// Counts a refusal in the entry of an equal one. Returns `false` if there is none; then the caller has to write the entry `audit_id`.
    pub fn count(&mut self, refused: Refused, audit_id: Uuid, now: Instant) -> bool {
        if let Some(open) = self.open.get_mut(&refused)
            && (!open.is_written || now < open.since + REPEATS_WINDOW)
        {
            open.count = open.count.saturating_add(1);
            open.is_written = false;
            self.write_at.get_or_insert(now + WRITE_WITHIN);
            return true;
        }
        self.make_room(now);
        if self.open.len() < OPEN_MAX || self.open.contains_key(&refused) {
            self.open.insert(refused, Open { audit_id, since: now, count: 1, is_written: true });
        }
        false
    }

    /// Drops closed entries if there are too many, but not at every refusal.
    fn make_room(&mut self, now: Instant) {
        if self.open.len() >= OPEN_MAX && self.pruned_at.is_none_or(|pruned_at| now >= pruned_at + WRITE_WITHIN) {
            self.pruned_at = Some(now);
            self.open.retain(|_, open| !open.is_written || now < open.since + REPEATS_WINDOW);
        }
    }

    /// When [`Self::take_counts`] is due.
    pub fn write_at(&self) -> Option<Instant> {
        self.write_at
    }

    /// The counts that have changed since the last call.
    pub fn take_counts(&mut self) -> Vec<Counted> {
        if self.write_at.take().is_none() {
            return Vec::new();
        }
        let risen = self.open.iter_mut().filter(|(_, open)| !open.is_written);
        let taken = risen.map(|(refused, open)| {
            open.is_written = true;
            Counted { company_id: refused.company_id, audit_id: open.audit_id, count: open.count }
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPANY: Uuid = Uuid::from_u128(7);

    fn refused(reason: &str) -> Refused {
        Refused {
            company_id: COMPANY,
            actor: None,
            action: "POST /calls".into(),
            status: StatusCode::FORBIDDEN,
            reason: Some(reason.into()),
            client: None,
        }
    }

    #[test]
    fn equal_refusals_within_a_minute_are_one_entry() {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        let at = |sec| begin + Duration::from_secs(sec);
        let id = Uuid::from_u128;
        let counted = |n, count| vec![Counted { company_id: COMPANY, audit_id: id(n), count }];
        assert!(!repeats.count(refused("a"), id(1), at(0)) && !repeats.count(refused("b"), id(2), at(0)));
        assert_eq!(repeats.write_at(), None, "the entries themselves say one");
        assert!(repeats.count(refused("a"), id(3), at(1)) && repeats.count(refused("a"), id(4), at(59)));
        assert_eq!(repeats.write_at(), Some(at(3)));
        assert_eq!((repeats.take_counts(), repeats.write_at()), (counted(1, 3), None));
        assert!(!repeats.count(refused("a"), id(5), at(60)), "a minute later another one begins");
        assert!(repeats.count(refused("a"), id(6), at(61)));
        assert_eq!(repeats.take_counts(), counted(5, 2));
        assert_eq!(repeats.take_counts(), []);
    }

    #[test]
    fn what_is_counted_at_once_is_bounded() {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        for n in 0..OPEN_MAX + 10 {
            assert!(!repeats.count(refused(&n.to_string()), Uuid::nil(), begin));
        }
        assert_eq!(repeats.open.len(), OPEN_MAX);
        assert!(!repeats.count(refused("late"), Uuid::nil(), begin + REPEATS_WINDOW));
        assert_eq!(repeats.open.len(), 1, "what nobody repeats makes room");
    }
}
