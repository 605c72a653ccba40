//! The delay between the answer to an append and the arrival of the event at a live subscriber.

use std::time::{Duration, Instant};

use support::bench::{Ground, Report, median};
use tokio::sync::mpsc;

use crate::writing::Writer;

const ROUNDS: usize = 5;
const APPENDS: usize = 1_000;
/// Appends have random pauses, so that they occur at every point of the subscriber's loop.
const GAP_MAX: Duration = Duration::from_millis(8);
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(ground: &Ground, report: &mut Report) {
    report.section("subscribe", "One appender, one event every 0 to 8 ms; from an append's answer to the subscriber's `next`", "µs");
    let (mut medians, mut p99s) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let log = ground.log().await;
        let mut writer = Writer::new(&log.store);
        let mut subscription = log.store.subscribe(0);
        let (seen, mut arrivals) = mpsc::unbounded_channel();
        let following = tokio::spawn(async move {
            let mut count = 0;
            while count < APPENDS {
                let page = subscription.next(PATIENCE).await.unwrap();
                count += page.len();
                page.iter().for_each(|_| seen.send(Instant::now()).unwrap());
            }
        });
        let appending = tokio::spawn(async move {
            let mut answered = Vec::with_capacity(APPENDS);
            for _ in 0..APPENDS {
                tokio::time::sleep(GAP_MAX.mul_f64(rand::random())).await;
                writer.append().await.unwrap();
                answered.push(Instant::now());
            }
            answered
        });
        following.await.unwrap();
        let mut latencies = Vec::with_capacity(APPENDS);
        for answered in appending.await.unwrap() {
            // A subscriber may receive the event before the appender receives its answer.
            latencies.push(arrivals.recv().await.unwrap().saturating_duration_since(answered).as_secs_f64() * 1e6);
        }
        latencies.sort_by(f64::total_cmp);
        medians.push(median(&latencies));
        p99s.push(latencies[APPENDS * 99 / 100]);
        log.drop().await;
    }
    report.figure("median", &medians);
    report.figure("99th percentile", &p99s);
}
