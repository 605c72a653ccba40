//! The price lists of a company, in the order in which they come into force.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::price::Rate;
use uuid::Uuid;

/// A price list as the ledger stores it, without its rates.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub id: Uuid,
    pub effective_from: DateTime<Utc>,
    pub position: i64,
}

/// The rates of some lists, by list.
pub(super) type Rates = HashMap<Uuid, Vec<Rate>>;

/// A company's lists, the latest `effective_from` last; of two lists with the same time, the one that was published later is later.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists(Vec<List>);

impl Lists {
    pub fn new(mut lists: Vec<List>) -> Self {
        lists.sort_by_key(|list| (list.effective_from, list.position));
        Self(lists)
    }

    /// The list in force at `at`; `None` before the first.
    pub fn in_force(&self, at: DateTime<Utc>) -> Option<Uuid> {
        let later = self.0.partition_point(|list| list.effective_from <= at);
        later.checked_sub(1).and_then(|i| self.0.get(i)).map(|list| list.id)
    }

    #[must_use]
    pub fn with(mut self, list: List) -> Self {
        self.0.push(list);
        Self::new(self.0)
    }

    #[must_use]
    pub fn without(mut self, id: Uuid) -> Self {
        self.0.retain(|list| list.id != id);
        self
    }

    pub fn get(&self, id: Uuid) -> Option<&List> {
        self.0.iter().find(|list| list.id == id)
    }

    /// When the list that follows `id` comes into force.
    pub fn end_of(&self, id: Uuid) -> Option<DateTime<Utc>> {
        let after = self.0.iter().skip_while(|list| list.id != id).skip(1);
        after.map(|list| list.effective_from).next()
    }
}
