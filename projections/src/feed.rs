//! Reads and decodes the log once for all projections of a process that are at the same place.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::Fact;
use eventstore::{EventStore, StoreError, StoredEvent};
use tokio::sync::OnceCell;

use crate::projection::Recorded;

/// Events in one page at most.
pub const PAGE_EVENTS: i64 = 1_000;
/// How long to wait at the end of the log before looking again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pages that are kept for projections that come a little later.
const PAGES_KEPT: usize = 4;

/// An event that this release cannot read stops the projections that want its category, and no others.
pub(crate) struct Unreadable {
    pub position: i64,
    pub reason: String,
}

pub(crate) struct Entry {
    pub category: String,
    pub event: Result<Recorded, Unreadable>,
}

/// Decoded events in log order.
pub(crate) struct Page {
    pub entries: Vec<Entry>,
    /// Of the last event, or where the page began if it is empty.
    pub last_position: i64,
}

type Slot = Arc<OnceCell<Arc<Page>>>;

/// Clones share the kept pages.
#[derive(Clone)]
pub struct Feed {
    store: EventStore,
    kept: Arc<Mutex<Vec<(i64, Slot)>>>,
}

impl Feed {
    pub fn new(store: EventStore) -> Self {
        Self { store, kept: Arc::default() }
    }

    pub(crate) fn store(&self) -> &EventStore {
        &self.store
    }

    /// The next events after `after`; empty when none came for a while. At most `limit`, which only a failing page lowers.
    pub(crate) async fn page(&self, after: i64, limit: Option<NonZeroUsize>) -> Result<Arc<Page>, StoreError> {
        if let Some(limit) = limit {
            let limit = i64::try_from(limit.get()).unwrap_or(PAGE_EVENTS);
            return Ok(Arc::new(decode(after, self.store.next_page(after, limit, PATIENCE).await?)));
        }
        let slot = self.slot(after);
        let page = slot.get_or_try_init(|| async {
            let events = self.store.next_page(after, PAGE_EVENTS, PATIENCE).await?;
            Ok::<_, StoreError>(Arc::new(decode(after, events)))
        });
        let page = page.await?.clone();
        if page.entries.is_empty() {
            self.drop_slot(after, &slot);
        }
        Ok(page)
    }

    fn slot(&self, after: i64) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, slot)) = kept.iter().find(|(position, _)| *position == after) {
            return slot.clone();
        }
        if kept.len() >= PAGES_KEPT {
            kept.remove(0);
        }
        let slot = Slot::default();
        kept.push((after, slot.clone()));
        slot
    }

    /// An empty page says something of its moment only.
    fn drop_slot(&self, after: i64, used: &Slot) {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.retain(|(position, slot)| *position != after || !Arc::ptr_eq(slot, used));
    }
}

/// Decodes stored events; those of unknown types stay in their place as unreadable.
pub(crate) fn decode(after: i64, events: Vec<StoredEvent>) -> Page {
    let last_position = events.last().map_or(after, |event| event.position);
    let entries = events.into_iter().map(|stored| {
        let category = stored.stream.category().to_owned();
        let event = Fact::decode(&category, &stored.event_type, stored.schema_version, &stored.payload)
            .map(|fact| Recorded {
                position: stored.position,
                id: stored.stream.id(),
                version: stored.version,
                company_id: stored.company_id,
                occurred_at: stored.occurred_at,
                recorded_at: stored.recorded_at,
                fact,
            })
            .map_err(|e| Unreadable { position: stored.position, reason: e.to_string() });
        Entry { category, event }
    });
    Page { entries: entries.collect(), last_position }
}
