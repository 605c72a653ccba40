//! A PostgreSQL of its own, new logs in it, and the events that are appended.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use chrono::{DateTime, Utc};
use domain::call::{Call, CallEvent, Turn};
use eventstore::{
    CommandContext, Database, EventStore, ExpectedVersion, StoreError,
    database::{DatabaseSettings, EmbeddedServer},
    now,
};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Events of one call.
pub const STREAM_EVENTS: i64 = 20;
/// Writers at once.
pub const WRITERS: usize = 64;

pub struct Ground {
    dir: tempfile::TempDir,
    _server: EmbeddedServer,
    logs: AtomicU32,
}

/// A new, empty log in a schema of its own.
pub struct Log {
    pub database: Database,
    pub store: EventStore,
}

impl Ground {
    pub async fn prepare() -> Self {
        let dir = tempfile::Builder::new().prefix("nvbench").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let server = EmbeddedServer::start(dir.path()).await.unwrap();
        Self { dir, _server: server, logs: AtomicU32::new(0) }
    }

    pub async fn log(&self) -> Log {
        let settings = DatabaseSettings {
            url: None,
            schema: format!("bench_{}", self.logs.fetch_add(1, Ordering::Relaxed)),
            data_dir: self.dir.path().to_owned(),
            may_create: true,
            connections: 80,
            allow_unsafe_server: false,
        };
        let database = Database::open(&settings).await.unwrap();
        let store = EventStore::open(&database);
        Log { database, store }
    }
}

impl Log {
    /// Gives its space back.
    pub async fn drop(self) {
        let schema = self.database.schema.clone();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop schema {schema} cascade; checkpoint"))).execute(&self.database.pool).await.unwrap();
        self.database.pool.close().await;
    }
}

pub fn context() -> CommandContext {
    CommandContext::system(Uuid::from_u128(7), "bench", now())
}

/// A turn whose payload has about 400 bytes.
pub fn turn(index: i64) -> CallEvent {
    CallEvent::TurnRecorded(Box::new(Turn {
        turn_index: u32::try_from(index).unwrap(),
        occurred_at: Some(occurred_at(index)),
        user_text: Some("yes, that would be fine".to_owned().into()),
        agent_text: Some("Good, I have put it down.".to_owned().into()),
        state: Some("offer".to_owned()),
        ttfb_stt_us: Some(180_500 + index),
        latency_llm_us: Some(420_000 + index),
        ttfb_tts_us: Some(130_000 + index),
        eou_latency_us: Some(730_500 + index),
        stt_duration_sec: Some(Decimal::new(354, 2)),
        llm_input_tokens: Some(350 + index),
        llm_output_tokens: Some(42),
        tts_characters: Some(64),
        interrupted: false,
        stt_provider: Some("deepgram".to_owned()),
        llm_provider: Some("groq".to_owned()),
        llm_model: Some("llama-3.1-8b-instant".to_owned()),
        tts_provider: Some("cartesia".to_owned()),
    }))
}

fn occurred_at(index: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_790_000_000_000_000 + index * 3_000_001).unwrap()
}

/// One writer's calls: appends the next turn of the present call, and begins a new call after the last.
pub struct Writer {
    store: EventStore,
    context: Arc<CommandContext>,
    call: Uuid,
    version: i64,
}

impl Writer {
    pub fn new(store: &EventStore) -> Self {
        Self { store: store.clone(), context: Arc::new(context()), call: Uuid::now_v7(), version: 0 }
    }

    pub async fn append(&mut self) -> Result<i64, StoreError> {
        if self.version == STREAM_EVENTS {
            (self.call, self.version) = (Uuid::now_v7(), 0);
        }
        let expected = if self.version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(self.version) };
        let mut unit = self.store.unit(&self.context);
        unit.push::<Call>(self.call, expected, &[turn(self.version)])?;
        let position = unit.commit().await?;
        self.version += 1;
        Ok(position)
    }
}

impl Ground {
    /// What it was measured on.
    pub async fn machine(&self) -> String {
        let log = self.log().await;
        let version: String = sqlx::query_scalar("show server_version").fetch_one(&log.database.pool).await.unwrap();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        log.drop().await;
        format!("PostgreSQL {version} with the settings of the embedded server, client and server on the same {cores} shared cores.")
    }
}
