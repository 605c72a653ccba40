//! The data of an erased person is in no place any more: not in a table, the log, an export or a log file, before and after a complete
//! rebuild.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use support::{Client, Platform, Process, binary};

const NUMBER: &str = "+12025550142";
/// Words and names of this person only; and those of another person, of whom no data may be lost.
const WORDS: &str = "quetzalcoatlus";
const OTHER_WORDS: &str = "archaeopteryx";

/// The platform as in production, with its own PostgreSQL and log file in one directory.
struct Installation {
    process: Process,
    dir: tempfile::TempDir,
}

impl Installation {
    async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("nvp").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let log = std::fs::File::create(dir.path().join("newvoice.log")).unwrap();
        let process = Process::start(|command| {
            command.env("NEWVOICE_DATA_DIR", dir.path()).env("RUST_LOG", "debug,sqlx=trace").stderr(log);
        });
        Self { process: process.await, dir }
    }

    fn tool(&self, args: &[&str], with_key: bool) -> String {
        let mut command = Command::new(binary("replay-tool"));
        command.args(args).env("NEWVOICE_DATA_DIR", self.dir.path()).env_remove("DATABASE_URL");
        if !with_key {
            command.env("NEWVOICE_MASTER_KEY_FILE", "/nowhere");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every row of every table of the installation, as text.
    async fn tables(&self) -> String {
        let password = std::fs::read_to_string(self.dir.path().join("password")).unwrap();
        let pid = std::fs::read_to_string(self.dir.path().join("postgres/postmaster.pid")).unwrap();
        let url = format!("postgres://newvoice:{}@127.0.0.1:{}/newvoice", password.trim(), pid.lines().nth(3).unwrap());
        let mut db = PgConnection::connect(&url).await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(
            "select c.oid::regclass::text from pg_class c where relnamespace = 'newvoice'::regnamespace and relkind in ('r', 'p')",
        )
        .fetch_all(&mut db)
        .await
        .unwrap();
        assert!(tables.len() > 40);
        let mut all = String::new();
        for table in tables {
            let rows: Vec<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select t::text from {table} t"))).fetch_all(&mut db).await.unwrap();
            all += &rows.join("\n");
        }
        all
    }

    /// For each personal column of an export, the number of rows with `erased`; all other rows have null.
    fn erased_cells(&self) -> Vec<usize> {
        let columns = [
            ("calls", "phone_number"),
            ("call_tasks", "phone_number"),
            ("call_tasks", "error_message"),
            ("call_logs", "user_text"),
            ("call_logs", "agent_text"),
            ("call_logs", "state"),
            ("users", "email"),
        ];
        let count = |(table, column): &(&str, &str)| {
            let rows = self.tool(&["export", table], false);
            let cells: Vec<Value> = rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()[column].clone()).collect();
            assert!(!cells.is_empty() && cells.iter().all(|cell| cell.is_null() || cell == "erased"), "{table}.{column}: {cells:?}");
            cells.iter().filter(|cell| *cell == "erased").count()
        };
        columns.iter().map(count).collect()
    }

    fn exports(&self) -> String {
        let what = ["events", "calls", "call_tasks", "call_logs", "users"];
        what.iter().map(|what| self.tool(&["export", what, "--format", "csv"], true)).collect()
    }
}

/// Whether any file below `dir` holds `needle`.
fn file_with(dir: &Path, needle: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = file_with(&path, needle) {
                return Some(found);
            }
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        {
            return Some(path);
        }
    }
    None
}

/// All data about the person, as the API shows it.
async fn shown(client: &Client, campaign: &str, task: &str, call: &str) -> String {
    let mut all = String::new();
    for path in [
        format!("/campaigns/{campaign}/tasks"),
        format!("/tasks/{task}"),
        format!("/tasks/{task}/history"),
        format!("/calls/{call}"),
        format!("/calls/{call}?as_of={}", support::present()),
        format!("/calls/{call}/history"),
        format!("/analytics/calls/{call}/turns"),
        format!("/analytics/calls?phone_number=%2B{}", &NUMBER[1..]),
        "/analytics/calls".to_owned(),
        "/analytics/overview".to_owned(),
        "/events?limit=200".to_owned(),
        "/audit?limit=200".to_owned(),
    ] {
        all += &client.get(&path).await.expect(200).body.to_string();
    }
    all
}

/// A call to each of two people, with text in all fields; under idempotency keys that contain personal data, too.
async fn call_both(client: &Client) -> (String, Vec<(String, String)>) {
    let campaign = client.campaign(json!({"max_retries": 2, "retry_delay_minutes": 600})).await;
    let list = format!("phone_number,name,note\n{NUMBER},{WORDS},{WORDS}\n+12025550143,{OTHER_WORDS},{OTHER_WORDS}\n");
    client.upload(&campaign, "list.csv", list.into_bytes()).await.expect(200);
    client.act(&format!("/campaigns/{campaign}/start")).await.expect(200);
    let mut calls = Vec::new();
    for (number, words) in [(NUMBER, WORDS), ("+12025550143", OTHER_WORDS)] {
        let send = |path: String, body: Value| {
            client.send(client.request(Method::POST, &path).header("idempotency-key", format!("{number} {words}")).json(&body))
        };
        let claim = send(format!("/campaigns/{campaign}/tasks/claim"), json!({})).await.expect(200);
        let (task, call) = (claim["task"]["id"].as_str().unwrap().to_owned(), claim["call_id"].as_str().unwrap().to_owned());
        send("/calls".into(), json!({"call_id": call, "direction": "outbound", "phone_number": number})).await.expect(200);
        let said = format!("hello {words}");
        let turns =
            json!([{"turn_index": 0, "user_text": words, "agent_text": said, "state": words, "stt_duration_sec": 3, "ttfb_stt_ms": 120}]);
        send(format!("/calls/{call}/turns"), turns).await.expect(201);
        send(format!("/calls/{call}/end"), json!({"duration_sec": 30})).await.expect(200);
        send(
            format!("/tasks/{task}/fail"),
            json!({"call_id": call, "error_message": format!("{number} {words} hung up"), "outcome": "busy"}),
        )
        .await
        .expect(200);
        // A refused request contains personal data as well.
        send(format!("/calls/{call}/turns"), json!({"turn_index": 0, "user_text": format!("other {words}")})).await;
        client.get(&format!("/analytics/calls?phone_number=%2B{}&outcome={words}", &number[1..])).await.problem(400);
        calls.push((task, call));
    }
    (campaign, calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_is_found_nowhere_and_counts_and_costs_stay() {
    let installation = Installation::start().await;
    let client = &installation.process.client;
    let (campaign, calls) = call_both(client).await;
    let (task, call) = calls[0].clone();
    let (other_task, other_call) = calls[1].clone();
    let digits = &NUMBER[1..];
    // Before the erasure: the company sees all of the data, and only the API shows it.
    let before = shown(client, &campaign, &task, &call).await;
    assert!(before.matches(WORDS).count() > 8 && before.matches(digits).count() > 6, "{before}");
    assert!(installation.tool(&["history", &format!("call-{call}")], true).contains(WORDS));
    assert!(!installation.tool(&["history", &format!("call-{call}")], false).contains(WORDS), "without the key");
    let numbers = async |client: &Client| {
        let metrics = client.get("/analytics/metrics").await.expect(200).body.clone();
        let costs = client.get("/analytics/costs").await.expect(200).body.clone();
        let stats = client.get(&format!("/campaigns/{campaign}/stats")).await.expect(200).body.clone();
        (metrics, costs, stats["attempts"].clone(), stats["outcomes"].clone(), stats["cost_total"].clone())
    };
    let counted = numbers(client).await;
    for needle in [WORDS, digits, OTHER_WORDS] {
        assert!(!installation.tables().await.contains(needle) && !installation.exports().contains(needle), "{needle} is in clear");
        assert_eq!(file_with(installation.dir.path(), needle), None, "{needle} is in a file of the server, its log or ours");
    }
    assert_eq!(installation.erased_cells(), [0; 7], "nobody is erased yet");
    // A number of another person, and an invalid number.
    client.post("/persons/erase", &json!({"phone_number": "+12025550199"})).await.problem(404);
    client.post("/persons/erase", &json!({"phone_number": "nobody"})).await.problem(422);
    client.post("/persons/erase", &json!({"phone_number": &NUMBER[2..]})).await.problem(422);
    // A person is identified by the number without its extension.
    let erased = client.post("/persons/erase", &json!({"phone_number": format!("{NUMBER} x7")})).await.expect(200);
    assert_eq!(erased["cancelled_tasks"], 1, "nobody is called who is erased");
    client.post("/persons/erase", &json!({"phone_number": NUMBER})).await.problem(404);
    for rebuilt in [false, true] {
        if rebuilt {
            installation.tool(&["rebuild", "all"], true);
            installation.tool(&["compare", "all"], true);
            installation.tool(&["verify"], false);
        }
        assert_eq!(installation.erased_cells(), [1, 1, 1, 1, 1, 1, 0], "the erased person's rows and no others");
        let after = shown(client, &campaign, &task, &call).await;
        assert!(!after.contains(WORDS) && !after.contains(digits), "{after}");
        assert!(after.contains("\"phone_number\":\"erased\"") && after.contains("\"user_text\":\"erased\""));
        assert!(shown(client, &campaign, &other_task, &other_call).await.contains(OTHER_WORDS), "others are as they were");
        assert_eq!(numbers(client).await, counted, "counts and costs stay");
        assert!(!installation.tool(&["history", &format!("task-{task}")], true).contains(WORDS));
        for needle in [WORDS, digits] {
            assert!(!installation.tables().await.contains(needle) && !installation.exports().contains(needle), "{needle}");
            assert_eq!(file_with(installation.dir.path(), needle), None, "{needle}");
        }
    }
    // A request that is repeated under its key finds its effect, but no longer the personal data.
    let again = client.request(Method::POST, "/calls").header("idempotency-key", format!("{NUMBER} {WORDS}"));
    let again = client.send(again.json(&json!({"call_id": call, "direction": "outbound", "phone_number": NUMBER}))).await;
    assert!(again.status < 500 && !again.body.to_string().contains(digits), "{}", again.body);
    // Turns that are recorded later are counted, but their texts are not stored.
    client.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 1, "user_text": WORDS})).await.expect(201);
    assert!(!shown(client, &campaign, &task, &call).await.contains(WORDS));
    assert_eq!(client.get(&format!("/analytics/calls/{call}/metrics")).await["turn_count"], 2);
    let erasures = client.get("/events?event_type=PersonErased").await.expect(200);
    assert_eq!(erasures["items"][0]["metadata"]["actor"]["kind"], "user", "who did it and when is known");
}

#[tokio::test]
async fn an_erasure_that_is_asked_for_again_is_answered_again() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.campaign(json!({})).await;
    admin.upload(&campaign, "list.csv", format!("phone_number,name\n{NUMBER},{WORDS}\n").into_bytes()).await.expect(200);
    let erase = async || {
        let request = admin.request(reqwest::Method::POST, "/persons/erase").header("idempotency-key", "once");
        admin.send(request.json(&json!({"phone_number": NUMBER}))).await
    };
    let first = erase().await.expect(200);
    assert_eq!(first["cancelled_tasks"], 1, "also of a list that was only just uploaded");
    let again = erase().await.expect(200);
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &first.body));
    platform.stop().await;
}

#[tokio::test]
async fn a_number_that_comes_again_is_a_new_person() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.campaign(json!({})).await;
    let list = format!("phone_number,name\n{NUMBER},{WORDS}\n").into_bytes();
    admin.upload(&campaign, "list.csv", list.clone()).await.expect(200);
    let erased = admin.post("/persons/erase", &json!({"phone_number": NUMBER})).await.expect(200);
    assert_eq!(admin.upload(&campaign, "list.csv", list).await.expect(200)["created"], 1, "nobody can tell that it was there");
    let tasks = admin.get(&format!("/campaigns/{campaign}/tasks")).await["items"].as_array().unwrap().clone();
    assert_eq!(tasks.iter().map(|task| task["phone_number"].as_str().unwrap()).collect::<Vec<_>>(), [NUMBER, "erased"]);
    assert_ne!(admin.post("/persons/erase", &json!({"phone_number": NUMBER})).await.expect(200)["person_id"], erased["person_id"]);
    platform.stop().await;
}

/// Each process caches keys and decrypted data; all processes clear their caches when one of them erases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_forget_the_erased_too() {
    let platform = Platform::start().await;
    let other = Platform::start_on(&platform.database_url).await;
    let admin = platform.admin().await;
    let there = admin.at(&other.base());
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": NUMBER})).await.expect(201).id();
    there.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0, "user_text": WORDS})).await.expect(201);
    assert!(there.get(&format!("/calls/{call}/history")).await.body.to_string().contains(WORDS));
    admin.post("/persons/erase", &json!({"phone_number": NUMBER})).await.expect(200);
    for _ in 0..100 {
        let end = there.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 1})).await.expect(200);
        let history = there.get(&format!("/calls/{call}/history")).await.body.to_string();
        if end["phone_number"] == "erased" && !history.contains(WORDS) {
            other.stop().await;
            return platform.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("another process still knows");
}

/// An old backup of the keys does not restore an erased person: the log has the erasure.
#[tokio::test]
async fn keys_that_a_backup_brings_back_are_destroyed_at_the_next_start() {
    let platform = Platform::start().await;
    let (url, admin) = (platform.database_url.clone(), platform.admin().await);
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": NUMBER})).await.expect(201).id();
    let owner = &platform.app().owner;
    sqlx::raw_sql("create table backup as table person_keys").execute(owner).await.unwrap();
    admin.post("/persons/erase", &json!({"phone_number": NUMBER})).await.expect(200);
    sqlx::raw_sql("insert into person_keys select * from backup on conflict do nothing; drop table backup").execute(owner).await.unwrap();
    platform.stop().await;
    let platform = Platform::start_on(&url).await;
    let again = admin.at(&platform.base());
    assert_eq!(again.get(&format!("/calls/{call}")).await.expect(200)["phone_number"], "erased");
    platform.stop().await;
}

/// With another master key the data cannot be read, so the platform does not start; the log can be verified without a key.
#[tokio::test]
async fn another_master_key_is_refused() {
    let platform = Platform::start().await;
    platform.admin().await;
    let url = platform.database_url.clone();
    platform.stop().await;
    let other = "77".repeat(32);
    let mut command = Command::new(binary("newvoice"));
    let output = command.args(["--listen", "127.0.0.1:0"]).env("DATABASE_URL", &url).env("NEWVOICE_MASTER_KEY", &other).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("master key is not the one"));
    let mut command = Command::new(binary("newvoice"));
    let output = command.env("DATABASE_URL", &url).env("NEWVOICE_MASTER_KEY", "short").output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("64 hexadecimal digits"));
}

/// A user with write access to the database cannot move one turn's texts to another turn, nor one person's number to another person.
#[tokio::test]
async fn personal_data_that_was_moved_in_the_database_stays_concealed() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": NUMBER})).await.expect(201).id();
    for (index, words) in [WORDS, OTHER_WORDS].iter().enumerate() {
        admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": index, "user_text": words})).await.expect(201);
    }
    let words = async || {
        let turns = admin.get(&format!("/analytics/calls/{call}/turns")).await.expect(200);
        turns["items"].as_array().unwrap().iter().map(|turn| turn["user_text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(words().await, [WORDS, OTHER_WORDS]);
    let owner = &platform.app().owner;
    sqlx::raw_sql(
        "update call_logs a set personal = b.personal from call_logs b where a.call_id = b.call_id and a.turn_index <> b.turn_index",
    )
    .execute(owner)
    .await
    .unwrap();
    assert_eq!(words().await, ["erased", "erased"]);

    admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550143"})).await.expect(201);
    sqlx::raw_sql(
        "update person_keys set phone_hash = phone_hash || '\\x00';
         update person_keys a set phone_hash = substr(b.phone_hash, 1, 32) from person_keys b where a.person_id <> b.person_id
            and a.phone_hash is not null and b.phone_hash is not null",
    )
    .execute(owner)
    .await
    .unwrap();
    // No person is erased in place of another one: with a manipulated hash the request fails.
    admin.post("/persons/erase", &json!({"phone_number": NUMBER})).await.problem(500);
    platform.stop().await;
}
