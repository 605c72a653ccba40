use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use support::{Client, Platform, binary};

use crate::campaigns::until;

const EMAIL: &str = "demo@example.com";
const PASSWORD: &str = "demo-demo-demo";

/// The demo on its embedded PostgreSQL, as a user starts it.
fn start(newvoice: &Path, dir: &Path, port: u16) -> Child {
    let mut command = Command::new(newvoice);
    command.args(["demo", "--listen", &format!("127.0.0.1:{port}"), "--simulator-speed", "60"]).env("NEWVOICE_DATA_DIR", dir);
    command.env_remove("DATABASE_URL").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A client of the demo company, as soon as the demo answers.
async fn log_in(port: u16) -> Client {
    let nobody = Client::new(&format!("http://127.0.0.1:{port}"), None);
    for _ in 0..600 {
        let request = nobody.request(reqwest::Method::POST, "/auth/login").json(&json!({"email": EMAIL, "password": PASSWORD}));
        if let Ok(response) = request.send().await
            && response.status() == 200
        {
            let body: serde_json::Value = response.json().await.unwrap();
            return nobody.with_token(body["token"].as_str().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the demo never answered");
}

async fn events(client: &Client) -> Vec<serde_json::Value> {
    let mut events: Vec<serde_json::Value> = Vec::new();
    loop {
        let page = client.get(&format!("/events?limit=200&after={}", events.len())).await.expect(200);
        let items = page["items"].as_array().unwrap();
        events.extend(items.iter().cloned());
        if page["next_cursor"].is_null() {
            return events;
        }
    }
}

fn replay_tool(tool: &Path, dir: &Path, args: &[&str]) {
    let output = Command::new(tool).args(args).env("NEWVOICE_DATA_DIR", dir).env_remove("DATABASE_URL").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}");
}

/// The demo is killed while it works and continues after a restart: no acknowledged event is lost, no attempt is dialed twice, and the log
/// and every read model are valid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_killed_goes_on_after_a_restart() {
    let (newvoice, tool) = (binary("newvoice"), binary("replay-tool"));
    let dir = tempfile::Builder::new().prefix("nvd").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut acknowledged: Vec<serde_json::Value> = Vec::new();
    for round in 0..3 {
        let mut process = start(&newvoice, dir.path(), port);
        let client = log_in(port).await;
        let campaign = until(&client, "/campaigns?status=running", "/items/0/status", json!("running")).await["items"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        client.put(&format!("/campaigns/{campaign}"), &json!({"calls_per_minute": 10_000, "max_concurrent_calls": 4})).await.expect(200);
        let seen = events(&client).await;
        assert!(seen.len() >= acknowledged.len(), "events are missing after restart {round}");
        assert_eq!(seen[..acknowledged.len()], acknowledged[..], "what was seen before is there unchanged");
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        acknowledged = events(&client).await;
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let mut process = start(&newvoice, dir.path(), port);
    let client = log_in(port).await;
    let campaign = client.get("/campaigns").await.expect(200)["items"][0].clone();
    assert_eq!(campaign["total_tasks"], 200);
    // Attempts that the kill interrupted are released when their leases expire; then the campaign continues.
    let claims = |events: &[serde_json::Value]| events.iter().filter(|e| e["event_type"] == "TaskClaimed").count();
    let mut after = events(&client).await;
    let before = claims(&after);
    for _ in 0..60 {
        if claims(&after) > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        after = events(&client).await;
    }
    assert!(claims(&after) > before, "the campaign goes on");
    // Each attempt has one call and each call was dialed once: the attempt numbers of a task do not repeat.
    let mut attempts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut calls = HashSet::new();
    for event in after.iter().filter(|e| e["event_type"] == "TaskClaimed") {
        attempts.entry(event["stream"].as_str().unwrap().to_owned()).or_default().push(event["payload"]["attempt"].as_i64().unwrap());
        assert!(calls.insert(event["payload"]["call_id"].as_str().unwrap().to_owned()));
    }
    assert!(attempts.values().all(|numbers| numbers.iter().copied().eq(1..=i64::try_from(numbers.len()).unwrap())));
    let dialed: Vec<_> = after
        .iter()
        .filter(|e| e["event_type"] == "CallDialed")
        .map(|e| e["stream"].as_str().unwrap()["call-".len()..].to_owned())
        .collect();
    assert_eq!((dialed.len(), dialed.into_iter().collect::<HashSet<_>>()), (calls.len(), calls));
    replay_tool(&tool, dir.path(), &["verify"]);
    replay_tool(&tool, dir.path(), &["compare", "all"]);
    Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(process.wait().unwrap().success(), "it stops when it is told to");
    assert!(!dir.path().join("postgres/postmaster.pid").exists(), "its PostgreSQL stops with it");
}

/// The embedded PostgreSQL is killed under a running platform: requests get 503, then it is restarted and no data is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_server_that_is_killed_is_started_again() {
    let newvoice = binary("newvoice");
    let dir = tempfile::Builder::new().prefix("nve").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut process = start(&newvoice, dir.path(), port);
    let client = log_in(port).await;
    until(&client, "/campaigns?status=running", "/items/0/status", json!("running")).await;
    let body = json!({"direction": "inbound", "phone_number": "+12025550100"});
    let call = client.post("/calls", &body).await.expect(201).id();
    let pid = std::fs::read_to_string(dir.path().join("postgres/postmaster.pid")).unwrap().lines().next().unwrap().to_owned();
    Command::new("kill").args(["-9", &pid]).status().unwrap();
    let mut recovered = false;
    for _ in 0..300 {
        // The old server may have completed requests that it had begun while the new one starts: only a new request shows that the new one
        // is running.
        let restarted =
            std::fs::read_to_string(dir.path().join("postgres/postmaster.pid")).is_ok_and(|text| text.lines().next() != Some(&pid));
        let (made, found) = (client.post("/calls", &body).await, client.get(&format!("/calls/{call}")).await);
        assert!([201, 503].contains(&made.status) && [200, 503].contains(&found.status), "{made:?} {found:?}");
        recovered = restarted && made.status == 201 && found.status == 200;
        if recovered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(recovered, "the platform never recovered");
    Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(process.wait().unwrap().success());
}

/// PostgreSQL stops and is restarted: requests get 503 meanwhile, then the platform recovers automatically.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_is_503_and_passes() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let admin_url = platform.database_url.rsplit_once('/').map(|(server, _)| format!("{server}/postgres")).unwrap();
    let name = platform.database_url.rsplit_once('/').unwrap().1.to_owned();
    let server = sqlx::PgPool::connect(&admin_url).await.unwrap();
    let sql = |text: String| {
        let server = server.clone();
        async move { sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&server).await.unwrap() }
    };
    sql(format!("alter database {name} allow_connections false")).await;
    sql(format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")).await;
    let statuses = futures::future::join_all((0..6).map(|i| {
        let admin = &admin;
        async move {
            if i % 2 == 0 {
                admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await
            } else {
                admin.get("/campaigns").await
            }
        }
    }))
    .await;
    for answer in statuses {
        assert!(answer.status == 503 && answer.header("retry-after").is_some(), "{answer:?}");
    }
    sql(format!("alter database {name} allow_connections true")).await;
    for _ in 0..200 {
        let answer = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await;
        if answer.status == 201 && admin.get(&format!("/campaigns/{id}")).await.status == 200 {
            return platform.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the platform never recovered");
}
