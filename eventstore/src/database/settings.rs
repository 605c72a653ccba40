//! Which database to open, and why opening it may fail.

use std::path::PathBuf;

use sqlx::migrate::MigrateError;

use crate::persons::MasterKey;

/// The address of PostgreSQL and the platform's schema. The address may contain a password, so it is not printable.
#[derive(Clone)]
pub struct DatabaseSettings {
    /// `postgres://...`; without it a private server is started.
    pub url: Option<String>,
    /// The schema that holds everything.
    pub schema: String,
    /// The data directory of the private server.
    pub data_dir: PathBuf,
    /// Whether a missing installation, and a private server for it, may be created; a tool that only reads must not create them.
    pub may_create: bool,
    pub connections: u32,
    /// The key that protects the keys of all personal data. Without it personal data stays encrypted.
    pub master_key: Option<MasterKey>,
    /// Whether to work under the service roles, whose passwords are derived from the master key; otherwise the owner does everything.
    pub as_platform: bool,
    /// Continue although the server may lose acknowledged data.
    pub allow_unsafe_server: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("DATABASE_URL is not a PostgreSQL address: {0}")]
    Url(sqlx::Error),
    #[error(
        "the schema name '{0}' must have lower-case letters, digits and underscores, begin with a letter and have at most 40 characters"
    )]
    SchemaName(String),
    #[error("no PostgreSQL was found on this machine. Install it (Debian: apt-get install postgresql) or set DATABASE_URL")]
    NoPostgres,
    #[error("there is no platform in {0}; set NEWVOICE_DATA_DIR or DATABASE_URL")]
    NoData(PathBuf),
    #[error("there is no platform in the schema {0} of this database; set DATABASE_URL and NEWVOICE_SCHEMA, or start newvoice there first")]
    NoInstallation(String),
    #[error("the embedded PostgreSQL could not be started: {0}")]
    Embedded(String),
    #[error("PostgreSQL at {address} cannot be reached: {error}")]
    Unreachable { address: String, error: sqlx::Error },
    #[error("PostgreSQL {0} is too old; 15 is the oldest supported")]
    TooOld(String),
    #[error(
        "connections arrive with search_path = {found} where {schema} was asked for: a connection pooler such as PgBouncer is in between, which \
         the platform cannot work through (named statements, LISTEN, session locks). Connect to PostgreSQL itself"
    )]
    PoolerInBetween { schema: String, found: String },
    #[error("the server has {0} = off and may lose what it acknowledged; turn it on, or set NEWVOICE_ALLOW_UNSAFE_SERVER=true")]
    UnsafeServer(&'static str),
    #[error("the role of DATABASE_URL may not make the roles under which the platform works ({0}); give it CREATEROLE")]
    MayNotMakeRoles(String),
    #[error(
        "there is no master key in {0}; copy the installation's key there, or set NEWVOICE_MASTER_KEY, NEWVOICE_MASTER_KEY_FILE or \
         NEWVOICE_DATA_DIR"
    )]
    NoMasterKey(PathBuf),
    #[error("the master key is not the one that the keys of this database are wrapped with")]
    OtherMasterKey,
    #[error("PostgreSQL does not let the role {role} in with its password ({error}); see pg_hba.conf")]
    RoleRefused { role: String, error: sqlx::Error },
    #[error(
        "this database was made by an older build, and this build cannot convert it; start the older build on it, or choose another database \
         (DATABASE_URL, NEWVOICE_DATA_DIR) or schema (NEWVOICE_SCHEMA) for this one"
    )]
    OlderBuild,
    #[error("this database was migrated by a newer build, to {0}; start the newer build on it")]
    NewerBuild(i64),
    #[error("the database could not be migrated: {0}")]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl OpenError {
    /// Whether the operator must call the program with other arguments: another address, schema or key.
    pub fn is_wrong_use(&self) -> bool {
        match self {
            Self::Url(_)
            | Self::SchemaName(_)
            | Self::NoData(_)
            | Self::NoInstallation(_)
            | Self::PoolerInBetween { .. }
            | Self::NoMasterKey(_)
            | Self::OlderBuild
            | Self::NewerBuild(_)
            | Self::OtherMasterKey => true,
            Self::NoPostgres
            | Self::Embedded(_)
            | Self::Unreachable { .. }
            | Self::TooOld(_)
            | Self::UnsafeServer(_)
            | Self::MayNotMakeRoles(_)
            | Self::RoleRefused { .. }
            | Self::Migrate(_)
            | Self::Sql(_) => false,
        }
    }
}
