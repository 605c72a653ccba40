//! `newvoice`: the platform in one process, or a part of it.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand, error::ErrorKind};
use eventstore::{
    Database, MasterKey,
    database::{DatabaseSettings, OpenError},
    persons::MasterKeyError,
};
use newvoice_api::{
    demo,
    operators::{self, OperatorCommand, OperatorError},
    serve::{self, Running},
    settings::Settings,
};
use services::identity::tokens::Tokens;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Voice campaigns on an event log.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API, run projections and dial: the default.
    Serve(Settings),
    /// Serve with a sample company and a running simulated campaign.
    Demo(Settings),
    /// Manage operators, who may rebuild, restore and retry projections.
    Operator {
        #[command(subcommand)]
        command: OperatorCommand,
        #[command(flatten)]
        settings: Settings,
    },
    /// Create a new key for signing tokens; running processes load it within 30 seconds and sign with it after 90 seconds.
    RotateSigningKey {
        /// Revoke all earlier keys and the tokens that they signed; refresh tokens stay valid.
        #[arg(long)]
        revoke: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Replace the key that seals the log by a new one, which the old one names: `replay-tool verify` with the old public key accepts both.
    RotateSealKey(Settings),
}

/// glibc's allocator does not return freed memory of threads (1.7 GB after some long answers) and makes threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    return_freed_memory_soon();
    log_to_stderr();
    run_command()
}

/// How long the allocator keeps freed memory before it returns it to the system, in milliseconds. With its own default of a second, the
/// peak of a process that rebuilds read models is half as high again.
const PURGE_DELAY_MS: std::ffi::c_long = 10;

#[expect(unsafe_code, reason = "the allocator has no other interface for its options")]
fn return_freed_memory_soon() {
    /// `mi_option_purge_delay` in mimalloc.h.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

    // SAFETY: no other thread runs yet, and the value is one that the option may have. `_default`: the environment has priority.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) }
}

#[tokio::main]
async fn run_command() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_arguments(&error),
    };
    let done = match cli.command {
        None => run(cli.settings, false).await,
        Some(Command::Serve(settings)) => run(settings, false).await,
        Some(Command::Demo(settings)) => run(demo::faster(settings), true).await,
        Some(Command::Operator { command, settings }) => operate(&settings, command).await,
        Some(Command::RotateSigningKey { revoke, settings }) => rotate(&settings, revoke).await,
        Some(Command::RotateSealKey(settings)) => rotate_seal_key(&settings).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("newvoice: {error:#}");
            if is_wrong_use(&error) { ExitCode::from(WRONG_USE) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(settings: Settings, with_demo: bool) -> anyhow::Result<()> {
    let database = open(&settings).await?;
    let running = serve::start(settings, database).await?;
    announce(&running);
    if with_demo {
        demo::prepare(&running.app).await?;
    }
    serve::shutdown_signal().await;
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

/// Opens the database. A master key is created only with a new installation: a restored database needs the key that its keys are wrapped
/// with.
async fn open(settings: &Settings) -> anyhow::Result<Database> {
    let store = &settings.store;
    let file = store.master_key_file();
    let master_key = match store.existing_master_key()? {
        Some(key) => key,
        None if Database::has_installation(&store.database(None)).await? => return Err(OpenError::NoMasterKey(file).into()),
        None => MasterKey::open(&file)?,
    };
    Ok(Database::open(&store.database(Some(master_key))).await?)
}

/// Exit code for wrong arguments, as in clap.
const WRONG_USE: u8 = 2;

/// Prints the help or the version that was requested, or an error in one line.
fn wrong_arguments(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        error.exit();
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let message = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    eprintln!("newvoice: {}; see --help", message.trim_start_matches("error: "));
    ExitCode::from(WRONG_USE)
}

/// Whether different arguments, rather than a repair of the machine, solve the problem.
fn is_wrong_use(error: &anyhow::Error) -> bool {
    let database = error.downcast_ref::<OpenError>();
    let operator = error.downcast_ref::<OperatorError>();
    database.is_some_and(OpenError::is_wrong_use)
        || matches!(operator, Some(OperatorError::UnknownAddress(_)))
        || matches!(error.downcast_ref(), Some(MasterKeyError::NotHex(_)))
}

/// Opens the database of an existing installation. It creates neither a key nor an installation: a database in which no platform was
/// started is refused before any change.
async fn open_existing(settings: &Settings) -> anyhow::Result<(Database, MasterKey)> {
    let file = settings.store.master_key_file();
    let master_key = settings.store.existing_master_key()?.ok_or_else(|| OpenError::NoMasterKey(file))?;
    let database = Database::open(&DatabaseSettings { may_create: false, ..settings.store.database(Some(master_key.clone())) }).await?;
    Ok((database, master_key))
}

async fn operate(settings: &Settings, command: OperatorCommand) -> anyhow::Result<()> {
    let (database, _) = open_existing(settings).await?;
    let done = operators::run(&database, command).await;
    database.close().await;
    Ok(done?)
}

async fn rotate(settings: &Settings, revoke: bool) -> anyhow::Result<()> {
    let (database, master) = open_existing(settings).await?;
    let pool = &database.access.identity;
    Tokens::load(pool, &master, settings.identity.token_minutes).await?.rotate(pool, revoke).await?;
    println!("a new key will sign tokens{}", if revoke { "; the earlier keys are no longer valid" } else { "" });
    database.close().await;
    Ok(())
}

async fn rotate_seal_key(settings: &Settings) -> anyhow::Result<()> {
    let (database, _) = open_existing(settings).await?;
    let rotated = eventstore::seal::rotate(&settings.store.seal_key_file(), &database.pool).await;
    database.close().await;
    let [old, new] = rotated?;
    println!("the key {new} seals the log from now on; {old} has named it");
    Ok(())
}

fn announce(running: &Running) {
    match running.address {
        Some(address) => tracing::info!("newvoice is ready at http://{address} (documentation at http://{address}/docs)"),
        None => tracing::info!("newvoice is ready"),
    }
}

/// Readable lines on a terminal, JSON otherwise; `RUST_LOG` sets the level.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_target(false).with_writer(std::io::stderr)).init();
    } else {
        registry.with(fmt::layer().json().with_writer(std::io::stderr)).init();
    }
}
