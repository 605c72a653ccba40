//! Measures whether appends keep their speed while the log grows.

use std::time::Duration;

use support::bench::{Goal, Ground, Report};

use crate::{append::rate_of_ours, bulk::fill};

const STEPS: u32 = 4;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(5);

pub async fn run(ground: &Ground, report: &mut Report) {
    let events: u32 = std::env::var("NEWVOICE_BENCH_GROWTH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    report.section("growth", format!("64 concurrent appenders, while the log grows from nothing to {events} events"), "events/s");
    let log = ground.log().await;
    let mut first = Vec::new();
    for step in 0..=STEPS {
        let before = u32::try_from(log.store.last_position().await.unwrap()).unwrap();
        let target = events / STEPS * step;
        fill(&log.store, target.saturating_sub(before)).await;
        log.store.ensure_partitions().await.unwrap();
        sqlx::raw_sql("checkpoint").execute(&log.database.pool).await.unwrap();
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            rates.push(rate_of_ours(&log, ROUND).await);
        }
        report.figure(format!("at {target} events"), &rates);
        if step == 0 {
            first.clone_from(&rates);
        }
        if step == STEPS {
            report.ratio("the empty log", &rates, &first, Goal::AtLeast(0.8));
        }
    }
    log.drop().await;
}
