//! `replay-tool`: audits call histories, verifies the log, rebuilds and compares read models, exports, asks what if.
//!
//! Exit code 0: equal or sound; 1: not, or it could not be found out; 2: wrong use.

mod commands;
mod export;
mod output;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use eventstore::{
    Database, EventStore, MasterKey,
    database::{DatabaseSettings, OpenError, default_data_dir},
};
use output::Output;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(version, about = "Audit, verify, rebuild, compare, export: everything the log can tell.")]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    /// Machine-readable output, without progress bars.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Connection {
    /// PostgreSQL of the platform; without it the embedded server of NEWVOICE_DATA_DIR.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
    #[arg(long, env = "NEWVOICE_SCHEMA", default_value = "newvoice", global = true)]
    schema: String,
    #[arg(long, env = "NEWVOICE_DATA_DIR", default_value_os_t = default_data_dir(), global = true)]
    data_dir: PathBuf,
    #[arg(long, env = "NEWVOICE_ALLOW_UNSAFE_SERVER", global = true)]
    allow_unsafe_server: bool,
    /// File with the key that personal data is read with; `master.key` in the data directory unless set. NEWVOICE_MASTER_KEY may hold the key
    /// itself (64 hexadecimal digits). Without a key personal data stays encrypted.
    #[arg(long, env = "NEWVOICE_MASTER_KEY_FILE", global = true)]
    master_key_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Everything that happened in a stream (`call-<uuid>`, `task-<uuid>`, …), as a timeline. A task's includes its calls'.
    History {
        stream: String,
        /// Only what was recorded until this moment (RFC 3339).
        #[arg(long)]
        as_of: Option<DateTime<Utc>>,
    },
    /// Recompute the hash chain; says the first position that is wrong and how.
    Verify {
        /// Begin at this position instead of the first one.
        #[arg(long)]
        from: Option<i64>,
        /// Seals that were kept elsewhere (as `replay-tool seals` writes them), to be compared with the log beside those in the database.
        #[arg(long)]
        seals: Option<PathBuf>,
        /// Public key (PEM) that seals must be signed with; may be given several times. Any key counts unless one is given.
        #[arg(long)]
        seal_key: Vec<PathBuf>,
    },
    /// Write the seals to standard output, one JSON object a line, to be kept elsewhere.
    Seals,
    /// The parts of the log, and those that were taken out of it.
    Partitions {
        #[command(subcommand)]
        action: Option<commands::partitions::Action>,
    },
    /// Fill a projection's tables again from the log, beside the live ones, and swap them.
    Rebuild {
        /// A projection's name, or `all`.
        projection: String,
        /// List every differing row before swapping.
        #[arg(long)]
        compare: bool,
    },
    /// Put the tables from before a projection's last rebuild back, brought up to date first. What is live now is kept in their place.
    Restore {
        /// A projection's name, or `all`.
        projection: String,
    },
    /// Let a projection that stopped at an event try it again.
    Retry {
        /// A projection's name, or `all`.
        projection: String,
    },
    /// Rebuild a projection beside the live one and list the differences, without swapping; or list the credentials that give more than
    /// the log says.
    Compare {
        /// A projection's name, `credentials`, or `all`.
        projection: String,
    },
    /// Write events or a read model as JSON lines, CSV or Parquet.
    Export {
        /// `events`, or a read model's table: `calls`, `call_metrics`, `cost_rollups`, …
        #[arg(default_value = commands::export::EVENTS)]
        what: String,
        #[arg(long, value_enum, default_value = "jsonl")]
        format: export::Format,
        /// Begin CSV with a byte-order mark, so that Excel reads it as UTF-8.
        #[arg(long)]
        bom: bool,
        /// Events recorded, calls started, … at or after this moment (RFC 3339).
        #[arg(long)]
        from: Option<DateTime<Utc>>,
        /// The same before this moment.
        #[arg(long)]
        to: Option<DateTime<Utc>>,
        /// Only this company's.
        #[arg(long)]
        company: Option<uuid::Uuid>,
        /// A file instead of standard output.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// What is in the log, and how far the projections are.
    Stats,
    /// What the calls of a period would have cost under other rates. Changes nothing.
    WhatIf {
        /// JSON file: a list of rates, or an object with `rates`.
        #[arg(long)]
        price_list: PathBuf,
        #[arg(long)]
        from: DateTime<Utc>,
        #[arg(long)]
        to: DateTime<Utc>,
        /// Needed when there are several companies.
        #[arg(long)]
        company: Option<uuid::Uuid>,
        #[arg(long)]
        campaign: Option<uuid::Uuid>,
    },
}

/// What a command found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finding {
    Sound,
    NotSound,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    match run(cli).await {
        Ok(Finding::Sound) => ExitCode::SUCCESS,
        Ok(Finding::NotSound) => ExitCode::from(1),
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay-tool: {error:#}");
            let is_wrong_use = error.is::<WrongUse>() || error.downcast_ref::<OpenError>().is_some_and(OpenError::is_wrong_use);
            ExitCode::from(if is_wrong_use { 2 } else { 1 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

/// The words of the command line do not fit.
#[derive(Debug)]
struct WrongUse(String);

impl std::fmt::Display for WrongUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUse {}

async fn run(cli: Cli) -> anyhow::Result<Finding> {
    let output = Output::new(cli.json);
    let master_key = match MasterKey::from_environment()? {
        Some(key) => Some(key),
        None => {
            let file = cli.connection.master_key_file.unwrap_or_else(|| cli.connection.data_dir.join("master.key"));
            MasterKey::read(&file).with_context(|| file.display().to_string())?
        }
    };
    let settings = DatabaseSettings {
        master_key,
        as_platform: false,
        url: cli.connection.database_url,
        schema: cli.connection.schema,
        data_dir: cli.connection.data_dir,
        may_create: false,
        connections: 8,
        allow_unsafe_server: cli.connection.allow_unsafe_server,
    };
    let database = Database::open(&settings).await?;
    let store = EventStore::open(&database);
    let finding = match cli.command {
        Command::History { stream, as_of } => commands::history::run(&store, &output, &stream, as_of).await,
        Command::Verify { from, seals, seal_key } => {
            commands::verify::run(&database.pool, &store, &output, from, seals.as_deref(), &seal_key).await
        }
        Command::Seals => commands::seals::run(&database.pool).await,
        Command::Partitions { action } => commands::partitions::run(&store, &output, action).await,
        Command::Rebuild { projection, compare } => commands::rebuild::rebuild(&database.pool, &store, &output, &projection, compare).await,
        Command::Restore { projection } => commands::rebuild::restore(&database.pool, &store, &output, &projection).await,
        Command::Retry { projection } => commands::rebuild::retry(&database.pool, &output, &projection).await,
        Command::Compare { projection } => commands::rebuild::compare(&database.pool, &store, &output, &projection).await,
        Command::Export { what, format, bom, from, to, company, output: file } => {
            let format = if bom { format.with_mark()? } else { format };
            let scope = export::Scope { from, to, company };
            commands::export::run(&database.access, &store, &output, &what, format, scope, file.as_deref()).await
        }
        Command::Stats => commands::stats::run(&database.pool, &output).await,
        Command::WhatIf { price_list, from, to, company, campaign } => {
            commands::what_if::run(&database, &output, &price_list, (from, to), company, campaign).await
        }
    };
    database.close().await;
    finding
}
