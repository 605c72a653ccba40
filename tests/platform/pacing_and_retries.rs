//! Why nothing is dialed, contacts that a program adds, and failed tasks that are put back.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use support::{Client, Platform};

use crate::campaigns::until;

/// Claims the next task of the campaign; returns its path and the call.
async fn claim(admin: &Client, path: &str) -> (String, Value) {
    let claimed = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
    (format!("/tasks/{}", claimed["task"]["id"].as_str().unwrap()), claimed["call_id"].clone())
}

/// Claims the next task and reports its attempt as failed with this outcome.
async fn fail(admin: &Client, path: &str, outcome: &str) -> String {
    let (task, call) = claim(admin, path).await;
    admin.post(&format!("{task}/fail"), &json!({"call_id": call, "error_message": "no", "outcome": outcome})).await.expect(200);
    task
}

#[tokio::test]
async fn a_campaign_tells_why_no_call_begins_and_asking_takes_no_task() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let limits = json!({"max_concurrent_calls": 1, "calls_per_minute": 2, "max_retries": 2, "retry_delay_minutes": 30});
    let campaign = admin.campaign(limits).await;
    let path = format!("/campaigns/{campaign}");
    let pacing = async || {
        let campaign = admin.get(&path).await.expect(200)["pacing"].clone();
        assert_eq!(admin.get(&format!("{path}/stats")).await.expect(200)["pacing"], campaign);
        assert_eq!(admin.get("/campaigns").await.expect(200)["items"][0]["pacing"], campaign);
        campaign
    };
    let closed = json!({"reason": "not_running", "opens_at": null, "in_progress": 0, "claims_last_60s": 0, "due": 0, "next_due_at": null});
    assert_eq!(pacing().await, closed);
    admin.upload(&campaign, "list.csv", b"phone_number\n+12025550101\n+12025550102\n+12025550103\n".to_vec()).await.expect(200);
    let started = admin.act(&format!("{path}/start")).await.expect(200);
    let ready = json!({"reason": null, "opens_at": null, "in_progress": 0, "claims_last_60s": 0, "due": 3, "next_due_at": null});
    assert_eq!(pacing().await, ready);
    assert_eq!(started["pacing"], Value::Null, "a command does not wait for the read models");
    let (task, call) = claim(&admin, &path).await;
    let busy = pacing().await;
    assert_eq!((&busy["reason"], &busy["in_progress"], &busy["claims_last_60s"]), (&json!("concurrency"), &json!(1), &json!(1)));
    assert_eq!(busy["due"], 2, "asking takes no task");
    admin.post(&format!("{task}/fail"), &json!({"call_id": call, "error_message": "no"})).await.expect(200);
    fail(&admin, &path, "busy").await;
    let slowed = pacing().await;
    assert_eq!((&slowed["reason"], &slowed["in_progress"], &slowed["claims_last_60s"]), (&json!("rate"), &json!(0), &json!(2)));
    let due: DateTime<Utc> = slowed["next_due_at"].as_str().unwrap().parse().unwrap();
    assert!(due > Utc::now() + TimeDelta::minutes(25), "{due}");
    admin.put(&path, &json!({"calls_per_minute": 100})).await.expect(200);
    fail(&admin, &path, "busy").await;
    assert_eq!(pacing().await["reason"], "empty", "all tasks wait for other attempts");
    let now = admin.get(&path).await.expect(200)["updated_at"].clone();
    assert_eq!(admin.get(&format!("{path}?as_of={}", now.as_str().unwrap())).await.expect(200)["pacing"], Value::Null);
    platform.stop().await;
}

#[tokio::test]
async fn outside_its_schedule_a_campaign_tells_when_it_opens() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let opens = (Utc::now() + TimeDelta::days(3)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let campaign = admin.running_campaign(1, json!({"start_time": opens})).await;
    let path = format!("/campaigns/{campaign}");
    let pacing = admin.get(&path).await.expect(200)["pacing"].clone();
    assert_eq!((&pacing["reason"], &pacing["opens_at"]), (&json!("outside_schedule"), &json!(opens)));
    assert_eq!(admin.act(&format!("{path}/tasks/claim")).await.expect(204).header("reason"), Some("outside_schedule"));
    platform.stop().await;
}

#[tokio::test]
async fn a_task_shows_its_maximum_number_of_attempts() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(2, json!({"max_retries": 2, "retry_delay_minutes": 600})).await;
    let path = format!("/campaigns/{campaign}");
    let claimed = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
    let (task, call) = (claimed["task"]["id"].as_str().unwrap().to_owned(), claimed["call_id"].clone());
    let failed = admin.post(&format!("/tasks/{task}/fail"), &json!({"call_id": call, "error_message": "no"})).await.expect(200);
    let then = Utc::now().to_rfc3339();
    admin.act(&format!("{path}/pause")).await.expect(200);
    let settings = json!({"max_retries": 7});
    admin.put(&path, &settings).await.expect(200);
    let now = admin.get(&format!("/tasks/{task}")).await.expect(200);
    let earlier = admin.send(admin.request(reqwest::Method::GET, &format!("/tasks/{task}")).query(&[("as_of", &then)])).await.expect(200);
    for (shown, attempts) in [(&claimed["task"], 2), (&failed.body, 2), (&earlier.body, 2), (&now.body, 7)] {
        assert_eq!(shown["max_attempts"], attempts, "{shown}");
    }
    // A date is its beginning: the task did not exist yet. A deleted campaign's tasks stay readable.
    admin.get(&format!("/tasks/{task}?as_of=2026-01-01")).await.problem(404);
    for wrong in ["2026-01-01T00:00:00", "yesterday", ""] {
        admin.get(&format!("/tasks/{task}?as_of={wrong}")).await.problem(400);
    }
    admin.delete(&path).await.expect(204);
    assert_eq!(admin.get(&format!("/tasks/{task}")).await.expect(200)["max_attempts"], 7);
    let listed = admin.get(&format!("{path}/tasks")).await.expect(200);
    assert!(listed["items"].as_array().unwrap().iter().all(|task| task["max_attempts"] == 7), "{}", listed.body);
    platform.stop().await;
}

#[tokio::test]
async fn the_list_of_tasks_is_filtered_by_outcome_and_number() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(4, json!({"max_retries": 1})).await;
    let path = format!("/campaigns/{campaign}");
    for outcome in ["busy", "no_answer", "busy"] {
        fail(&admin, &path, outcome).await;
    }
    let tasks = async |filter: &str| admin.get(&format!("{path}/tasks?{filter}")).await.expect(200)["items"].as_array().unwrap().clone();
    let all = tasks("").await;
    for (filter, count) in [("outcome=busy", 2), ("outcome=no_answer", 1), ("outcome=success", 0), ("outcome=busy&status=failed", 2)] {
        let found = tasks(filter).await;
        let expected: Vec<_> = all.iter().filter(|task| found.contains(task)).cloned().collect();
        assert_eq!((found.len(), &found), (count, &expected), "{filter}");
        assert!(found.iter().all(|task| filter.contains(task["outcome"].as_str().unwrap())), "{filter}");
    }
    let number = all[1]["phone_number"].as_str().unwrap();
    assert_eq!(tasks(&format!("phone_number={}", number.replace('+', "%2B"))).await, [all[1].clone()]);
    assert_eq!(tasks("phone_number=%2B420601123456").await, Vec::<Value>::new(), "no task has this number");
    for wrong in ["outcome=refused", "outcome=", "phone_number=12025550101", "phone_number=", "status=%00", "outcome=%00"] {
        admin.get(&format!("{path}/tasks?{wrong}")).await.problem(400);
    }
    admin.get("/skillbases?name=a%00b").await.problem(400);
    admin.get("/audit?path=%00").await.problem(400);
    platform.stop().await;
}

#[tokio::test]
async fn contacts_are_added_by_json_under_the_rules_of_a_call_list() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let tasks = format!("/campaigns/{campaign}/tasks");
    let contacts = json!({"contacts": [
        {"phone_number": "(202) 555-0150 ext. 7", "contact_name": " Ada ", "contact_data": {"city": "Brno", "age": 36}, "priority": 9},
        {"phone_number": "12345"},
        {"phone_number": "+12025550150", "contact_name": "again"},
        {"phone_number": "+12025551000"},
        {"phone_number": "+12025550151", "contact_name": "#N/A"},
    ]});
    let keyed = |body: &Value| admin.request(reqwest::Method::POST, &tasks).header("idempotency-key", "k").json(body);
    let added = admin.send(keyed(&contacts)).await.expect(200);
    assert_eq!((&added["total"], &added["created"]), (&json!(5), &json!(2)));
    let errors = added["errors"].as_array().unwrap();
    assert!(errors[0].as_str().unwrap().starts_with("Contact 2: "), "{errors:?}");
    assert_eq!(
        errors[1..],
        [json!("Contact 3: phone number repeats contact 1"), json!("Contact 4: phone number is in the campaign already")]
    );
    assert_eq!(
        added["notes"],
        json!([
            "Contact 1: the phone number's extension is stored as \"phone_extension\"",
            "Contact 5: the name \"#N/A\" is read as no name"
        ])
    );
    assert_eq!(admin.send(keyed(&contacts)).await.expect(200).body, added.body);
    let (task, _) = claim(&admin, &format!("/campaigns/{campaign}")).await;
    let task = admin.get(&task).await.expect(200);
    assert_eq!((&task["phone_number"], &task["contact_name"], &task["priority"]), (&json!("+12025550150"), &json!("Ada"), &json!(9)));
    assert_eq!(task["contact_data"], json!({"city": "Brno", "age": 36, "phone_extension": "7"}));
    assert_eq!(admin.get(&format!("/campaigns/{campaign}")).await.expect(200)["total_tasks"], 3);
    for (body, wrong) in [
        (json!({"contacts": []}), "contacts"),
        (json!({"contacts": vec![json!({"phone_number": "+12025550152"}); 1_001]}), "contacts"),
        (json!({"contacts": [{"contact_name": "Ada"}]}), "contacts[0].phone_number"),
        (json!({"contacts": [{"phone_number": 42}]}), "contacts[0].phone_number"),
        (json!({"contacts": [{"phone_number": "+12025550152", "contact_data": []}]}), "contacts[0].contact_data"),
        (json!({"contacts": [{"phone_number": "+12025550152", "name": "Ada"}]}), "contacts[0].name"),
        (json!({}), "contacts"),
    ] {
        let refused = admin.post(&tasks, &body).await.problem(422);
        assert_eq!(refused.paths(), [wrong], "{}", refused.body);
    }
    let long =
        json!({"contacts": [{"phone_number": "+12025550152", "contact_data": {"a": "x".repeat(100_001)}}, {"phone_number": "\u{0}"}]});
    let refused = admin.post(&tasks, &long).await.expect(200);
    assert_eq!(refused["errors"], json!(["Contact 1: the data has more than 100000 bytes", "Contact 2: a value holds a NUL character"]));
    admin.post(&format!("/campaigns/{}/tasks", uuid::Uuid::new_v4()), &contacts).await.problem(404);
    admin.act(&format!("/campaigns/{campaign}/finish")).await.expect(200);
    admin.post(&tasks, &json!({"contacts": [{"phone_number": "+12025550153"}]})).await.problem(409);
    platform.stop().await;
}

#[tokio::test]
async fn failed_tasks_are_put_back_by_outcome_and_their_campaign_starts_again() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(3, json!({"max_retries": 1, "calls_per_minute": 1_000})).await;
    let path = format!("/campaigns/{campaign}");
    let retry = format!("{path}/retry");
    let (busy, silent) = (fail(&admin, &path, "busy").await, fail(&admin, &path, "no_answer").await);
    let (done, call) = claim(&admin, &path).await;
    admin.post(&format!("{done}/complete"), &json!({"call_id": call, "outcome": "success"})).await.expect(200);
    let completed = until(&admin, &path, "/status", json!("completed")).await;
    let of_outcomes = async |outcomes: Value| admin.post(&retry, &json!({"outcomes": outcomes})).await;
    assert_eq!(of_outcomes(json!(["voicemail"])).await.expect(200)["retried"], 0);
    admin.act(&format!("{path}/start")).await.problem(409);
    assert_eq!(of_outcomes(json!(["busy", "voicemail"])).await.expect(200)["retried"], 1);
    assert_eq!(admin.get(&busy).await.expect(200)["status"], "retry");
    assert_eq!(admin.get(&silent).await.expect(200)["status"], "failed");
    assert_eq!(admin.act(&format!("{path}/start")).await.expect(200)["status"], "running");
    assert_eq!(admin.act(&retry).await.expect(200)["retried"], 1, "all that have failed");
    assert_eq!(admin.act(&retry).await.expect(200)["retried"], 0);
    let stats = admin.get(&format!("{path}/stats")).await.expect(200);
    assert_eq!((&stats["tasks"]["retry"], &stats["tasks"]["failed"]), (&json!(2), &json!(0)));
    // As of the completion, two tasks had failed.
    let then = admin.get(&format!("{path}?as_of={}", completed["updated_at"].as_str().unwrap())).await.expect(200);
    assert_eq!((&then["completed_tasks"], &then["failed_tasks"]), (&json!(1), &json!(2)));
    let again = fail(&admin, &path, "busy").await;
    let task = admin.get(&again).await.expect(200);
    assert_eq!((&task["status"], &task["attempt_count"]), (&json!("failed"), &json!(2)), "attempts go on counting");
    let (last, call) = claim(&admin, &path).await;
    admin.post(&format!("{last}/complete"), &json!({"call_id": call, "outcome": "success"})).await.expect(200);
    until(&admin, &path, "/status", json!("completed")).await;
    let history = admin.get(&format!("{again}/history")).await.expect(200);
    assert!(history["items"].as_array().unwrap().iter().any(|event| event["event_type"] == "TaskReopened"));
    for (body, wrong) in [
        (json!({"outcomes": []}), "outcomes"),
        (json!({"outcomes": ["dead"]}), "outcomes[0]"),
        (json!({"outcomes": "busy"}), "outcomes"),
        (json!({"outcome": ["busy"]}), "outcome"),
    ] {
        assert_eq!(admin.post(&retry, &body).await.problem(422).paths(), [wrong]);
    }
    admin.act(&format!("/campaigns/{}/retry", uuid::Uuid::new_v4())).await.problem(404);
    platform.stop().await;
}
