//! The costs of the log, as ratios to bare PostgreSQL work that is measured in the same run on the same table.
//!
//! `cargo bench -p newvoice-tests --bench log` starts a private PostgreSQL in a temporary directory and writes `docs/benchmarks/log.json`
//! and `docs/benchmarks/log.md`. `-- append lone bulk catch-up growth subscribe` selects scenarios; `NEWVOICE_BENCH_GROWTH_EVENTS` sets the
//! size to which the log grows (default: 1 million events).
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has nothing to report")]

mod append;
mod bulk;
mod catch_up;
mod growth;
mod subscribe;
mod writing;

use support::bench::{Ground, Report};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let ground = Ground::prepare().await;
    let mut report = Report::new("log", "The log, measured", REMARKS);
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
    if is_wanted("subscribe") {
        subscribe::run(&ground, &mut report).await;
    }
    report.write(&ground).await;
}

/// Explanations of the figures.
const REMARKS: &str = "
## Where a goal is not met, and why

`append`, against a set-based INSERT: of 64 events written together (about 1.9 ms), the statement in PostgreSQL takes 1.0 ms, of
which two thirds is what the bare INSERT does as well: parsing JSON 21 %, four indexes 16 %, the heap 11 % of the server's time. The
wait for the disk takes 0.2 ms, the client's next commands 0.3 ms, transport and wake-ups the rest. A third of the machine is idle
meanwhile: one batch at a time is on its way, so PostgreSQL waits while the writers make up their next commands. A second batch on
its way would fill that time; it is left out on purpose, so that after a crash at most one batch can be in the log that nobody was told
of. A bare INSERT of 64 rows, with the same waits, is twice as fast, one of 1,000 rows two and a half times.

`lone`: beside the event's row an append writes the stream's and the head's, which costs 40 to 60 µs of statement and a little more
log to flush; the rest is the way through the queue. Before an appender foresaw its places it took 2.1 to 2.6 times a plain INSERT.
";
