//! The speed of rebuilding read models, the delay until they show an appended event, and the speed of reading them.
//!
//! `cargo bench -p newvoice-tests --bench read_models` starts a PostgreSQL in a temporary directory and writes
//! `docs/benchmarks/read_models.json` and `.md`. `-- rebuild visible reads` selects scenarios; `NEWVOICE_BENCH_TURNS` sets the number of
//! turns for the rebuild (default: 2 million), and `NEWVOICE_BENCH_READ_EVENTS` the length of the log for the reads (default: 5 million
//! events).
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has nothing to report")]

mod reads;
mod rebuild;
mod visible;

use support::bench::{Ground, Report};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let ground = Ground::prepare().await;
    let mut report = Report::new("read_models", "The read models, measured", REMARKS);
    if is_wanted("rebuild") {
        rebuild::run(&ground, &mut report).await;
    }
    if is_wanted("visible") {
        visible::run(&ground, &mut report).await;
    }
    if is_wanted("reads") {
        reads::run(&ground, &mut report).await;
    }
    report.write(&ground).await;
}

/// A number from the environment.
fn setting(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Explanations of the figures.
const REMARKS: &str = "
## Remarks

The bare read is one query and its row as JSON. Ours also checks the token's signature, looks whether the read models have what was asked
for, counts and times the request, and names every field.

While a projection is rebuilt, PostgreSQL uses some 42 % of the two cores and the client 39 %; 18 % are idle, because a page is written
when it is folded and not meanwhile.
";
