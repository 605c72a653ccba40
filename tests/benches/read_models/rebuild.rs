//! Rebuilding a projection, compared with only reading and decoding the same events, and with a projector that applies one event per
//! transaction.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eventstore::{EventStore, Pool};
use projections::{
    Projection, Recorded, by_name,
    rebuild::{Purpose, Rebuild},
};
use sqlx::Connection as _;
use support::{
    bench::{Goal, Ground, Log, Report},
    calls::{CALL_EVENTS, Company, TURNS, fill},
};
use uuid::Uuid;

use crate::setting;

const ROUNDS: usize = 3;
/// Number of events for the projector that applies one at a time.
const SINGLE_EVENTS: i64 = 3_000;

pub async fn run(ground: &Ground, report: &mut Report) {
    let turns = setting("NEWVOICE_BENCH_TURNS", 2_000_000);
    let what = format!("{turns} turns in calls of {TURNS}, 500 calls at once, a month, 5 campaigns; with starts and ends");
    report.section("rebuild", what, "events/s");
    let log = ground.log().await;
    let company = Company::default();
    company.price(&log.store).await;
    let begun = Instant::now();
    fill(&log.store, &company, turns / TURNS).await;
    let events = turns / TURNS * CALL_EVENTS + 1;
    println!("  filled in {:.0?}", begun.elapsed());
    sqlx::raw_sql("vacuum analyze events").execute(&log.database.pool).await.unwrap();
    let names = ["call_metrics", "cost_rollups"];
    let (mut drained, mut rebuilt) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        drained.push(rate(events, drain(log.store.clone(), events)).await);
        for (name, rates) in names.iter().zip(&mut rebuilt) {
            rates.push(rate(events, rebuild(log.database.pool.clone(), log.store.clone(), name)).await);
        }
    }
    report.figure("read and decoded, nothing else", &drained);
    report.figure("one `insert … select … group by` inside PostgreSQL", &[in_postgres(&log, events).await]);
    for (name, rates) in names.iter().zip(&rebuilt) {
        report.figure(format!("{name} rebuilt"), rates);
        let single = one_at_a_time(&log, by_name(name).unwrap()).await;
        report.figure(format!("{name}, one transaction per event, the first {SINGLE_EVENTS}"), &[single]);
        report.ratio(format!("{name} to only reading and decoding"), rates, &drained, Goal::AtLeast(0.55));
        report.ratio(format!("{name} to one transaction per event"), rates, &[single; ROUNDS], Goal::AtLeast(20.0));
    }
    log.drop().await;
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
async fn rate<T: Send + 'static>(events: i64, work: impl Future<Output = T> + Send + 'static) -> f64 {
    let begun = Instant::now();
    tokio::spawn(work).await.unwrap();
    events as f64 / begun.elapsed().as_secs_f64()
}

async fn drain(store: EventStore, events: i64) {
    let mut subscription = store.subscribe(0);
    while subscription.position() < events {
        for event in subscription.next(Duration::from_secs(1)).await.unwrap() {
            std::hint::black_box(Recorded::decode(&event).unwrap());
        }
    }
}

async fn rebuild(pool: Pool, store: EventStore, name: &'static str) {
    let holder = Uuid::now_v7();
    let rebuild = Rebuild::begin(&pool, &store, by_name(name).unwrap(), holder, Purpose::Rebuild).await.unwrap();
    rebuild.run(|_| ()).await.unwrap();
}

/// A simpler fold than the platform's: sums per call.
async fn in_postgres(log: &Log, events: i64) -> f64 {
    let sql = "create unlogged table folded as
               select company_id, stream, count(*) as events, sum((payload ->> 'llm_input_tokens')::bigint) as tokens,
                      sum((payload ->> 'stt_duration_sec')::numeric) as seconds, max((payload ->> 'latency_llm_us')::bigint) as slowest
                 from events group by 1, 2;
               drop table folded";
    let pool = log.database.pool.clone();
    rate(events, async move {
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    })
    .await
}

/// One transaction per event, with its checkpoint: a projector without optimization.
#[expect(clippy::cast_precision_loss, reason = "a rate")]
async fn one_at_a_time(log: &Log, projection: Arc<dyn Projection>) -> f64 {
    let mut db = log.database.pool.acquire().await.unwrap();
    for table in projection.tables() {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("truncate {}", table.name))).execute(&mut *db).await.unwrap();
    }
    let events: Vec<_> =
        log.store.read_page(0, SINGLE_EVENTS).await.unwrap().iter().map(|event| Recorded::decode(event).unwrap()).collect();
    let begun = Instant::now();
    for event in &events {
        let mut tx = db.begin().await.unwrap();
        projection.apply(&mut tx, &[event]).await.unwrap();
        let sql = "update projection_checkpoints set position = $2, updated_at = clock_timestamp() where name = $1";
        sqlx::query(sql).bind(projection.name()).bind(event.position).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    SINGLE_EVENTS as f64 / begun.elapsed().as_secs_f64()
}
