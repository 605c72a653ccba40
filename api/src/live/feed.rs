//! Live events for all streams of this process. One task reads the log once, decrypts each event and writes it as JSON once, and sends each
//! company's events to the streams of that company. It reads only while a stream is open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::count;
use eventstore::{EventStore, StoreError, StoredEvent, StreamName};
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::event_view::EventView;

/// Pause between two reads of the log, unless there are more events to read: many small appends do not cause continuous reading.
const LOOK_GAP: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Pause after the database did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Number of events that are read from the log at once.
const PAGE: i64 = 500;
/// Maximum number of events that a stream may lag behind; then it reads them from the log.
const BEHIND_MAX: usize = 2_048;

/// An event in the form in which streams send it.
pub struct LiveEvent {
    pub position: i64,
    pub stream: StreamName,
    pub event_type: String,
    pub json: String,
}

impl From<StoredEvent> for LiveEvent {
    #[expect(clippy::expect_used, reason = "see the message")]
    fn from(stored: StoredEvent) -> Self {
        let (position, stream, event_type) = (stored.position, stored.stream.clone(), stored.event_type.clone());
        let json = serde_json::to_string(&EventView::from(stored)).expect("a view has text keys only");
        Self { position, stream, event_type, json }
    }
}

type Events = broadcast::Sender<Arc<LiveEvent>>;

/// One task and the channels that it sends to.
pub struct LiveFeed(Arc<Inner>);

struct Inner {
    store: EventStore,
    /// The channel of each company that has streams.
    companies: Mutex<HashMap<Uuid, Events>>,
    /// Whether newly appended events are sent to the channels. It changes only while `companies` is locked.
    is_sending: watch::Sender<bool>,
}

/// A company's events as they are appended.
pub struct Listener(broadcast::Receiver<Arc<LiveEvent>>);

impl Listener {
    /// The next event; `None` if the listener was too slow and has missed some.
    pub async fn next(&mut self) -> Option<Arc<LiveEvent>> {
        self.0.recv().await.ok()
    }
}

impl LiveFeed {
    /// Starts the task that reads the log; it ends when the feed is dropped.
    pub fn start(store: EventStore) -> Self {
        let feed = Self(Arc::new(Inner { store, companies: Mutex::default(), is_sending: watch::Sender::new(false) }));
        tokio::spawn(run(Arc::downgrade(&feed.0)));
        feed
    }

    /// A listener that receives every event that is appended after this function returns.
    pub async fn listen(&self, company_id: Uuid) -> Listener {
        let mut is_sending = self.0.is_sending.subscribe();
        let listener = {
            let mut companies = self.0.companies();
            let sender = companies.entry(company_id).or_insert_with(|| broadcast::Sender::new(BEHIND_MAX));
            let listener = Listener(sender.subscribe());
            if *self.0.is_sending.borrow() {
                return listener;
            }
            listener
        };
        // Wakes the task.
        self.0.is_sending.send_modify(|_| {});
        // An error means that the feed is dropped: then no events follow.
        let _ = is_sending.wait_for(|is_sending| *is_sending).await;
        listener
    }
}

impl Inner {
    fn companies(&self) -> MutexGuard<'_, HashMap<Uuid, Events>> {
        self.companies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a company has listeners; if there are none, the feed stops sending.
    fn is_needed(&self) -> bool {
        let mut companies = self.companies();
        companies.retain(|_, events| events.receiver_count() > 0);
        if companies.is_empty() {
            self.is_sending.send_if_modified(std::mem::take);
        }
        !companies.is_empty()
    }

    /// Sends the events of a page to the listeners of their companies.
    async fn send(&self, page: Vec<StoredEvent>) {
        let mut prepared: HashMap<Uuid, Vec<Arc<LiveEvent>>> = HashMap::new();
        loop {
            let missing = {
                let companies = self.companies();
                let missing: Vec<Uuid> = companies.keys().filter(|id| !prepared.contains_key(*id)).copied().collect();
                if missing.is_empty() {
                    for (company_id, events) in companies.iter() {
                        // An error means that the company has no listener any more.
                        prepared.get(company_id).into_iter().flatten().for_each(|event| drop(events.send(Arc::clone(event))));
                    }
                    self.is_sending.send_if_modified(|is_sending| !std::mem::replace(is_sending, true));
                    return;
                }
                missing
            };
            // A company that gets its first listener meanwhile is in the next iteration.
            for company_id in missing {
                let own = page.iter().filter(|event| event.company_id == company_id).cloned().collect();
                prepared.insert(company_id, self.prepare(company_id, own).await);
            }
        }
    }

    /// A company's events, decrypted.
    async fn prepare(&self, company_id: Uuid, mut events: Vec<StoredEvent>) -> Vec<Arc<LiveEvent>> {
        while let Err(error) = self.store.persons().reveal(company_id, &mut events).await {
            wait_for_database(&error).await;
        }
        events.into_iter().map(|event| Arc::new(event.into())).collect()
    }

    /// Sends newly appended events until no company has a listener.
    async fn follow(&self) {
        let mut subscription = None;
        while self.is_needed() {
            let looked_at = Instant::now();
            let next = match &mut subscription {
                None => self.store.last_position().await.map(|begin| {
                    subscription = Some(self.store.subscribe(begin).page_events(PAGE));
                    Vec::new()
                }),
                Some(subscription) => subscription.next(WAIT_MAX).await,
            };
            let has_more = match next {
                Ok(page) => {
                    let has_more = count::to_i64(page.len()) >= PAGE;
                    self.send(page).await;
                    has_more
                }
                Err(error) => {
                    wait_for_database(&error).await;
                    false
                }
            };
            if !has_more {
                tokio::time::sleep_until(looked_at + LOOK_GAP).await;
            }
        }
    }
}

async fn wait_for_database(error: &StoreError) {
    tracing::warn!(%error, "live streams wait for the database");
    tokio::time::sleep(RETRY_AFTER).await;
}

async fn run(feed: std::sync::Weak<Inner>) {
    let Some(mut woken) = feed.upgrade().map(|inner| inner.is_sending.subscribe()) else { return };
    // Ends when the feed is dropped.
    while woken.changed().await.is_ok() {
        let Some(inner) = feed.upgrade() else { return };
        if inner.is_needed() {
            inner.follow().await;
        }
    }
}
