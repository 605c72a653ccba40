//! The PostgreSQL server that stores the log: given by `DATABASE_URL`, or a private server of the platform.

mod binaries;
mod embedded;
mod health;
mod installation;
mod pool;
mod roles;
mod settings;

use std::{
    str::FromStr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, PgConnection, migrate::MigrateError, postgres::PgConnectOptions};

pub use embedded::{EmbeddedServer, default_data_dir};
pub use health::DatabaseHealth;
pub use pool::Pool;
pub use roles::{Access, Purpose, ServiceRole};
pub use settings::{DatabaseSettings, OpenError};

use self::{pool::ACQUIRE_TIMEOUT, roles::Roles};
use crate::persons::MasterKey;

/// Default number of connections of a process.
pub const POOL_CONNECTIONS: u32 = 32;
/// Positions in one partition of the log.
const PARTITION_EVENTS: i64 = 5_000_000;
/// A partition is created when fewer positions than this are left ahead of the head.
const PARTITION_AHEAD_EVENTS: i64 = 5_000_000;
/// The oldest PostgreSQL that is supported, as `server_version_num`.
const SERVER_VERSION_MIN: i32 = 150_000;

/// A connected and migrated database. A private server stops when the last clone is dropped.
#[derive(Clone)]
pub struct Database {
    /// Connections as the owner of the schema, who may do everything.
    pub pool: Pool,
    pub options: PgConnectOptions,
    pub access: Access,
    pub master_key: Option<MasterKey>,
    pub schema: String,
    pub health: DatabaseHealth,
    _server: Option<Arc<EmbeddedServer>>,
}

impl Database {
    /// Connects to the database, checks it and brings its schema up to date; starts the private server if necessary.
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, OpenError> {
        if settings.url.is_none() && !settings.may_create && !embedded::is_made(&settings.data_dir) {
            return Err(OpenError::NoData(settings.data_dir.clone()));
        }
        let (server, options) = reach(settings).await?;
        if !settings.may_create {
            installation::require_installation(&options, settings).await?;
        }
        if let Some(master) = &settings.master_key {
            installation::require_master_key(&options, master).await?;
        }
        migrate(&options, &settings.schema).await?;
        let roles = match &settings.master_key {
            Some(master) if settings.as_platform => {
                installation::claim(&options, master).await?;
                Some(Roles::ensure(&options, master, &settings.schema).await?)
            }
            _ => None,
        };
        let health = DatabaseHealth::default();
        let pool = Pool::connect(options.clone(), settings.connections, health.clone()).await?;
        ensure_partitions(&pool).await?;
        let access = match &roles {
            Some(roles) => {
                roles::grant(&pool).await?;
                Access::open(roles, &options, settings.connections, &health).await?
            }
            None => Access::as_owner(&pool, &options),
        };
        if let Some(server) = &server {
            tokio::spawn(EmbeddedServer::watch(Arc::downgrade(server)));
        }
        let master_key = settings.master_key.clone();
        Ok(Self { pool, options, access, master_key, schema: settings.schema.clone(), health, _server: server })
    }

    /// Whether the database has an installation that belongs to a master key. Creates and changes nothing.
    pub async fn has_installation(settings: &DatabaseSettings) -> Result<bool, OpenError> {
        if settings.url.is_none() && !embedded::is_made(&settings.data_dir) {
            return Ok(false);
        }
        let (_server, options) = reach(settings).await?;
        let settings = DatabaseSettings { as_platform: true, ..settings.clone() };
        match installation::require_installation(&options, &settings).await {
            Ok(()) => Ok(true),
            Err(OpenError::NoInstallation(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        tokio::join!(self.pool.close(), self.access.close());
    }

    /// The NOTIFY channel of this installation.
    pub(crate) fn channel(&self) -> String {
        format!("{}_events", self.schema)
    }
}

/// Checks that the server is there and fit; starts the private server if there is no address.
async fn reach(settings: &DatabaseSettings) -> Result<(Option<Arc<EmbeddedServer>>, PgConnectOptions), OpenError> {
    check_schema_name(&settings.schema)?;
    let (server, options) = match &settings.url {
        Some(url) => (None, PgConnectOptions::from_str(url).map_err(OpenError::Url)?),
        None => {
            let server = Arc::new(EmbeddedServer::start(&settings.data_dir).await?);
            let options = server.options();
            (Some(server), options)
        }
    };
    let options = in_schema(options, &settings.schema);
    check_server(&options, settings).await?;
    Ok((server, options))
}

fn check_schema_name(schema: &str) -> Result<(), OpenError> {
    let begins_well = schema.starts_with(|c: char| c.is_ascii_lowercase());
    let ends_well = schema.len() <= 40 && schema.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if begins_well && ends_well { Ok(()) } else { Err(OpenError::SchemaName(schema.to_owned())) }
}

/// The name of all connections of this process: with it, another process can see whether this one still exists.
pub fn process_name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| format!("newvoice {}", uuid::Uuid::new_v4().simple()));
    &NAME
}

fn in_schema(options: PgConnectOptions, schema: &str) -> PgConnectOptions {
    options
        .options([("search_path", schema)])
        .application_name(process_name())
        .log_statements(log::LevelFilter::Trace)
        .log_slow_statements(log::LevelFilter::Debug, Duration::from_secs(1))
}

async fn check_server(options: &PgConnectOptions, settings: &DatabaseSettings) -> Result<(), OpenError> {
    let unreachable = |error: sqlx::Error| match &error {
        // PgBouncer's own message, unless PgBouncer is configured to ignore the parameter.
        sqlx::Error::Database(refused) if refused.message().contains("unsupported startup parameter") => {
            OpenError::PoolerInBetween { schema: settings.schema.clone(), found: format!("nothing ({})", refused.message()) }
        }
        _ => OpenError::Unreachable { address: address(options), error },
    };
    let connecting = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(options)).await;
    let mut connection = connecting.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut)).map_err(unreachable)?;
    let server = sqlx::query!(
        r#"select current_setting('server_version') as "version!", current_setting('server_version_num')::int as "version_num!",
                  current_setting('fsync') as "fsync!", current_setting('full_page_writes') as "full_page_writes!",
                  current_setting('synchronous_commit') as "synchronous_commit!", current_setting('search_path') as "search_path!""#
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    if server.search_path != settings.schema {
        return Err(OpenError::PoolerInBetween { schema: settings.schema.clone(), found: server.search_path });
    }
    if server.version_num < SERVER_VERSION_MIN {
        return Err(OpenError::TooOld(server.version));
    }
    let durability =
        [("fsync", server.fsync), ("full_page_writes", server.full_page_writes), ("synchronous_commit", server.synchronous_commit)];
    match durability.into_iter().find(|(_, value)| value == "off") {
        Some((name, _)) if !settings.allow_unsafe_server => Err(OpenError::UnsafeServer(name)),
        _ => Ok(()),
    }
}

fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Number of the first migration. The migrations of older builds have smaller numbers; they were replaced by one file per table and function.
const FIRST_MIGRATION: i64 = 1001;

/// Runs the migrations over a separate connection: whatever fails, closing it releases their lock.
async fn migrate(options: &PgConnectOptions, schema: &str) -> Result<(), OpenError> {
    let mut migrator = sqlx::migrate!("../migrations");
    migrator.create_schema(schema.to_owned());
    let mut connection = PgConnection::connect_with(options).await?;
    let migrated = migrator.run(&mut connection).await;
    connection.close().await?;
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) if version < FIRST_MIGRATION => {
            OpenError::OlderBuild
        }
        MigrateError::VersionMissing(version) => OpenError::NewerBuild(version),
        error => error.into(),
    })
}

pub(crate) async fn ensure_partitions(pool: &Pool) -> Result<i32, sqlx::Error> {
    let made = sqlx::query_scalar!(r#"select ensure_event_partitions($1, $2) as "made!""#, PARTITION_EVENTS, PARTITION_AHEAD_EVENTS);
    made.fetch_one(pool).await
}
