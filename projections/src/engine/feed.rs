//! Reads and decodes the log once for all projections of a process that are at the same position, one page ahead of them.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::count;
use eventstore::{EventStore, StoreError, StoredEvent};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use crate::engine::projection::{Projection, Recorded};

/// Events in one page at most, for projections that are live and for those that are rebuilt.
const PAGE_EVENTS: usize = 5_000;
const REBUILD_PAGE_EVENTS: usize = 20_000;
/// Bytes of payload after which a page is full.
const PAGE_BYTES: usize = 16 << 20;
/// How long to wait at the end of the log before reading again.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// Pages that are cached for projections that are slightly behind; a rebuild is alone.
const PAGES_KEPT: usize = 4;
const REBUILD_PAGES_KEPT: usize = 2;

/// An event that this release cannot read. It stops the projections that fold its category, and no others.
pub(crate) struct Unreadable {
    pub position: i64,
    pub reason: String,
}

pub(crate) struct Entry {
    pub category: String,
    pub event: Result<Recorded, Unreadable>,
}

/// Decoded events in log order: those with a position above `after` and up to `last_position`.
pub(crate) struct Page {
    pub entries: Vec<Entry>,
    pub after: i64,
    pub last_position: i64,
}

impl Page {
    /// How many events of the log it covers, wanted or not.
    pub fn len(&self) -> usize {
        count::to_usize(self.last_position - self.after)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the projection may need long for one of its events.
    pub fn may_take_long(&self, projection: &dyn Projection) -> bool {
        self.entries.iter().filter_map(|entry| entry.event.as_ref().ok()).any(|event| projection.may_take_long(event))
    }
}

/// A page that is read by a separate task: the reading continues if a projection that waits for it is busy or gives up, and every other
/// projection that needs the page waits for the same reading.
type Reading = Shared<BoxFuture<'static, Result<Arc<Page>, ReadError>>>;

/// Why a page could not be read; the same for all projections that wait for it.
#[derive(Clone)]
enum ReadError {
    /// An event is missing from the log, or is invalid.
    Unreadable {
        position: i64,
        reason: String,
    },
    Unavailable(String),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreadable { position, reason } => Self::Unreadable { position, reason },
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unreadable { position, reason } => Self::Unreadable { position, reason },
            ReadError::Unavailable(reason) => sqlx::Error::Protocol(reason).into(),
        }
    }
}

/// Clones share the cached pages.
#[derive(Clone)]
pub struct Feed {
    store: EventStore,
    /// Categories that are decoded; all of them when `None`.
    categories: Option<&'static [&'static str]>,
    page_events: usize,
    pages_kept: usize,
    kept: Arc<Mutex<Vec<(i64, Reading)>>>,
}

impl Feed {
    pub fn new(store: EventStore) -> Self {
        Self { store, categories: None, page_events: PAGE_EVENTS, pages_kept: PAGES_KEPT, kept: Arc::default() }
    }

    /// A feed with pages of at most so many events.
    #[must_use]
    pub fn page_events(mut self, max: usize) -> Self {
        self.page_events = max.clamp(1, PAGE_EVENTS);
        self
    }

    /// A separate feed for a rebuild: with larger pages, and only with the categories that the rebuild needs.
    pub(crate) fn of_rebuild(store: EventStore, categories: &'static [&'static str]) -> Self {
        let categories = Some(categories);
        Self { store, categories, page_events: REBUILD_PAGE_EVENTS, pages_kept: REBUILD_PAGES_KEPT, kept: Arc::default() }
    }

    pub(crate) fn store(&self) -> &EventStore {
        &self.store
    }

    /// The next events after `after`; empty if none arrived for a while. `limit` is for callers that need fewer events than a page has.
    pub(crate) async fn page(&self, after: i64, limit: Option<NonZeroUsize>) -> Result<Arc<Page>, StoreError> {
        if let Some(limit) = limit {
            return Ok(Arc::new(self.read(after, limit.get().min(self.page_events)).await?));
        }
        let reading = self.reading(after);
        match reading.clone().await {
            Ok(page) if !page.is_empty() => {
                if page.last_position < self.store.head().position() {
                    // The next page is read while this one is processed.
                    drop(self.reading(page.last_position));
                }
                Ok(page)
            }
            // An empty page or an error is valid only for its moment.
            other => {
                self.forget(after, &reading);
                Ok(other?)
            }
        }
    }

    /// The reading of the page after `after`; if there is none, it begins at once.
    fn reading(&self, after: i64) -> Reading {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, reading)) = kept.iter().find(|(position, _)| *position == after) {
            return reading.clone();
        }
        if kept.len() >= self.pages_kept {
            drop(kept.remove(0));
        }
        let feed = self.clone();
        let task = tokio::spawn(async move { feed.read(after, feed.page_events).await });
        let reading = async move {
            let page = task.await.map_err(|ended| ReadError::Unavailable(ended.to_string()))?;
            Ok(Arc::new(page?))
        };
        let reading = reading.boxed().shared();
        kept.push((after, reading.clone()));
        reading
    }

    /// Removes all cached pages.
    pub(crate) fn forget_all(&self) {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    fn forget(&self, after: i64, reading: &Reading) {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.retain(|(position, other)| *position != after || !other.ptr_eq(reading));
    }

    async fn read(&self, after: i64, limit: usize) -> Result<Page, StoreError> {
        let missing = |n: usize| count::to_i64(limit - n);
        let mut page = Page { entries: Vec::new(), after, last_position: after };
        let mut bytes = 0;
        let mut events = self.store.next_page(after, missing(0), WAIT_MAX).await?;
        loop {
            let read = events.len();
            bytes += events.iter().map(|event| event.payload.len()).sum::<usize>();
            self.decode_into(&mut page, events);
            if read == 0 || page.len() >= limit || bytes >= PAGE_BYTES || page.last_position >= self.store.head().position() {
                return Ok(page);
            }
            events = self.store.read_page(page.last_position, missing(page.len())).await?;
        }
    }

    /// Decodes stored events; an event that cannot be read stays in its place as an error.
    fn decode_into(&self, page: &mut Page, events: Vec<StoredEvent>) {
        for stored in events {
            page.last_position = stored.position;
            let category = stored.stream.category();
            if self.categories.is_none_or(|wanted| wanted.contains(&category)) {
                page.entries.push(decode(&stored));
            }
        }
    }
}

fn decode(stored: &StoredEvent) -> Entry {
    let event = Recorded::decode(stored).map_err(|e| Unreadable { position: stored.position, reason: e.to_string() });
    Entry { category: stored.stream.category().to_owned(), event }
}
