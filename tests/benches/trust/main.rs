//! The costs of confining companies and of encrypting personal data, as ratios to the same work without it.
//!
//! `cargo bench -p newvoice-tests --bench trust` writes `docs/benchmarks/trust.json` and `.md`; `-- confined personal` selects scenarios.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has nothing to report")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::get as route};
use domain::call::{Call, CallEvent, Turn};
use eventstore::{CommandContext, ExpectedVersion, Pool, database::Access, now};
use projections::{Feed, Positions, Projectors, all, call_metrics};
use serde_json::{Value, json};
use support::{
    bench::{
        Goal, Ground, Log, Report,
        load::{get, requests_per_sec},
    },
    calls::{Company, fill, persons, turn},
};
use tokio::{net::TcpListener, sync::watch};
use uuid::Uuid;

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 32;
const DURING: Duration = Duration::from_secs(3);
const WRITERS: usize = 64;
const CALLS: i64 = 2_000;
/// Number of turns of one call.
const TURNS: i64 = 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let ground = Ground::prepare().await;
    let mut report = Report::new("trust", "Trust, measured", "");
    if is_wanted("confined") {
        confined(&ground, &mut report).await;
    }
    if is_wanted("personal") {
        personal(&ground, &mut report).await;
    }
    report.write(&ground).await;
}

/// A call's metrics and costs, read as the owner, and as the API's role, which sets the company first.
#[derive(Clone)]
struct Reader {
    owner: Pool,
    access: Access,
    company: Uuid,
    call: Uuid,
}

async fn confined(ground: &Ground, report: &mut Report) {
    let log = ground.log().await;
    let company = Company::default();
    company.price(&log.store).await;
    fill(&log.store, &company, CALLS).await;
    project(&log).await;
    let pool = &log.database.pool;
    sqlx::raw_sql("analyze").execute(pool).await.unwrap();
    let call = sqlx::query_scalar("select call_id from call_metrics limit 1").fetch_one(pool).await.unwrap();
    let reader = Reader { owner: pool.clone(), access: log.database.access.clone(), company: company.id, call };
    let address = serve(reader).await;
    report.section(
        "confined",
        format!("a call's metrics and costs over HTTP, {CONNECTIONS} connections, nothing else around them"),
        "requests/s",
    );
    let (mut confined, mut open) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        open.push(requests_per_sec(address, &get("/open", None), CONNECTIONS, DURING).await);
        confined.push(requests_per_sec(address, &get("/confined", None), CONNECTIONS, DURING).await);
    }
    report.figure("confined by row-level security", &confined);
    report.figure("as the owner, without", &open);
    report.ratio("the read without row-level security", &confined, &open, Goal::AtLeast(0.75));
    log.drop().await;
}

async fn project(log: &Log) {
    let positions = Positions::default();
    let (stop, stopped) = watch::channel(false);
    let (pool, owner) = (log.database.access.work.clone(), log.database.pool.clone());
    let projectors = Projectors { projections: all(), pool, owner, feed: Feed::new(log.store.clone()), positions: positions.clone() };
    let running = tokio::spawn(projectors.run(stopped));
    let models: Vec<_> = all().iter().map(|projection| projection.read_model()).collect();
    positions.reached(&models, log.store.head().position(), Duration::from_secs(120)).await.unwrap();
    stop.send(true).unwrap();
    running.await.unwrap();
}

async fn serve(reader: Reader) -> SocketAddr {
    async fn open(State(reader): State<Arc<Reader>>) -> Json<Value> {
        read(&mut reader.owner.acquire().await.unwrap(), &reader).await
    }
    async fn confined(State(reader): State<Arc<Reader>>) -> Json<Value> {
        read(&mut reader.access.company_by_key(reader.company).await.unwrap(), &reader).await
    }
    async fn read(db: &mut sqlx::PgConnection, reader: &Reader) -> Json<Value> {
        let (row, costs) = call_metrics::get_with_costs(db, reader.company, reader.call).await.unwrap().unwrap();
        Json(json!({"call_id": row.call_id, "turn_count": row.turn_count, "ttfb_stt_us": row.ttfb_stt_us, "cost_total": costs.total()}))
    }
    let router = Router::new().route("/open", route(open)).route("/confined", route(confined)).with_state(Arc::new(reader));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn personal(ground: &Ground, report: &mut Report) {
    let what = format!("{WRITERS} writers, each recording the turns of one call after the other, {TURNS} a call");
    report.section("personal", what, "turns/s");
    let (mut encrypted, mut clear) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        clear.push(turns_per_sec(ground, |turn| turn).await);
        encrypted.push(turns_per_sec(ground, concealed).await);
    }
    report.figure("what was said is encrypted with the person's key", &encrypted);
    report.figure("the same text in a field that is not personal", &clear);
    report.ratio("recording in clear", &encrypted, &clear, Goal::AtLeast(0.85));
}

/// A turn whose two texts are in fields that are not encrypted.
fn clear_turn(index: i64, rng: &mut rand::rngs::StdRng) -> Turn {
    let turn = turn(index, now(), rng);
    let (said, answered) = (turn.user_text.clone().unwrap().into_inner(), turn.agent_text.clone().unwrap().into_inner());
    Turn { user_text: None, agent_text: None, stt_provider: Some(said), llm_model: Some(answered), ..turn }
}

/// The same turn with the texts in the encrypted fields.
fn concealed(turn: Turn) -> Turn {
    Turn {
        user_text: turn.stt_provider.map(Into::into),
        agent_text: turn.llm_model.map(Into::into),
        stt_provider: None,
        llm_model: None,
        ..turn
    }
}

async fn turns_per_sec(ground: &Ground, made: fn(Turn) -> Turn) -> f64 {
    let log = ground.log().await;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let company = Uuid::now_v7();
    let persons = Arc::new(persons());
    let writers = (0..WRITERS).map(|writer| {
        let (store, stop, count, persons) = (log.store.clone(), Arc::clone(&stop), Arc::clone(&count), Arc::clone(&persons));
        tokio::spawn(async move {
            let context = CommandContext::system(company, "bench", now());
            let mut rng = rand::SeedableRng::seed_from_u64(writer as u64);
            for n in writer.. {
                let call = Uuid::now_v7();
                for version in 0..TURNS {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let expected = if version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(version) };
                    let event = CallEvent::TurnRecorded(Box::new(made(clear_turn(version, &mut rng))));
                    let mut unit = store.unit(&context);
                    unit.push::<Call>(call, persons[n % persons.len()], expected, &[event]).await.unwrap();
                    unit.commit().await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    tokio::time::sleep(DURING / 4).await;
    let (begun, before) = (Instant::now(), count.load(Ordering::Relaxed));
    tokio::time::sleep(DURING).await;
    let rate = (count.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    log.drop().await;
    rate
}
