//! Connections to the database: each purpose has its own, the server ends what takes too long, and clients without a credential cause few
//! statements. What `/readyz` and `/metrics` report about the projections.

use std::time::Duration;

use eventstore::Pool;
use newvoice_api::{settings::Role, state::App};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Postgres, pool::PoolConnection};
use support::{MASTER_KEY, Platform, Process, settings};

use crate::campaigns::until;

/// All connections of a pool: until they are dropped, it has none left.
async fn occupied(pool: &Pool) -> Vec<PoolConnection<Postgres>> {
    occupied_but(pool, 0).await
}

/// The same, where others hold some of them permanently.
async fn occupied_but(pool: &Pool, held: u32) -> Vec<PoolConnection<Postgres>> {
    let mut connections = Vec::new();
    for _ in held..pool.max_size() {
        connections.push(pool.acquire().await.unwrap());
    }
    connections
}

/// Waits until a condition holds; fails after a generous time.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "not within a minute: {what}");
}

#[tokio::test]
async fn commands_are_answered_while_reads_use_all_their_connections() {
    let platform = Platform::start().await;
    let (admin, access) = (platform.admin().await, &platform.app().access);
    let campaign = admin.running_campaign(1, json!({})).await;
    let mut reads = Vec::new();
    for _ in 0..access.reads_max() {
        reads.push(access.begin_with(None, "begin").await.unwrap());
    }
    let history = occupied(&access.history).await;
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0})).await.expect(201);
    admin.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 9})).await.expect(200);
    admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    drop((reads, history));
    platform.stop().await;
}

#[tokio::test]
async fn reads_and_histories_are_answered_while_commands_use_all_their_connections() {
    let platform = Platform::start().await;
    let (admin, access) = (platform.admin().await, &platform.app().access);
    let campaign = admin.campaign(json!({})).await;
    admin.get("/campaigns").await.expect(200);
    let held = (occupied(&access.commands).await, occupied(&access.claims).await);
    admin.get("/campaigns").await.expect(200);
    admin.get(&format!("/campaigns/{campaign}/history")).await.expect(200);
    admin.get(&format!("/campaigns/{campaign}?as_of={}", support::present())).await.expect(200);
    admin.get("/events?category=campaign").await.expect(200);
    drop(held);
    platform.stop().await;
}

/// Claims over the API have connections of their own; the platform's dialer uses those of the platform's own work.
#[tokio::test]
async fn claims_over_the_api_and_the_platforms_own_work_do_not_wait_for_each_other() {
    let platform = Platform::start().await;
    let (admin, access) = (platform.admin().await, &platform.app().access);
    let campaign = admin.running_campaign(1, json!({})).await;
    admin.get(&format!("/campaigns/{campaign}/stats")).await.expect(200);
    // The projections keep one, and after a page of many events two.
    let mut work = occupied_but(&access.work, 2).await;
    let left = tokio::time::timeout(Duration::from_secs(1), access.work.acquire()).await;
    work.extend(left.into_iter().map(Result::unwrap));
    admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    drop(work);
    let claims = occupied(&access.claims).await;
    let other = platform.admin().await;
    let dialed = other.running_campaign(1, json!({"dialed_by": "simulator", "max_retries": 1})).await;
    until(&other, &format!("/campaigns/{dialed}"), "/status", json!("completed")).await;
    drop(claims);
    platform.stop().await;
}

/// The role of a session, and after how long the server ends a statement, an idle transaction, and a statement whose client is gone.
async fn deadlines(db: &mut PgConnection) -> (String, String, String, String) {
    let settings = "select current_user::text, current_setting('statement_timeout'),
                           current_setting('idle_in_transaction_session_timeout'), current_setting('client_connection_check_interval')";
    sqlx::query_as(settings).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn the_server_ends_what_takes_too_long_on_the_connections_of_every_purpose() {
    let platform = Platform::start().await;
    let access = &platform.app().access;
    let mut reads = access.begin_with(None, "begin").await.unwrap();
    let mut found = vec![("app", deadlines(&mut reads).await)];
    drop(reads);
    for (role, pool) in [
        ("log", &access.history),
        ("identity", &access.identity),
        ("log", &access.commands),
        ("work", &access.claims),
        ("work", &access.work),
    ] {
        let mut connection = pool.acquire().await.unwrap();
        found.push((role, deadlines(&mut connection).await));
    }
    for (role, (user, of_statement, of_idle_transaction, of_lost_client)) in found {
        assert!(user.contains(&format!("_{role}_")), "{user} is not the role {role}");
        assert_eq!((&*of_statement, &*of_idle_transaction, &*of_lost_client), ("30s", "10s", "250ms"), "{user}");
    }
    platform.stop().await;
}

/// The platform gives a read up before the server would end its statement.
#[tokio::test]
async fn a_read_that_takes_too_long_is_answered() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    admin.get("/campaigns").await.expect(200);
    let mut owner = PgConnection::connect(&platform.database_url).await.unwrap();
    let mut lock = owner.begin().await.unwrap();
    sqlx::raw_sql("lock table newvoice.campaigns in access exclusive mode").execute(&mut *lock).await.unwrap();
    let given_up = admin.get("/campaigns").await.problem(503);
    assert_eq!(given_up["detail"], "the request took too long");
    lock.rollback().await.unwrap();
    admin.get("/campaigns").await.expect(200);
    platform.stop().await;
}

/// A database whose read models have been projected, and no process that projects.
async fn projected_database() -> String {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    admin.campaign(json!({})).await;
    for path in ["/company", "/campaigns", "/analytics/overview"] {
        admin.get(path).await.expect(200);
    }
    let url = platform.database_url.clone();
    platform.stop().await;
    url
}

/// How often a table was scanned, by its indexes or as a whole.
async fn scans(app: &App, table: &str) -> i64 {
    // Otherwise a session reports its scans some seconds later.
    for connection in &mut occupied(&app.access.work).await {
        sqlx::query("select pg_stat_force_next_flush()").execute(&mut **connection).await.unwrap();
    }
    let count = "select (seq_scan + coalesce(idx_scan, 0))::bigint from pg_stat_user_tables where relname = $1";
    sqlx::query_scalar(count).bind(table).fetch_one(&app.owner).await.unwrap()
}

/// The states of projections and workers are read once per second, whatever the number of clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_without_a_credential_cause_few_statements() {
    let mut only_api = settings(&projected_database().await);
    only_api.roles = vec![Role::Api];
    let platform = Platform::start_with(only_api).await;
    let (app, http) = (platform.app(), reqwest::Client::new());
    // In a process without projectors and workers, nothing else scans these tables.
    for (path, table) in [("/readyz", "projection_rebuilds"), ("/metrics", "workers")] {
        let ask = || {
            let request = http.get(format!("{}{path}", platform.base()));
            async move { request.send().await.unwrap().status().as_u16() }
        };
        let before = scans(app, table).await;
        assert_eq!(ask().await, 200, "{path}");
        let after_one = scans(app, table).await;
        assert!(after_one > before, "{path} reads {table}");
        let statuses = futures::future::join_all((0..200).map(|_| ask())).await;
        assert!(statuses.iter().all(|status| *status == 200), "{path}: {statuses:?}");
        let (of_one, of_many) = (after_one - before, scans(app, table).await - after_one);
        // The fifty allow for a machine that takes most of a minute to answer.
        assert!(of_many < 50 * of_one, "{path}: {of_many} scans of {table} for 200 requests, {of_one} for one");
    }
    platform.stop().await;
}

/// A process that only answers requests. The metrics of a process need a process of their own: their recorder is global.
async fn api_process(url: &str) -> Process {
    let process = Process::start(|command| {
        command.args(["--roles", "api", "--registration", "open"]).env("DATABASE_URL", url).env("NEWVOICE_MASTER_KEY", MASTER_KEY);
    });
    process.await
}

async fn readiness(base: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("{base}/readyz")).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The value of a metric; `None` if the metrics do not have it.
async fn metric(base: &str, name: &str) -> Option<f64> {
    let text = reqwest::get(format!("{base}/metrics")).await.unwrap().text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// A projection that has stopped needs an operator. One that is behind serves what it has, and the metrics show how far it is behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_readiness_names_stopped_projections_and_metrics_show_the_lag() {
    let url = projected_database().await;
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let stop = "update newvoice.projection_checkpoints set error = 'stopped for a test', error_position = 1 where name = 'companies'";
    sqlx::raw_sql(stop).execute(&mut owner).await.unwrap();
    // Its first company's events are not projected yet.
    let process = api_process(&url).await;
    let base = process.client.base.as_str();
    let stopped = json!([{"part": "projection", "name": "companies", "reason": "stopped at an event", "position": 1}]);
    let (status, body) = readiness(base).await;
    assert_eq!((status, &body["not_ready"]), (503, &stopped));
    let resume = "update newvoice.projection_checkpoints set error = null, error_position = null where name = 'companies'";
    sqlx::raw_sql(resume).execute(&mut owner).await.unwrap();
    eventually("ready", async || readiness(base).await.0 == 200).await;
    let lag = r#"newvoice_projection_lag_seconds{projection="companies"}"#;
    eventually("behind", async || metric(base, lag).await.is_some_and(|seconds| seconds > 1.0)).await;
    assert_eq!(readiness(base).await.0, 200);
    let mut projectors = settings(&url);
    projectors.roles = vec![Role::Projectors];
    let projectors = Platform::start_with(projectors).await;
    eventually("caught up", async || metric(base, lag).await == Some(0.0)).await;
    assert_eq!(readiness(base).await.0, 200);
    projectors.stop().await;
}

/// Without this metric, an alarm on the lag would be silent exactly when the lag is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_show_whether_the_states_of_the_projections_can_be_read() {
    let url = projected_database().await;
    let process = api_process(&url).await;
    let (base, readable) = (process.client.base.as_str(), "newvoice_projections_readable");
    assert_eq!((readiness(base).await.0, metric(base, readable).await), (200, Some(1.0)));
    let mut owner = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("alter table newvoice.projection_rebuilds rename to away").execute(&mut owner).await.unwrap();
    eventually("unreadable", async || metric(base, readable).await == Some(0.0)).await;
    eventually("not ready", async || readiness(base).await.0 == 503).await;
    sqlx::raw_sql("alter table newvoice.away rename to projection_rebuilds").execute(&mut owner).await.unwrap();
    eventually("readable", async || metric(base, readable).await == Some(1.0)).await;
    eventually("ready", async || readiness(base).await.0 == 200).await;
}
