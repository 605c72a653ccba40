//! The time from the acknowledgement of a turn until all read models of calls include it, at 1,000 turns per second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use domain::call::{Call, CallEvent, CallSubject, Direction};
use eventstore::{CommandContext, EventStore, ExpectedVersion};
use projections::{Feed, Positions, Projectors, ReadModel, WAIT_MAX, all, call_logs, call_metrics, calls, cost_rollups};
use rand::{SeedableRng as _, rngs::StdRng};
use support::{
    bench::{Goal, Ground, Report},
    calls::{Company, TURNS, turn},
};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};
use uuid::Uuid;

/// Number of concurrent calls. Each records ten turns a second, much faster than real calls, so that there are a thousand turns a second.
const CALLS: u32 = 100;
const TURN_EVERY: Duration = Duration::from_millis(100);
const SECONDS: u64 = 20;
const ROUNDS: usize = 3;
/// The read models that include a turn.
const SHOWN_IN: &[ReadModel] = &[calls::READ_MODEL, call_logs::READ_MODEL, call_metrics::READ_MODEL, cost_rollups::READ_MODEL];

pub async fn run(ground: &Ground, report: &mut Report) {
    let what = format!("{CALLS} calls, 1,000 turns per second, all {} projections running: from acknowledged to visible", all().len());
    report.section("visible", what, "µs");
    let log = ground.log().await;
    let company = Company::default();
    company.price(&log.store).await;
    let positions = Positions::default();
    let (stop, stopped) = watch::channel(false);
    let feed = Feed::new(log.store.clone());
    let projectors = Projectors {
        projections: all(),
        pool: log.database.access.work.clone(),
        owner: log.database.pool.clone(),
        feed,
        positions: positions.clone(),
    };
    let projectors = tokio::spawn(projectors.run(stopped));
    let (mut medians, mut p99s, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let mut delays = record(&log.store, &company, &positions).await;
        rates.push(delays.len() as f64 / begun.elapsed().as_secs_f64());
        delays.sort_by(f64::total_cmp);
        medians.push(delays[delays.len() / 2]);
        p99s.push(delays[delays.len() * 99 / 100]);
    }
    println!("  at {rates:.0?} turns per second");
    report.figure("median", &medians);
    report.figure("p99", &p99s);
    report.ratio("50 ms, the p99", &p99s, &[50_000.0; ROUNDS], Goal::AtMost(1.0));
    stop.send(true).unwrap();
    projectors.await.unwrap();
    log.drop().await;
}

/// The delays of all turns, in microseconds.
async fn record(store: &EventStore, company: &Company, positions: &Positions) -> Vec<f64> {
    let mut calls = JoinSet::new();
    for n in 0..CALLS {
        let (store, positions, company) = (store.clone(), positions.clone(), company.clone());
        calls.spawn(async move {
            let mut rng = StdRng::seed_from_u64(u64::from(n));
            let context = Arc::new(company.context());
            tokio::time::sleep(TURN_EVERY * n / CALLS).await;
            let mut ticks = tokio::time::interval(TURN_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut shown = JoinSet::new();
            let (mut call, mut version) = (Uuid::now_v7(), 0);
            let end = Instant::now() + Duration::from_secs(SECONDS);
            while Instant::now() < end {
                ticks.tick().await;
                if version == TURNS + 1 {
                    (call, version) = (Uuid::now_v7(), 0);
                }
                if version == 0 {
                    append(&store, &context, call, version, started(&company)).await;
                    version = 1;
                }
                let event = CallEvent::TurnRecorded(Box::new(turn(version - 1, Utc::now(), &mut rng)));
                let position = append(&store, &context, call, version, event).await;
                version += 1;
                let acknowledged = Instant::now();
                let positions = positions.clone();
                shown.spawn(async move {
                    positions.reached(SHOWN_IN, position, WAIT_MAX).await.unwrap();
                    acknowledged.elapsed().as_secs_f64() * 1e6
                });
            }
            shown.join_all().await
        });
    }
    calls.join_all().await.into_iter().flatten().collect()
}

async fn append(store: &EventStore, context: &Arc<CommandContext>, call: Uuid, version: i64, event: CallEvent) -> i64 {
    let expected = if version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(version) };
    let mut unit = store.unit(context);
    unit.push::<Call>(call, call, expected, &[event]).await.unwrap();
    unit.commit().await.unwrap()
}

fn started(company: &Company) -> CallEvent {
    let subject = CallSubject {
        campaign_id: company.campaigns.first().copied(),
        task_id: None,
        skillbase_id: None,
        skillbase_version: None,
        direction: Direction::Outbound,
        person_id: None,
        phone_number: "+12025550100".to_owned().into(),
    };
    CallEvent::CallStarted { subject: Box::new(subject), started_at: Utc::now(), started_at_given: true }
}
