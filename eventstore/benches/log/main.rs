//! What the log costs, as ratios against bare PostgreSQL work that is measured in the same run on the same table.
//!
//! `cargo bench -p eventstore` starts a private PostgreSQL in a temporary directory and writes `docs/benchmarks/log.json`
//! and `docs/benchmarks/log.md`. `-- append lone bulk catch-up growth` picks scenarios; `NEWVOICE_BENCH_GROWTH_EVENTS` says
//! how far the log grows (1 million unless set).
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has nothing to report")]

mod append;
mod bulk;
mod catch_up;
mod ground;
mod growth;
mod report;

use ground::Ground;
use report::Report;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let ground = Ground::prepare().await;
    let mut report = Report::default();
    if is_wanted("append") {
        append::concurrent(&ground, &mut report).await;
    }
    if is_wanted("lone") {
        append::lone(&ground, &mut report).await;
    }
    if is_wanted("bulk") {
        bulk::run(&ground, &mut report).await;
    }
    if is_wanted("catch-up") {
        catch_up::run(&ground, &mut report).await;
    }
    if is_wanted("growth") {
        growth::run(&ground, &mut report).await;
    }
    report.write(&ground).await;
}
