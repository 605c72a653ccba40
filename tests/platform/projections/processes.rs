//! Several processes, some of which are suspended or killed.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use eventstore::{Database, EventStore, Pool};
use newvoice_api::settings::Role;
use projections::{Projection, all, by_name, rebuild::Purpose};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use support::{
    MASTER_KEY, Platform, binary,
    calls::{Company, fill},
    new_database, seed, setting, settings,
};

use super::{content, differences};

/// Much longer than a lease: a takeover that takes longer has failed.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(120);

fn projectors(url: &str) -> Child {
    let mut command = Command::new(binary("newvoice"));
    command
        .args(["--roles", "projectors"])
        .env("DATABASE_URL", url)
        .env("NEWVOICE_MASTER_KEY", MASTER_KEY)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn signal(process: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
}

/// Number of processes that have connections to the database, by their names.
async fn connected_processes(pool: &Pool) -> i64 {
    let sql = "select count(distinct split_part(application_name, ' ', 2)) from pg_stat_activity
                where datname = current_database() and application_name like 'newvoice %'";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn holders(pool: &Pool) -> Vec<Option<uuid::Uuid>> {
    sqlx::query_scalar("select holder from projection_checkpoints order by name").fetch_all(pool).await.unwrap()
}

/// One process is suspended for longer than its leases last, and the other takes over; then the first one is resumed and believes for a
/// moment that it still has the leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_counts_nothing_twice() {
    let platform = Platform::start_with({
        let mut settings = settings(&new_database().await);
        settings.roles = vec![Role::Api];
        settings
    })
    .await;
    let (admin, pool, store) = (platform.admin().await, platform.app().owner.clone(), platform.app().store.clone());
    let first = projectors(&platform.database_url);
    while !holders(&pool).await.iter().all(Option::is_some) || holders(&pool).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut processes = [first, projectors(&platform.database_url)];
    // The second process has no work; its connections show that it is running.
    let both_there = async {
        while connected_processes(&pool).await < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TAKEOVER_TIMEOUT, both_there).await.expect("the second process connects");
    let mut turns = 0;
    for round in 0..4 {
        let still = &processes[round % 2];
        let before = holders(&pool).await;
        signal(still, "-STOP");
        // There is work during the whole time, so that the resumed process has a page in memory. The takeover is complete when all leases
        // have another holder.
        let began = tokio::time::Instant::now();
        while holders(&pool).await.iter().zip(&before).any(|(now, before)| now == before) {
            assert!(began.elapsed() < TAKEOVER_TIMEOUT, "the other process never took over");
            let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
            let some: Vec<_> = (0..5).map(|i| json!({"turn_index": i, "stt_duration_sec": 1, "ttfb_stt_ms": 100 + i})).collect();
            admin.post(&format!("/calls/{call}/turns"), &json!(some)).await.expect(201);
            turns += 5;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        signal(still, "-CONT");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let totals = admin.get("/analytics/metrics").await.expect(200)["totals"].clone();
    assert_eq!(totals["turn_count"], turns);
    for process in &mut processes {
        signal(process, "-TERM");
        assert!(process.wait().unwrap().success());
    }
    for projection in all() {
        let name = projection.name();
        assert!(differences(&pool, &store, projection, Purpose::Compare).await.is_empty(), "{name}");
    }
    platform.stop().await;
}

/// `replay-tool rebuild` is killed at random moments. Each run continues where the previous one stopped, and in the end the tables are
/// equal to the original ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_is_killed_goes_on_and_ends_equal() {
    let tool = binary("replay-tool");
    let url = new_database().await;
    let platform = Platform::start_on(&url).await;
    let company = Company::default();
    company.price(&platform.app().store).await;
    fill(&platform.app().store, &company, 5_000).await;
    let head = platform.app().store.last_position().await.unwrap();
    platform
        .app()
        .services
        .positions
        .reached(&[projections::call_metrics::READ_MODEL, projections::cost_rollups::READ_MODEL], head, Duration::from_secs(120))
        .await
        .unwrap();
    // No other process may continue an abandoned rebuild.
    platform.stop().await;
    let database = Database::open(&settings(&url).store.database(Some(support::master_key()))).await.unwrap();
    let (pool, store) = (database.pool.clone(), EventStore::open(&database));
    let mut rng = StdRng::seed_from_u64(seed());
    for name in ["call_metrics", "cost_rollups"] {
        let projection = by_name(name).unwrap();
        let expected = content(&pool, projection.as_ref()).await;
        let (mut at, mut resumed) = (0, 0);
        for _ in 0..setting("NEWVOICE_TEST_REBUILD_KILLS", 4) {
            let mut process = Command::new(&tool).args(["rebuild", name]).env("DATABASE_URL", &url).spawn().unwrap();
            // At a random moment, but not before it has made progress.
            while position(&pool, name).await.is_none_or(|now| now <= at) && process.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
            process.kill().unwrap();
            process.wait().unwrap();
            let Some(now) = position(&pool, name).await else { break };
            assert!(now >= at, "what was done is not done again");
            resumed += usize::from(at > 0);
            at = now;
            // Until the lease of the killed process expires, the next run would report that a rebuild is in progress.
            let expire = "update projection_rebuilds set lease_until = '-infinity' where name = $1";
            sqlx::query(expire).bind(name).execute(&pool).await.unwrap();
        }
        println!("{name}: at {at} of {head}, resumed {resumed} times");
        assert!(at > 0, "no rebuild was killed on its way");
        let last = Command::new(&tool).args(["rebuild", name]).env("DATABASE_URL", &url).output().unwrap();
        assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
        assert_eq!(content(&pool, projection.as_ref()).await, expected);
        assert!(differences(&pool, &store, projection, Purpose::Compare).await.is_empty());
        // A restore of the earlier tables, which are equally valid.
        let back = Command::new(&tool).args(["restore", name]).env("DATABASE_URL", &url).output().unwrap();
        assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
        let projection = by_name(name).unwrap();
        assert_eq!(content(&pool, projection.as_ref()).await, expected);
        assert_eq!(indexes(&pool, projection.as_ref()).await, indexes_of_new_tables(projection.as_ref()).await);
    }
}

/// Position of the next tables.
async fn position(pool: &Pool, name: &str) -> Option<i64> {
    let sql = "select position from projection_rebuilds where name = $1";
    sqlx::query_scalar::<_, Option<i64>>(sql).bind(name).fetch_optional(pool).await.unwrap().flatten()
}

async fn indexes(pool: &Pool, projection: &dyn Projection) -> Vec<String> {
    let tables: Vec<_> = projection.tables().iter().map(|table| table.name.to_owned()).collect();
    let sql = "select indexdef from pg_indexes where schemaname = current_schema() and tablename = any($1) order by indexname";
    sqlx::query_scalar(sql).bind(tables).fetch_all(pool).await.unwrap()
}

/// The indexes in a database in which no projection was ever rebuilt.
async fn indexes_of_new_tables(projection: &dyn Projection) -> Vec<String> {
    let database = Database::open(&settings(&new_database().await).store.database(Some(support::master_key()))).await.unwrap();
    indexes(&database.pool, projection).await
}
