//! A private PostgreSQL and new logs in it.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use eventstore::{
    Database, EventStore,
    database::{DatabaseSettings, EmbeddedServer},
};

pub struct Ground {
    dir: tempfile::TempDir,
    _server: EmbeddedServer,
    logs: AtomicU32,
}

/// A new, empty log in its own schema.
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

    /// The data directory of its server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub async fn log(&self) -> Log {
        let settings = DatabaseSettings {
            url: None,
            schema: format!("bench_{}", self.logs.fetch_add(1, Ordering::Relaxed)),
            data_dir: self.dir.path().to_owned(),
            may_create: true,
            connections: 80,
            allow_unsafe_server: false,
            master_key: Some(crate::master_key()),
            as_platform: true,
        };
        let database = Database::open(&settings).await.unwrap();
        let store = EventStore::open(&database);
        Log { database, store }
    }
}

impl Log {
    /// Drops the log and releases its disk space.
    pub async fn drop(self) {
        let schema = self.database.schema.clone();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop schema {schema} cascade; checkpoint"))).execute(&self.database.pool).await.unwrap();
        self.database.close().await;
    }
}

impl Ground {
    /// The machine and the server of the measurement.
    pub async fn machine(&self) -> String {
        let log = self.log().await;
        let version: String = sqlx::query_scalar("show server_version").fetch_one(&log.database.pool).await.unwrap();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        log.drop().await;
        format!("PostgreSQL {version} with the settings of the embedded server, client and server on the same {cores} shared cores.")
    }
}
