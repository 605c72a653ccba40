use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{MASTER_KEY, Platform, binary};

struct Tool {
    path: std::path::PathBuf,
    database_url: String,
}

impl Tool {
    async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.path);
        command.args(args).env("DATABASE_URL", &self.database_url).env("NEWVOICE_MASTER_KEY", MASTER_KEY);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// The output lines of a command that must succeed, as JSON.
    async fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[args, &["--json"]].concat()).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replay_tool_tells_what_the_log_says() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let tool = Tool { path: binary("replay-tool"), database_url: platform.database_url.clone() };
    let campaign = admin.running_campaign(2, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let (task, call) = (claim["task"]["id"].as_str().unwrap(), claim["call_id"].as_str().unwrap());
    let turn = json!({"turn_index": 0, "user_text": "=1+1", "stt_duration_sec": 10});
    admin.post(&format!("/calls/{call}/turns"), &turn).await.expect(201);
    admin.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 60})).await.expect(200);
    admin.get(&format!("/analytics/calls/{call}/metrics")).await.expect(200);
    let events = admin.get("/events?limit=200").await["items"].as_array().unwrap().clone();

    let history = tool.json(&["history", &format!("task-{task}")]).await;
    let types: Vec<_> = history[0]["items"].as_array().unwrap().iter().map(|e| e["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["TaskCreated", "TaskClaimed", "CallDialed", "TurnRecorded", "CallEnded", "CallOutcomeClassified"]);
    let timeline = tool.run(&["history", &format!("task-{task}")]).await;
    let timeline = String::from_utf8_lossy(&timeline.stdout).into_owned();
    assert!(timeline.contains("“=1+1”") && timeline.contains("@example.com"), "{timeline}");
    let actors: Vec<_> = history[0]["items"].as_array().unwrap().iter().map(|e| &e["metadata"]["actor"]).collect();
    assert!(actors.iter().all(|actor| actor["kind"] != "user" || actor["name"].as_str().unwrap().contains('@')), "{actors:?}");
    // Causes: the claim caused the call, and the end caused the classification.
    assert!(timeline.contains("because of TaskClaimed (position") && timeline.contains("because of CallEnded (position"), "{timeline}");

    assert_eq!(tool.json(&["verify"]).await[0]["events"], events.len());
    assert_eq!(tool.json(&["stats"]).await[0]["events"], events.len());
    let exported: Vec<_> = tool.json(&["export"]).await.iter().map(|e| e["event_id"].clone()).collect();
    assert_eq!(exported, events.iter().map(|e| e["event_id"].clone()).collect::<Vec<_>>());
    let csv = tool.run(&["export", "--format", "csv"]).await;
    assert_eq!(String::from_utf8_lossy(&csv.stdout).lines().count(), events.len() + 1);
    // Every read model, in every format.
    let dir = tempfile::tempdir().unwrap();
    for table in projections::all().iter().flat_map(|projection| projection.tables()) {
        let lines = tool.json(&["export", table.name]).await;
        let csv = tool.run(&["export", table.name, "--format", "csv"]).await;
        let text = String::from_utf8_lossy(&csv.stdout).into_owned();
        let columns: Vec<_> = text.lines().next().unwrap().split(',').collect();
        assert!(lines.iter().all(|row| row.as_object().unwrap().len() == columns.len()), "{}", table.name);
        let envelopes: Vec<_> = columns.into_iter().filter(|column| column.ends_with("personal")).collect();
        assert_eq!(table.personal.iter().map(|personal| personal.envelope).collect::<Vec<_>>(), envelopes, "{}", table.name);
        let file = dir.path().join(table.name);
        let parquet = tool.run(&["export", table.name, "--format", "parquet", "--output", file.to_str().unwrap()]).await;
        assert!(parquet.status.success(), "{}: {}", table.name, String::from_utf8_lossy(&parquet.stderr));
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    }
    let marked = tool.run(&["export", "calls", "--format", "csv", "--bom"]).await;
    assert!(marked.stdout.starts_with(b"\xef\xbb\xbfcompany_id,"));
    let calls = tool.json(&["export", "call_metrics"]).await;
    assert_eq!((&calls[0]["call_id"], &calls[0]["stt_duration_sec"]), (&json!(call), &json!("10")));
    for before in ["2020-01-01T00:00:00Z", "2020-01-01"] {
        assert!(tool.json(&["export", "call_metrics", "--to", before]).await.is_empty());
    }
    assert!(tool.json(&["rebuild", "call_metrics", "--compare"]).await[0]["differences"].as_array().unwrap().is_empty());

    // No credential gives more rights than the log.
    let key = admin.post("/api-keys", &json!({"name": "v", "role": "viewer"})).await.expect(201).id();
    let gone = admin.post("/api-keys", &json!({"name": "g", "role": "viewer"})).await.expect(201).id();
    admin.delete(&format!("/api-keys/{gone}")).await;
    let user = admin.post("/users", &json!({"email": "b@example.com", "role": "viewer"})).await.expect(201).id();
    assert!(tool.json(&["compare", "credentials"]).await[0]["differences"].as_array().unwrap().is_empty());
    let owner = &platform.app().owner;
    sqlx::raw_sql("update api_key_credentials set revoked_at = null, role = case name when 'v' then 'manager' else role end")
        .execute(owner)
        .await
        .unwrap();
    sqlx::query("update user_credentials set role = 'admin' where user_id = $1::uuid").bind(&user).execute(owner).await.unwrap();
    let found = tool.run(&["compare", "credentials", "--json"]).await;
    assert_eq!(found.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    let found: Vec<_> =
        found["differences"].as_array().unwrap().iter().map(|d| (d["id"].as_str().unwrap(), d["log"].as_str().unwrap())).collect();
    let mut expected =
        [(key.as_str(), "the log has viewer"), (gone.as_str(), "the log has revoked"), (user.as_str(), "the log has viewer")];
    expected.sort_unstable();
    assert_eq!(found.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>(), expected);

    // A reader that closes the output early is not an error.
    let script = format!("'{}' stats | true", tool.path.display());
    let piped = Command::new("bash").args(["-o", "pipefail", "-c", &script]).env("DATABASE_URL", &tool.database_url).output().unwrap();
    assert!(piped.status.success() && piped.stderr.is_empty(), "{}", String::from_utf8_lossy(&piped.stderr));

    let rates = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rates.path(), r#"{"rates": [{"component": "stt", "price": "0.01", "per": 1, "unit": "second"}]}"#).unwrap();
    let path = rates.path().to_str().unwrap();
    let what_if = tool.json(&["what-if", "--price-list", path, "--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"]).await;
    assert_eq!((&what_if[0]["actual"]["cost_stt"], &what_if[0]["what_if"]["cost_stt"]), (&json!("0.043"), &json!("0.1")));
    assert_eq!(what_if[0]["difference"]["cost_total"], "0.053");

    for wrong in [
        &["history", "nonsense"][..],
        &["history", "call-01934f5e-1111-7000-8000-000000000001", "--as-of", "2026-02-30"],
        &["export", "calls", "--from", "2026-11-20T09:00:00"],
        &["rebuild", "nonsense"],
        &["frobnicate"],
        &["export", "nonsense"],
        &["export", "calls", "--bom"],
        &["export", "campaign_stats", "--from", "2020-01-01T00:00:00Z"],
        &["export", "calls", "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-01T00:00:00Z"],
        &["restore", "nonsense"],
        &["what-if", "--price-list", "/nowhere", "--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"],
    ] {
        assert_eq!(tool.run(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let forge = "set session_replication_role = replica; update events set event_type = 'CallStarted' where position = 3; set session_replication_role = origin";
    sqlx::raw_sql(forge).execute(&platform.app().owner).await.unwrap();
    let verdict = tool.run(&["verify"]).await;
    assert_eq!(verdict.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&verdict.stdout).contains("position 3"));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why_in_one_line() {
    let (newvoice, tool) = (binary("newvoice"), binary("replay-tool"));
    let run = |path: &std::path::Path, args: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(path)
            .args(args)
            .env_remove("DATABASE_URL")
            .env("NEWVOICE_MASTER_KEY", MASTER_KEY)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        (output.status.code().unwrap(), text)
    };
    let unreachable = run(&newvoice, &[], &[("DATABASE_URL", "postgres://x@127.0.0.1:1/x")]);
    assert!(unreachable.0 == 1 && unreachable.1.contains("127.0.0.1:1 cannot be reached"), "{unreachable:?}");
    // Errors that can be solved with different arguments.
    let wrong_use = [
        (run(&newvoice, &[], &[("DATABASE_URL", "nonsense")]), "DATABASE_URL"),
        (run(&newvoice, &["--schema", "Bad-Schema"], &[]), "schema name"),
        (run(&tool, &["verify"], &[("NEWVOICE_DATA_DIR", "/tmp/there-is-nothing-here")]), "there is no platform"),
    ];
    for ((code, text), part) in wrong_use {
        assert!(code == 2 && text.contains(part), "{code}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn personal_values_are_exported_on_request_only_and_the_audit_has_it() {
    let platform = Platform::start().await;
    let (admin, other) = (platform.admin().await, platform.admin().await);
    let tool = Tool { path: binary("replay-tool"), database_url: platform.database_url.clone() };
    let mut people = Vec::new();
    for (client, name) in [(&admin, "Ada"), (&other, "Ben")] {
        let campaign = client.campaign(json!({"max_retries": 1})).await;
        let list = format!("phone_number,name,city\n+1202555010{},{name},Brno\n+12025550199,Erased {name},\n", people.len());
        client.upload(&campaign, "list.csv", list.into_bytes()).await.expect(200);
        client.act(&format!("/campaigns/{campaign}/start")).await.expect(200);
        let claim = client.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
        let call = claim["call_id"].as_str().unwrap().to_owned();
        for index in [1, 0] {
            let turn = json!({"turn_index": index, "user_text": format!("=said by {name} {index}"), "state": "offer"});
            client.post(&format!("/calls/{call}/turns"), &turn).await.expect(201);
        }
        let task = claim["task"]["id"].as_str().unwrap();
        let failed = json!({"call_id": call, "error_message": format!("{name} hung up"), "outcome": "busy"});
        client.post(&format!("/tasks/{task}/fail"), &failed).await.expect(200);
        client.post("/persons/erase", &json!({"phone_number": "+12025550199"})).await.expect(200);
        client.get(&format!("/campaigns/{campaign}/tasks")).await.expect(200);
        people.push((name, format!("+1202555010{}", people.len())));
    }
    let fields = |rows: &[Value], field: &str| {
        let mut found: Vec<_> = rows.iter().map(|row| row[field].as_str().unwrap_or("-").to_owned()).collect();
        found.sort_unstable();
        found
    };
    let tasks = tool.json(&["export", "call_tasks", "--reveal"]).await;
    assert_eq!(fields(&tasks, "contact_name"), ["Ada", "Ben", "erased", "erased"]);
    assert_eq!(fields(&tasks, "phone_number"), ["+12025550100", "+12025550101", "erased", "erased"]);
    assert_eq!(fields(&tasks, "error_message"), ["-", "-", "Ada hung up", "Ben hung up"]);
    let cities: Vec<_> = tasks.iter().filter(|task| task["contact_name"] != "erased").map(|task| &task["contact_data"]["city"]).collect();
    assert_eq!(cities, ["Brno", "Brno"]);
    assert_eq!(fields(&tool.json(&["export", "calls", "--reveal"]).await, "phone_number"), ["+12025550100", "+12025550101"]);
    let turns = tool.json(&["export", "call_logs", "--reveal"]).await;
    assert_eq!(fields(&turns, "user_text"), ["=said by Ada 0", "=said by Ada 1", "=said by Ben 0", "=said by Ben 1"]);
    assert!(fields(&tool.json(&["export", "users", "--reveal"]).await, "email").iter().all(|email| email.contains('@')));
    let csv = tool.run(&["export", "call_logs", "--reveal", "--format", "csv"]).await;
    assert!(String::from_utf8_lossy(&csv.stdout).contains("\"'=said by Ada 0\""));
    assert_eq!(fields(&tool.json(&["export", "calls"]).await, "phone_number"), ["-", "-"], "only on request");

    // One company's export is in the audit of this company.
    let own = platform.app().owner.clone();
    let company: String = sqlx::query_scalar("select company_id::text from call_tasks limit 1").fetch_one(&own).await.unwrap();
    assert_eq!(tool.json(&["export", "calls", "--reveal", "--company", &company]).await.len(), 1);
    let count = |audit: &Value| {
        let reveals = audit["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == "replay-tool export --reveal");
        assert!(reveals.clone().all(|entry| entry["actor"]["name"].as_str().unwrap().starts_with("replay-tool, user ")));
        reveals.count()
    };
    let (of_admin, of_other) = (admin.get("/audit").await.expect(200), other.get("/audit").await.expect(200));
    let mut counts = [count(&of_admin), count(&of_other)];
    counts.sort_unstable();
    assert_eq!(counts, [5, 6]);

    let slug: String =
        sqlx::query_scalar("select slug from companies where company_id::text = $1").bind(&company).fetch_one(&own).await.unwrap();
    assert_eq!(tool.json(&["export", "calls", "--company", &slug]).await.len(), 1);
    for unknown in ["acme-unknown", "00000000-0000-4000-8000-000000000000"] {
        let refused = tool.run(&["export", "calls", "--company", unknown]).await;
        assert_eq!(refused.status.code(), Some(2), "{unknown}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(unknown));
    }
    assert_eq!(tool.run(&["export", "--reveal"]).await.status.code(), Some(2), "events");
    let no_key = Command::new(&tool.path)
        .args(["export", "calls", "--reveal", "--data-dir", "/nowhere"])
        .env("DATABASE_URL", &tool.database_url)
        .env_remove("NEWVOICE_MASTER_KEY")
        .output()
        .unwrap();
    assert_eq!(no_key.status.code(), Some(2), "{}", String::from_utf8_lossy(&no_key.stderr));
    platform.stop().await;
}
