//! Writers that put the log under load and record their acknowledgements, subscribers that record the events they receive, and the audit of
//! both.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::call::{Call, CallEvent, Turn};
use eventstore::{Conflict, Database, EventStore, ExpectedVersion, StoreError, StoredEvent, Subscription, verify};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::watch;
use uuid::Uuid;

use super::{PERSON, context};

pub const COMPANY: Uuid = Uuid::from_u128(1);
/// Number of streams that all writers append to.
const SHARED_STREAMS: u128 = 8;

/// An acknowledged append: its content and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub tag: String,
    pub position: i64,
}

/// One writer: 40 % of its appends are for its own streams, the others for shared streams; about half of all its attempts conflict or are
/// rolled back.
pub struct Writer {
    pub name: String,
    store: EventStore,
    database: Database,
    own: (Uuid, i64),
    /// The versions of the shared streams that the writer expects.
    shared: HashMap<Uuid, i64>,
    count: u64,
    rng: StdRng,
}

impl Writer {
    pub fn new(name: String, seed: u64, database: &Database, store: &EventStore) -> Self {
        let (own, rng) = ((Uuid::now_v7(), 0), StdRng::seed_from_u64(seed));
        Self { name, store: store.clone(), database: database.clone(), own, shared: HashMap::new(), count: 0, rng }
    }

    /// After an append with an unknown outcome, the writer's own stream may be longer than expected.
    pub fn begin_anew(&mut self) {
        self.own = (Uuid::now_v7(), 0);
    }

    /// Makes one attempt; returns the acknowledgement, if there was one.
    pub async fn attempt(&mut self) -> Result<Option<Ack>, StoreError> {
        let tag = format!("{} {}", self.name, self.count);
        self.count += 1;
        match self.rng.random_range(0..100) {
            0..40 => self.append_own(tag).await.map(Some),
            40..50 => self.append_wrongly(tag).await.map(|()| None),
            50..55 => self.roll_back().await.map(|()| None),
            55..65 => self.append_two(tag).await,
            65..75 => {
                let stream = self.shared_stream();
                self.append(stream, ExpectedVersion::Any, &[&tag]).await.map(|position| Some(Ack { tag, position }))
            }
            _ => self.append_shared(tag).await,
        }
    }

    async fn append(&self, stream: Uuid, expected: ExpectedVersion, tags: &[&str]) -> Result<i64, StoreError> {
        let context = context(COMPANY);
        let mut unit = self.store.unit(&context);
        let turns: Vec<_> = tags.iter().map(|tag| turn(tag)).collect();
        unit.push::<Call>(stream, PERSON, expected, &turns).await?;
        unit.commit().await
    }

    async fn append_own(&mut self, tag: String) -> Result<Ack, StoreError> {
        let (stream, version) = self.own;
        let expected = if version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(version) };
        let position = self.append(stream, expected, &[&tag]).await?;
        self.own = if version == 19 { (Uuid::now_v7(), 0) } else { (stream, version + 1) };
        Ok(Ack { tag, position })
    }

    /// A version that the stream cannot have.
    async fn append_wrongly(&self, tag: String) -> Result<(), StoreError> {
        let (stream, version) = self.own;
        match self.append(stream, ExpectedVersion::Exact(version + 7), &[&tag]).await {
            Err(StoreError::Conflict(Conflict { expected, actual, .. })) => {
                assert_eq!((expected, actual), (version + 7, version), "a conflict names both versions");
                Ok(())
            }
            Err(error) => Err(error),
            Ok(position) => panic!("{tag} expected a wrong version and was written at {position}"),
        }
    }

    /// An append that is rolled back after the database has assigned its position.
    async fn roll_back(&self) -> Result<(), StoreError> {
        let mut transaction = self.database.pool.begin().await?;
        sqlx::query(
            "select append_events(array['call-' || gen_random_uuid()], array[$1], '{0}', '{1}', '{1}', array[gen_random_uuid()], '{TurnRecorded}', '{1}',
                    '{\"{}\"}', '{\"{}\"}', array[now()], sha256('x'), gen_random_uuid(), false, true)",
        )
        .bind(COMPANY)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.rollback().await?)
    }

    /// Appends to two streams at once, to both or to none.
    async fn append_two(&mut self, tag: String) -> Result<Option<Ack>, StoreError> {
        let stream = self.shared_stream();
        let believed = self.shared.get(&stream).copied().unwrap_or_default();
        let context = context(COMPANY);
        let mut unit = self.store.unit(&context);
        unit.push::<Call>(Uuid::now_v7(), PERSON, ExpectedVersion::NoStream, &[turn(&format!("{tag} first"))]).await?;
        unit.push::<Call>(stream, PERSON, exactly(believed), &[turn(&tag)]).await?;
        let done = unit.commit().await;
        self.learn(stream, done, believed + 1).map(|position| position.map(|position| Ack { tag, position }))
    }

    async fn append_shared(&mut self, tag: String) -> Result<Option<Ack>, StoreError> {
        let stream = self.shared_stream();
        let believed = self.shared.get(&stream).copied().unwrap_or_default();
        let done = self.append(stream, exactly(believed), &[&tag]).await;
        self.learn(stream, done, believed + 1).map(|position| position.map(|position| Ack { tag, position }))
    }

    fn shared_stream(&mut self) -> Uuid {
        Uuid::from_u128(self.rng.random_range(1..=SHARED_STREAMS))
    }

    fn learn(&mut self, stream: Uuid, done: Result<i64, StoreError>, next: i64) -> Result<Option<i64>, StoreError> {
        match done {
            Ok(position) => {
                self.shared.insert(stream, next);
                Ok(Some(position))
            }
            Err(StoreError::Conflict(Conflict { expected, actual, .. })) => {
                assert_ne!(expected, actual, "a conflict with the version that was expected");
                self.shared.insert(stream, actual);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn exactly(version: i64) -> ExpectedVersion {
    if version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(version) }
}

pub fn turn(tag: &str) -> CallEvent {
    CallEvent::TurnRecorded(Box::new(Turn { llm_model: Some(tag.to_owned()), ..Turn::default() }))
}

fn tag_of(event: &StoredEvent) -> String {
    event.payload().unwrap()["llm_model"].as_str().unwrap().to_owned()
}

/// An append of a process that dies before it reports the append.
pub async fn append_silently(database: &Database, tag: &str) -> Ack {
    use eventstore::canonical::{Content, to_text};

    let (event_id, occurred_at) = (Uuid::now_v7(), eventstore::now());
    let stream = format!("call-{}", Uuid::now_v7());
    let (event_type, payload) = domain::fact::encode(&turn(tag)).unwrap();
    let payload = to_text(&payload).unwrap();
    let metadata = to_text(&serde_json::to_value(&context(COMPANY).metadata).unwrap()).unwrap();
    let content = Content {
        company_id: COMPANY,
        event_id,
        event_type: &event_type,
        metadata: &metadata,
        occurred_at,
        payload: &payload,
        schema_version: 1,
        stream: &stream,
    };
    let append = sqlx::query_scalar(
        "select o_position + 1 from append_events(array[$1], array[$2], '{0}', '{1}', '{1}', array[$3], array[$4], '{1}', array[$5], array[$6], array[$7], $8, $3, false, true)",
    );
    let append = append.bind(&stream).bind(COMPANY).bind(event_id).bind(&event_type).bind(&payload).bind(&metadata);
    let position = append.bind(occurred_at).bind(&content.digest()[..]).fetch_one(&database.pool).await.unwrap();
    Ack { tag: tag.to_owned(), position }
}

/// The events that a live subscriber has received.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<(i64, String)>>>);

impl Seen {
    /// Follows the log from the beginning until `stop` has the last position, in pages of at most `page_events`.
    pub fn start(store: EventStore, page_events: i64, stop: watch::Receiver<Option<i64>>) -> (Self, tokio::task::JoinHandle<()>) {
        let seen = Self::default();
        let follow = seen.clone().follow(store.subscribe(0).page_events(page_events), stop);
        (seen, tokio::spawn(follow))
    }

    async fn follow(self, mut subscription: Subscription, stop: watch::Receiver<Option<i64>>) {
        while stop.borrow().is_none_or(|last| subscription.position() < last) {
            match subscription.next(Duration::from_millis(200)).await {
                Ok(page) => self.0.lock().unwrap().extend(page.iter().map(|event| (event.position, tag_of(event)))),
                Err(StoreError::Database(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn all(&self) -> Vec<(i64, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// The result of the audit of the log.
pub struct Audit {
    pub events: usize,
    /// Tags of events without an acknowledgement, and the times at which they were recorded.
    pub unacknowledged: Vec<(String, DateTime<Utc>)>,
}

/// Checks: positions are 1..N without a gap, versions are without a gap in every stream, every acknowledged event exists exactly once at
/// its acknowledged position, the chain verifies, and every subscriber has received all events in order.
pub async fn audit(database: &Database, store: &EventStore, acknowledged: &[Ack], subscribers: &[Seen]) -> Audit {
    let mut events: Vec<StoredEvent> = Vec::new();
    loop {
        let page = store.read_page(events.len().try_into().unwrap(), 5_000).await.unwrap();
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    assert!(events.iter().map(|event| event.position).eq(1..=store.last_position().await.unwrap()), "positions are 1..N");
    let mut versions: BTreeMap<String, i64> = BTreeMap::new();
    for event in &events {
        let version = versions.entry(event.stream.to_string()).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "{} at position {}", event.stream, event.position);
    }
    let mut places: HashMap<String, i64> = HashMap::new();
    for event in &events {
        let tag = tag_of(event);
        assert_eq!(places.insert(tag.clone(), event.position), None, "'{tag}' is in the log twice");
    }
    let ids: HashSet<Uuid> = events.iter().map(|event| event.event_id).collect();
    assert_eq!(ids.len(), events.len(), "event ids are unique");
    for ack in acknowledged {
        assert_eq!(places.get(&ack.tag), Some(&ack.position), "'{}' was acknowledged", ack.tag);
    }
    let in_log: Vec<_> = events.iter().map(|event| (event.position, tag_of(event))).collect();
    for subscriber in subscribers {
        assert!(subscriber.all() == in_log, "a subscriber has seen something else than the log");
    }
    let verdict = verify::verify(&database.pool, verify::Scope::default(), |_| ()).await.unwrap();
    assert_eq!((verdict.fault, verdict.events), (None, events.len() as u64));
    let told: HashSet<&str> = acknowledged.iter().map(|ack| ack.tag.as_str()).collect();
    let untold = events.iter().map(|event| (tag_of(event), event.recorded_at));
    let unacknowledged = untold.filter(|(tag, _)| !told.contains(tag.trim_end_matches(" first"))).collect();
    Audit { events: events.len(), unacknowledged }
}
