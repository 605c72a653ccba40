//! Events as they are appended, for all streams of this process: one task reads the log once and gives each company's streams that
//! company's events, opened and written as JSON once. It reads only while somebody listens.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use eventstore::{EventStore, StoredEvent, StreamName};
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::views::EventView;

/// Between two looks at the log: whoever appends much does not make it look all the time.
const LOOK_GAP: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);
/// Wait after the database did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Events that a stream may be behind; then it reads them from the log.
const BEHIND_MAX: usize = 1_024;

/// An event in the form in which streams send it.
pub struct LiveEvent {
    pub position: i64,
    pub version: i64,
    pub stream: StreamName,
    pub event_type: String,
    pub json: String,
}

impl From<StoredEvent> for LiveEvent {
    #[expect(clippy::expect_used, reason = "see the message")]
    fn from(stored: StoredEvent) -> Self {
        let (position, version, stream, event_type) = (stored.position, stored.version, stored.stream.clone(), stored.event_type.clone());
        let json = serde_json::to_string(&EventView::from(stored)).expect("a view has text keys only");
        Self { position, version, stream, event_type, json }
    }
}

type Events = broadcast::Sender<Arc<LiveEvent>>;

/// Clones share it.
#[derive(Clone)]
pub struct LiveFeed(Arc<Inner>);

struct Inner {
    store: EventStore,
    /// Of the companies that somebody listens for.
    companies: Mutex<HashMap<Uuid, Events>>,
    /// Up to where the log has been given out; none while nobody listens. Changes only while `companies` is locked.
    given_out: watch::Sender<Option<i64>>,
}

/// A company's events from a position on.
pub struct Listener {
    events: broadcast::Receiver<Arc<LiveEvent>>,
    /// Every event after it will be received.
    pub from: i64,
}

impl Listener {
    /// The next event; `None` when the listener was too slow and has missed some.
    pub async fn next(&mut self) -> Option<Arc<LiveEvent>> {
        self.events.recv().await.ok()
    }
}

impl LiveFeed {
    /// Starts the task that reads; it ends when the feed is dropped.
    pub fn start(store: EventStore) -> Self {
        let feed = Self(Arc::new(Inner { store, companies: Mutex::default(), given_out: watch::Sender::new(None) }));
        tokio::spawn(run(Arc::downgrade(&feed.0)));
        feed
    }

    pub async fn listen(&self, company_id: Uuid) -> Listener {
        let events = {
            let mut companies = self.0.companies();
            let sender = companies.entry(company_id).or_insert_with(|| broadcast::Sender::new(BEHIND_MAX));
            let receiver = sender.subscribe();
            if let Some(from) = *self.0.given_out.borrow() {
                return Listener { events: receiver, from };
            }
            receiver
        };
        self.0.given_out.send_modify(|_| {});
        let from = self.0.given_out.subscribe().wait_for(Option::is_some).await.ok().and_then(|from| *from).unwrap_or_default();
        Listener { events, from }
    }
}

impl Inner {
    fn companies(&self) -> MutexGuard<'_, HashMap<Uuid, Events>> {
        self.companies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody listens; if not, nothing is given out from now on.
    fn is_needed(&self) -> bool {
        let mut companies = self.companies();
        companies.retain(|_, events| events.receiver_count() > 0);
        if companies.is_empty() {
            self.given_out.send_if_modified(|given_out| given_out.take().is_some());
        }
        !companies.is_empty()
    }

    /// Gives a page to whoever listens for its companies.
    async fn give_out(&self, page: Vec<StoredEvent>, position: i64) {
        let mut prepared: HashMap<Uuid, Vec<Arc<LiveEvent>>> = HashMap::new();
        loop {
            let missing = {
                let companies = self.companies();
                let missing: Vec<Uuid> = companies.keys().filter(|id| !prepared.contains_key(*id)).copied().collect();
                if missing.is_empty() {
                    for (company_id, events) in companies.iter() {
                        // It fails when nobody listens any more.
                        prepared.get(company_id).into_iter().flatten().for_each(|event| drop(events.send(Arc::clone(event))));
                    }
                    self.given_out.send_replace(Some(position));
                    return;
                }
                missing
            };
            // A company for which somebody begins to listen meanwhile is in the next round.
            for company_id in missing {
                let own = page.iter().filter(|event| event.company_id == company_id).cloned().collect();
                prepared.insert(company_id, self.prepare(company_id, own).await);
            }
        }
    }

    /// A company's events, opened.
    async fn prepare(&self, company_id: Uuid, mut events: Vec<StoredEvent>) -> Vec<Arc<LiveEvent>> {
        while let Err(error) = self.store.persons().reveal(company_id, &mut events).await {
            tracing::warn!(%error, "live streams wait for the database");
            tokio::time::sleep(RETRY_AFTER).await;
        }
        events.into_iter().map(|event| Arc::new(event.into())).collect()
    }

    /// Gives out what is appended from now on until nobody listens.
    async fn follow(&self) {
        let begin = loop {
            match self.store.last_position().await {
                Ok(position) => break position,
                Err(error) => tracing::warn!(%error, "live streams wait for the database"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        };
        let mut subscription = self.store.subscribe(begin);
        self.give_out(Vec::new(), begin).await;
        while self.is_needed() {
            let looked_at = Instant::now();
            match subscription.next(PATIENCE).await {
                Ok(page) => self.give_out(page, subscription.position()).await,
                Err(error) => tracing::warn!(%error, "live streams wait for the database"),
            }
            tokio::time::sleep_until(looked_at + LOOK_GAP).await;
        }
    }
}

async fn run(feed: std::sync::Weak<Inner>) {
    let Some(mut joined) = feed.upgrade().map(|inner| inner.given_out.subscribe()) else { return };
    // Ends when the feed is dropped.
    while joined.changed().await.is_ok() {
        let Some(inner) = feed.upgrade() else { return };
        if inner.is_needed() {
            inner.follow().await;
        }
    }
}
