//! All settings, from flags and environment variables, in groups.

use std::{net::SocketAddr, path::PathBuf};

use axum::http::{HeaderName, header};
use clap::{Args, ValueEnum};
use eventstore::{
    MasterKey,
    database::{DatabaseSettings, POOL_CONNECTIONS, default_data_dir},
    persons::MasterKeyError,
};

/// Flags of `newvoice serve` and `newvoice demo`; each one has an environment variable. The settings hold secrets, so they do not implement
/// `Debug`.
#[derive(Clone, Args)]
pub struct Settings {
    /// The roles of this process; several processes share the work.
    #[arg(long, env = "NEWVOICE_ROLES", value_delimiter = ',', default_value = "api,projectors,dialer")]
    pub roles: Vec<Role>,

    #[command(flatten)]
    pub http: HttpSettings,

    #[command(flatten)]
    pub rates: RateSettings,

    #[command(flatten)]
    pub identity: IdentitySettings,

    #[command(flatten)]
    pub uploads: UploadSettings,

    #[command(flatten)]
    pub store: StoreSettings,

    #[command(flatten)]
    pub simulator: SimulatorSettings,
}

/// How this process answers HTTP requests.
#[derive(Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Address to listen on.
    #[arg(long, env = "NEWVOICE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Maximum number of concurrent connections of all clients.
    #[arg(long, env = "NEWVOICE_CONNECTIONS_MAX", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_max: u32,

    /// Maximum number of concurrent connections of one client: an address, or an IPv6 network of 56 bits; 0 means no limit. Default: a
    /// fifth of all connections. Behind a proxy there is no limit per client.
    #[arg(long, env = "NEWVOICE_CONNECTIONS_PER_CLIENT")]
    pub connections_per_client: Option<u32>,

    /// The header in which our proxy sends the clients' addresses; other headers are ignored. `true`, or the flag without a value, means
    /// x-forwarded-for.
    #[arg(
        long,
        env = "NEWVOICE_BEHIND_PROXY",
        value_enum,
        ignore_case = true,
        require_equals = true,
        num_args = 0..=1,
        default_value = "false",
        default_missing_value = "x-forwarded-for"
    )]
    pub behind_proxy: BehindProxy,

    /// Origins whose pages may call the API from a browser, e.g. https://app.example.com; default: none.
    #[arg(long, env = "NEWVOICE_CORS_ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<String>,

    /// How long the process still answers requests at shutdown, in seconds, after /readyz has begun to answer 503, so that load balancers
    /// stop sending requests.
    #[arg(long, env = "NEWVOICE_DRAIN_SEC", default_value_t = 1)]
    pub drain_sec: u64,
}

/// How many requests clients may send; each process counts separately.
#[derive(Clone, Args)]
#[command(next_help_heading = "Rates")]
pub struct RateSettings {
    /// Maximum number of requests of one caller per minute; 0 means no limit. Each process counts separately.
    #[arg(long = "rate-per-caller", id = "rate_per_caller", env = "NEWVOICE_RATE_PER_CALLER", default_value_t = 300_000)]
    pub per_caller: u32,

    /// Maximum number of requests of one company per minute; 0 means no limit. Each process counts separately.
    #[arg(long = "rate-per-company", id = "rate_per_company", env = "NEWVOICE_RATE_PER_COMPANY", default_value_t = 600_000)]
    pub per_company: u32,

    /// Maximum number of invalid API keys, tickets, refresh tokens and invitations from one network per minute; then credentials from that
    /// network are refused without a look-up. 0 means no limit.
    #[arg(long = "rate-of-guesses", id = "rate_of_guesses", env = "NEWVOICE_RATE_OF_GUESSES", default_value_t = 600)]
    pub of_guesses: u32,
}

/// Who may register, how long tokens are valid, how long the audit is kept.
#[derive(Clone, Args)]
#[command(next_help_heading = "Users")]
pub struct IdentitySettings {
    /// Who may register a company: only the first user, who also becomes operator; every user; or no user. Other users join a company by
    /// invitation.
    #[arg(long, env = "NEWVOICE_REGISTRATION", value_enum, default_value_t = RegistrationMode::First)]
    pub registration: RegistrationMode,

    /// Maximum number of registrations of one client per hour; 0 means no limit.
    #[arg(long, env = "NEWVOICE_REGISTRATIONS_PER_HOUR", default_value_t = 10)]
    pub registrations_per_hour: u32,

    /// How long a token is valid, in minutes; a refresh token gets the next one.
    #[arg(long, env = "NEWVOICE_TOKEN_MINUTES", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub token_minutes: u32,

    /// How long audit entries are kept, in days.
    #[arg(long, env = "NEWVOICE_AUDIT_DAYS", default_value_t = 400)]
    pub audit_days: u32,
}

/// How large call lists may be.
#[derive(Clone, Args)]
#[command(next_help_heading = "Call lists")]
pub struct UploadSettings {
    /// Maximum size of a call list, in bytes.
    #[arg(long = "upload-max-bytes", id = "upload_max_bytes", env = "NEWVOICE_UPLOAD_MAX_BYTES", default_value_t = 64 << 20)]
    pub max_bytes: usize,

    /// Maximum number of rows in a call list.
    #[arg(long = "upload-max-rows", id = "upload_max_rows", env = "NEWVOICE_UPLOAD_MAX_ROWS", default_value_t = 1_000_000)]
    pub max_rows: u32,

    /// Maximum number of columns in a call list.
    #[arg(long = "upload-max-columns", id = "upload_max_columns", env = "NEWVOICE_UPLOAD_MAX_COLUMNS", default_value_t = 200)]
    pub max_columns: u32,
}

/// Where the data is, and the keys that encrypt and seal it.
#[derive(Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct StoreSettings {
    /// PostgreSQL server to use; without it, an embedded server is started.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// The database schema that holds all tables.
    #[arg(long, env = "NEWVOICE_SCHEMA", default_value = "newvoice")]
    pub schema: String,

    /// Data directory of the embedded server.
    #[arg(long, env = "NEWVOICE_DATA_DIR", default_value_os_t = default_data_dir())]
    pub data_dir: PathBuf,

    /// Number of connections to PostgreSQL.
    #[arg(long, env = "NEWVOICE_DATABASE_CONNECTIONS", default_value_t = POOL_CONNECTIONS)]
    pub database_connections: u32,

    /// Start even if the server may lose acknowledged data (fsync, full_page_writes or synchronous_commit is off).
    #[arg(long, env = "NEWVOICE_ALLOW_UNSAFE_SERVER")]
    pub allow_unsafe_server: bool,

    /// Replaces `NEWVOICE_MASTER_KEY` and the file.
    #[arg(skip)]
    pub master_key: Option<MasterKey>,

    /// File with the master key (64 hexadecimal digits), which encrypts personal data and derives the passwords of the database roles. The
    /// file is created if it does not exist; default: `master.key` in the data directory. Back it up separately from the database.
    /// Alternatively, NEWVOICE_MASTER_KEY may hold the key itself.
    #[arg(long, env = "NEWVOICE_MASTER_KEY_FILE")]
    pub master_key_file: Option<PathBuf>,

    /// File with the Ed25519 key (PKCS#8, PEM) that seals the log. It is created if it does not exist, and the public key is written beside
    /// it. Default: `seal-key.pem` in the data directory. Processes that share a log should share the key.
    #[arg(long, env = "NEWVOICE_SEAL_KEY_FILE")]
    pub seal_key_file: Option<PathBuf>,

    /// How often the log is sealed, in seconds; 0 means never.
    #[arg(long, env = "NEWVOICE_SEAL_EVERY_SEC", default_value_t = 60)]
    pub seal_every_sec: u64,
}

/// The calls of the simulator.
#[derive(Clone, Args)]
#[command(next_help_heading = "Simulator")]
pub struct SimulatorSettings {
    /// Speed of simulated calls, as a multiple of real time.
    #[arg(long = "simulator-speed", id = "simulator_speed", env = "NEWVOICE_SIMULATOR_SPEED", default_value_t = 1.0)]
    pub speed: f64,

    /// Seed of the simulated calls; a different seed gives different calls.
    #[arg(long = "simulator-seed", id = "simulator_seed", env = "NEWVOICE_SIMULATOR_SEED", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Api,
    Projectors,
    Dialer,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether all requests come through our proxy, and the header in which it sends the clients' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BehindProxy {
    /// There is no proxy: the client's address is the address of the connection.
    #[value(name = "false")]
    No,
    /// A proxy sends the address as the last one in X-Forwarded-For.
    #[value(alias = "true")]
    XForwardedFor,
    /// A proxy sends the address as the last `for` in Forwarded (RFC 7239).
    Forwarded,
}

impl BehindProxy {
    /// The header that the proxy sets.
    pub const fn header(self) -> Option<HeaderName> {
        match self {
            Self::No => None,
            Self::XForwardedFor => Some(FORWARDED_FOR),
            Self::Forwarded => Some(header::FORWARDED),
        }
    }
}

/// Who may register a company.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RegistrationMode {
    /// The first registration creates a company whose admin is also operator; later registrations are refused.
    First,
    /// Every user. Operators are added on the machine.
    Open,
    /// No user.
    Closed,
}

impl From<RegistrationMode> for services::identity::RegistrationMode {
    fn from(mode: RegistrationMode) -> Self {
        match mode {
            RegistrationMode::First => Self::First,
            RegistrationMode::Open => Self::Open,
            RegistrationMode::Closed => Self::Closed,
        }
    }
}

/// An origin by name: scheme and host, no path, and not everybody.
fn origin(text: &str) -> Result<String, String> {
    let is_named =
        text.split_once("://").is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '*', ' ']));
    if is_named { Ok(text.to_owned()) } else { Err("must be an origin, e.g. https://app.example.com".to_owned()) }
}

impl Settings {
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

impl StoreSettings {
    pub fn seal_key_file(&self) -> PathBuf {
        self.seal_key_file.clone().unwrap_or_else(|| self.data_dir.join("seal-key.pem"))
    }

    /// The existing master key: from the settings, from the environment, or from its file; `None` if there is none.
    pub fn existing_master_key(&self) -> Result<Option<MasterKey>, MasterKeyError> {
        match self.master_key.clone().map_or_else(MasterKey::from_environment, |key| Ok(Some(key)))? {
            Some(key) => Ok(Some(key)),
            None => MasterKey::read(&self.master_key_file()),
        }
    }

    pub fn master_key_file(&self) -> PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| self.data_dir.join("master.key"))
    }

    pub fn database(&self, master_key: Option<MasterKey>) -> DatabaseSettings {
        DatabaseSettings {
            master_key,
            as_platform: true,
            url: self.database_url.clone(),
            schema: self.schema.clone(),
            data_dir: self.data_dir.clone(),
            may_create: true,
            connections: self.database_connections,
            allow_unsafe_server: self.allow_unsafe_server,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    /// The settings that these flags give.
    pub fn parse(flags: &[&str]) -> Result<Settings, clap::Error> {
        Command::try_parse_from(std::iter::once(&"newvoice").chain(flags)).map(|command| command.settings)
    }

    #[test]
    fn no_flag_takes_the_master_key_itself() {
        let refused = parse(&["--master-key", &"5a".repeat(32)]).err().unwrap();
        assert_eq!(refused.kind(), clap::error::ErrorKind::UnknownArgument, "arguments of a process are visible to other users");
    }

    #[test]
    fn the_proxys_header_is_named_and_older_values_keep_their_meaning() {
        let parse = |args: &[&str]| {
            Command::try_parse_from(std::iter::once(&"newvoice").chain(args)).map(|command| command.settings.http.behind_proxy)
        };
        for (args, expected) in [
            (&[][..], BehindProxy::No),
            (&["--behind-proxy=false"], BehindProxy::No),
            (&["--behind-proxy"], BehindProxy::XForwardedFor),
            (&["--behind-proxy=true"], BehindProxy::XForwardedFor),
            (&["--behind-proxy=X-Forwarded-For"], BehindProxy::XForwardedFor),
            (&["--behind-proxy=forwarded"], BehindProxy::Forwarded),
        ] {
            assert_eq!(parse(args).ok(), Some(expected), "{args:?}");
        }
        assert!(parse(&["--behind-proxy=x-real-ip"]).is_err());
    }
}
