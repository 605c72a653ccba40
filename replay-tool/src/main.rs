//! `replay-tool`: audits call histories, verifies the log, rebuilds and compares read models, exports, and computes costs under other
//! rates.
//!
//! Exit code 0: equal or valid; 1: not equal, not valid, or unknown because of an error; 2: wrong arguments.

mod audit;
mod commands;
mod companies;
mod export;
mod output;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Parser, Subcommand};
use commands::export::Export;
use companies::NamedCompany;
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
    /// PostgreSQL server of the platform; without it, the embedded server of NEWVOICE_DATA_DIR is used.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
    #[arg(long, env = "NEWVOICE_SCHEMA", default_value = "newvoice", global = true)]
    schema: String,
    #[arg(long, env = "NEWVOICE_DATA_DIR", default_value_os_t = default_data_dir(), global = true)]
    data_dir: PathBuf,
    #[arg(long, env = "NEWVOICE_ALLOW_UNSAFE_SERVER", global = true)]
    allow_unsafe_server: bool,
    /// File with the key that decrypts personal data; default: `master.key` in the data directory. Alternatively, NEWVOICE_MASTER_KEY may
    /// hold the key itself (64 hexadecimal digits). Without a key, personal data stays encrypted.
    #[arg(long, env = "NEWVOICE_MASTER_KEY_FILE", global = true)]
    master_key_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Show all events of a stream (`call-<uuid>`, `task-<uuid>`, …) as a timeline. The timeline of a task includes its calls.
    History {
        stream: String,
        /// Only events that were recorded until this time (RFC 3339; a date means the beginning of the day, UTC).
        #[arg(long, value_parser = parse_time)]
        as_of: Option<DateTime<Utc>>,
    },
    /// Recompute the hash chain; prints the first wrong position and the error.
    Verify {
        /// Begin at this position instead of at the first one.
        #[arg(long)]
        from: Option<i64>,
        /// File with seals that were stored elsewhere (as `replay-tool seals` writes them); they are compared with the log, in addition to
        /// the seals in the database.
        #[arg(long)]
        seals: Option<PathBuf>,
        /// Public key (PEM) that must have signed the seals; may be given several times. Without this option, seals of any key are
        /// accepted.
        #[arg(long)]
        seal_key: Vec<PathBuf>,
    },
    /// Write the seals to standard output, one JSON object per line, so that they can be stored elsewhere.
    Seals,
    /// Show the partitions of the log and the detached ones; detach or attach partitions.
    Partitions {
        #[command(subcommand)]
        action: Option<commands::partitions::Action>,
    },
    /// Rebuild a projection: fill new tables from the log beside the live ones, then swap them.
    Rebuild {
        /// A projection's name, or `all`.
        projection: String,
        /// List every differing row before the swap.
        #[arg(long)]
        compare: bool,
    },
    /// Restore the tables from before a projection's last rebuild. They are brought up to date first; the tables that are live now are kept
    /// in their place.
    Restore {
        /// A projection's name, or `all`.
        projection: String,
    },
    /// Let a projection that stopped at an event retry it.
    Retry {
        /// A projection's name, or `all`.
        projection: String,
    },
    /// Rebuild a projection beside the live one and list the differences, without a swap; or list the credentials that give more rights
    /// than the log.
    Compare {
        /// A projection's name, `credentials`, or `all`.
        projection: String,
    },
    /// Write events or a read model as JSON lines, CSV, XLSX or Parquet.
    Export {
        /// `events`, or a read model's table: `calls`, `call_metrics`, `cost_rollups`, …
        #[arg(default_value = commands::export::EVENTS)]
        what: String,
        #[arg(long, value_enum, default_value = "jsonl")]
        format: export::Format,
        /// Begin CSV with a byte-order mark, so that Excel reads it as UTF-8.
        #[arg(long)]
        bom: bool,
        /// Decrypt the personal values of a read model: phone numbers, names, contact data, what was said. The audit of each company in the
        /// export records it.
        #[arg(long)]
        reveal: bool,
        /// Only rows at or after this time (RFC 3339): the time when an event was recorded, a call started, …. A date means the
        /// beginning of the day, UTC.
        #[arg(long, value_parser = parse_time)]
        from: Option<DateTime<Utc>>,
        /// Only rows before this time, or before the beginning of this day.
        #[arg(long, value_parser = parse_time)]
        to: Option<DateTime<Utc>>,
        /// Only rows of this company: its id or its slug.
        #[arg(long)]
        company: Option<NamedCompany>,
        /// Write to this file instead of standard output.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Show the content of the log, and the positions of the projections.
    Stats,
    /// Compute the costs of the calls of a period under other rates. Changes nothing.
    WhatIf {
        /// JSON file: a list of rates, or an object with `rates`.
        #[arg(long)]
        price_list: PathBuf,
        #[arg(long, value_parser = parse_time)]
        from: DateTime<Utc>,
        #[arg(long, value_parser = parse_time)]
        to: DateTime<Utc>,
        /// Company of the calls, its id or its slug; required if there are several companies.
        #[arg(long)]
        company: Option<NamedCompany>,
        #[arg(long)]
        campaign: Option<uuid::Uuid>,
    },
}

/// A time with its zone (RFC 3339), or a date, which means the beginning of the day, UTC.
fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || text.parse::<NaiveDate>().ok().filter(|_| text.len() == "2026-11-20".len());
    let time = text.parse().ok().or_else(|| Some(day()?.and_time(NaiveTime::MIN).and_utc()));
    time.ok_or_else(|| "must be a time with its zone, e.g. 2026-11-20T09:00:00Z, or a date, e.g. 2026-11-20".to_owned())
}

/// The result of a command.
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
        // The reader of our output has closed it.
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

/// The command line arguments do not match.
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
        Command::History { stream, as_of } => commands::history::run(&database, &store, &output, &stream, as_of).await,
        Command::Verify { from, seals, seal_key } => {
            commands::verify::run(&database.pool, &store, &output, from, seals.as_deref(), &seal_key).await
        }
        Command::Seals => commands::seals::run(&database.pool).await,
        Command::Partitions { action } => commands::partitions::run(&store, &output, action).await,
        Command::Rebuild { projection, compare } => commands::rebuild::rebuild(&database.pool, &store, &output, &projection, compare).await,
        Command::Restore { projection } => commands::rebuild::restore(&database.pool, &store, &output, &projection).await,
        Command::Retry { projection } => commands::rebuild::retry(&database.pool, &output, &projection).await,
        Command::Compare { projection } => commands::rebuild::compare(&database.pool, &store, &output, &projection).await,
        Command::Export { what, format, bom, reveal, from, to, company, output: file } => {
            let company = companies::find(company.as_ref(), &database.pool).await?;
            let format = if bom { format.with_mark()? } else { format };
            let export = Export { what, format, scope: export::Scope { from, to, company }, reveals: reveal };
            commands::export::run(&database, &store, &output, &export, file.as_deref()).await
        }
        Command::Stats => commands::stats::run(&database.pool, &output).await,
        Command::WhatIf { price_list, from, to, company, campaign } => {
            let company = companies::find(company.as_ref(), &database.pool).await?;
            commands::what_if::run(&database, &output, &price_list, (from, to), company, campaign).await
        }
    };
    database.close().await;
    finding
}
