//! `newvoice`: the platform in one process, or a part of it.

use std::io::IsTerminal as _;

use clap::{Parser, Subcommand};
use eventstore::Database;
use newvoice_api::{
    demo,
    serve::{self, Running},
    settings::Settings,
};
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
    /// The same with a sample company and a simulated campaign running.
    Demo(Settings),
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    log_to_stderr();
    let cli = Cli::parse();
    let (settings, with_demo) = match cli.command {
        None => (cli.settings, false),
        Some(Command::Serve(settings)) => (settings, false),
        Some(Command::Demo(settings)) => (demo::faster(settings), true),
    };
    match run(settings, with_demo).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("newvoice: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings, with_demo: bool) -> anyhow::Result<()> {
    let database = Database::open(&settings.database()).await?;
    let running = serve::start(settings, database).await?;
    announce(&running);
    if with_demo {
        demo::prepare(&running.app).await?;
    }
    serve::told_to_stop().await;
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

fn announce(running: &Running) {
    match running.address {
        Some(address) => tracing::info!("newvoice is ready at http://{address} (documentation at http://{address}/docs)"),
        None => tracing::info!("newvoice is ready"),
    }
}

/// Readable lines on a terminal, JSON otherwise; `RUST_LOG` says how much.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_target(false).with_writer(std::io::stderr)).init();
    } else {
        registry.with(fmt::layer().json().with_writer(std::io::stderr)).init();
    }
}
