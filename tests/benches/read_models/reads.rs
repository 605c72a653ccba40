//! Single-row reads over HTTP, compared with a bare axum handler that runs the same query, before and after the log has grown; and the
//! memory of the process during a rebuild of the long log.

use eventstore::Pool;
use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::get as route};
use projections::call_tasks::campaign_stats;
use serde_json::{Value, json};
use support::{
    Client, MASTER_KEY,
    bench::{
        Goal, Ground, Log, Report,
        load::{Connection, get, requests_per_sec},
    },
    binary,
    calls::{CALL_EVENTS, Company, fill, persons},
};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::setting;

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 32;
const DURING: Duration = Duration::from_secs(4);
/// Number of sequential requests, to measure the cost of one.
const SEQUENTIAL: u32 = 2_000;
const SHORT_LOG: i64 = 10_000;
const MEMORY_MAX_MB: f64 = 200.0;

/// The platform in a separate process, as in production.
struct Platform {
    process: Child,
    address: SocketAddr,
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Platform {
    async fn start(ground: &Ground, log: &Log) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut command = Command::new(binary("newvoice"));
        command.args(["--listen", &address.to_string(), "--schema", &log.database.schema, "--seal-every-sec", "0"]);
        command
            .env("NEWVOICE_MASTER_KEY", MASTER_KEY)
            .env("NEWVOICE_DATA_DIR", ground.dir())
            .env_remove("DATABASE_URL")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let platform = Self { process: command.spawn().unwrap(), address };
        while reqwest::get(format!("http://{address}/readyz")).await.map_or(true, |answer| answer.status() != 200) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        platform
    }

    /// The peak memory of the process, in MB.
    fn peak_memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1_000.0
    }
}

/// The measured reads: a campaign's stats and a call's metrics, ours and bare.
struct Reads {
    ours: SocketAddr,
    bare: SocketAddr,
    /// Name, our request, bare request.
    requests: [(&'static str, String, String); 2],
}

pub async fn run(ground: &Ground, report: &mut Report) {
    let events = setting("NEWVOICE_BENCH_READ_EVENTS", 5_000_000);
    let log = ground.log().await;
    let platform = Platform::start(ground, &log).await;
    let client = admin(&platform).await;
    let campaign = client.running_campaign(100, json!({})).await.parse().unwrap();
    let company = Company {
        id: client.get("/auth/me").await["company"]["id"].as_str().unwrap().parse().unwrap(),
        campaigns: vec![campaign],
        persons: persons(),
    };
    fill(&log.store, &company, SHORT_LOG / CALL_EVENTS).await;
    caught_up(&client).await;
    let reads = Reads::new(&platform, &client, &log, &company).await;

    let what = format!("{CONNECTIONS} connections, PostgreSQL, server and client on the same machine; the log has {SHORT_LOG} events");
    report.section("reads", what, "requests/s");
    for (name, ours, bare) in &reads.requests {
        let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            of_ours.push(requests_per_sec(reads.ours, ours, CONNECTIONS, DURING).await);
            of_bare.push(requests_per_sec(reads.bare, bare, CONNECTIONS, DURING).await);
        }
        report.figure(*name, &of_ours);
        report.figure(format!("a bare axum handler with the same query as {name}"), &of_bare);
        report.ratio(format!("the bare handler, {name}"), &of_ours, &of_bare, Goal::AtLeast(0.5));
    }

    report.section("growth", format!("one request after the other, with {SHORT_LOG} events in the log and with {events}"), "µs");
    let short = reads.costs().await;
    let begun = Instant::now();
    fill(&log.store, &company, (events - SHORT_LOG) / CALL_EVENTS).await;
    println!("  filled in {:.0?}", begun.elapsed());
    caught_up(&client).await;
    println!("  all projections had it after {:.0?}", begun.elapsed());
    sqlx::raw_sql("analyze").execute(&log.database.pool).await.unwrap();
    let long = reads.costs().await;
    for (((name, ..), short), long) in reads.requests.iter().zip(&short).zip(&long) {
        report.figure(format!("{name}, short log"), short);
        report.figure(format!("{name}, long log"), long);
        report.ratio(format!("the short log, {name}"), long, short, Goal::AtMost(1.2));
    }

    report.section("memory", format!("of the whole platform's process while it rebuilds projections over {events} events"), "MB");
    drop(platform);
    let platform = Platform::start(ground, &log).await;
    let client = Client::new(&format!("http://{}", platform.address), client.token.as_deref());
    for name in ["call_metrics", "cost_rollups", "call_logs"] {
        client.act(&format!("/projections/{name}/rebuild")).await.expect(202);
    }
    let begun = Instant::now();
    while client.get("/projections").await.expect(200)["items"].as_array().unwrap().iter().any(|p| p["status"] != "live") {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("  rebuilt in {:.0?}", begun.elapsed());
    let peak = [platform.peak_memory()];
    report.figure("peak", &peak);
    report.ratio("200 MB", &peak, &[MEMORY_MAX_MB], Goal::AtMost(1.0));
    drop(platform);
    log.drop().await;
}

async fn admin(platform: &Platform) -> Client {
    let nobody = Client::new(&format!("http://{}", platform.address), None);
    let body = json!({"email": "bench@example.com", "password": "correct horse", "company_name": "Bench"});
    let answer = nobody.post("/auth/register", &body).await.expect(201);
    nobody.signed_in(&answer)
}

/// Waits until no projection lags behind.
async fn caught_up(client: &Client) {
    loop {
        let projections = client.get("/projections").await.expect(200);
        if projections["items"].as_array().unwrap().iter().all(|p| p["lag_events"] == 0 && p["status"] == "live") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Reads {
    async fn new(platform: &Platform, client: &Client, log: &Log, company: &Company) -> Self {
        let call: Uuid = sqlx::query_scalar("select call_id from call_metrics limit 1").fetch_one(&log.database.pool).await.unwrap();
        let campaign = company.campaigns[0];
        let token = client.token.as_deref();
        Self {
            ours: platform.address,
            bare: bare_server(Bare { pool: log.database.pool.clone(), company: company.id, campaign, call }).await,
            requests: [
                ("campaign stats", get(&format!("/api/v1/campaigns/{campaign}/stats"), token), get("/stats", None)),
                ("call metrics", get(&format!("/api/v1/analytics/calls/{call}/metrics"), token), get("/metrics", None)),
            ],
        }
    }

    /// Median duration of our requests in microseconds, by round.
    async fn costs(&self) -> Vec<Vec<f64>> {
        let mut costs = vec![Vec::new(); self.requests.len()];
        let mut connection = Connection::open(self.ours).await;
        for _ in 0..ROUNDS {
            for ((_, request, _), costs) in self.requests.iter().zip(&mut costs) {
                let mut times = Vec::new();
                for _ in 0..SEQUENTIAL {
                    let begun = Instant::now();
                    connection.ask(request).await;
                    times.push(begun.elapsed().as_secs_f64() * 1e6);
                }
                costs.push(support::bench::median(&times));
            }
        }
        costs
    }
}

struct Bare {
    pool: Pool,
    company: Uuid,
    campaign: Uuid,
    call: Uuid,
}

/// A server with only the query and its row as JSON: no token, no waiting, no content negotiation.
async fn bare_server(bare: Bare) -> SocketAddr {
    async fn stats(State(bare): State<Arc<Bare>>) -> Json<Value> {
        let row = campaign_stats(&mut bare.pool.acquire().await.unwrap(), bare.company, bare.campaign).await.unwrap().unwrap();
        Json(json!({
            "pending": row.pending, "in_progress": row.in_progress, "retry": row.retry, "completed": row.completed, "failed": row.failed,
            "cancelled": row.cancelled, "success": row.success, "fail": row.fail, "voicemail": row.voicemail, "no_answer": row.no_answer,
            "busy": row.busy, "attempts": row.attempts, "first_attempt_at": row.first_attempt_at, "last_attempt_at": row.last_attempt_at,
            "ended_count": row.ended_count, "duration_sec": row.duration_sec, "cost_total": row.cost_total,
        }))
    }
    async fn metrics(State(bare): State<Arc<Bare>>) -> Json<Value> {
        let (row, costs) = projections::call_metrics::get_with_costs(&mut bare.pool.acquire().await.unwrap(), bare.company, bare.call)
            .await
            .unwrap()
            .unwrap();
        Json(json!({
            "call_id": row.call_id, "turn_count": row.turn_count, "interruption_count": row.interruption_count,
            "stt_duration_sec": row.stt_duration_sec, "llm_input_tokens": row.llm_input_tokens, "llm_output_tokens": row.llm_output_tokens,
            "tts_characters": row.tts_characters, "ttfb_stt_us": row.ttfb_stt_us, "latency_llm_us": row.latency_llm_us,
            "ttfb_tts_us": row.ttfb_tts_us, "eou_latency_us": row.eou_latency_us, "duration_sec": row.duration_sec,
            "outcome": row.outcome, "cost_total": costs.total(),
        }))
    }
    let router = Router::new().route("/stats", route(stats)).route("/metrics", route(metrics)).with_state(Arc::new(bare));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}
