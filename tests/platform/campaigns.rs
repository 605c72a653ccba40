use std::collections::HashSet;

use eventstore::{ActorKind, CommandContext, now};
use newvoice_api::settings::Role;
use serde_json::{Value, json};
use services::{Claim, Claimant, OpContext};
use support::{Client, Platform};
use uuid::Uuid;

/// Polls `path` until the value at `pointer` is `value`.
pub async fn until(client: &Client, path: &str, pointer: &str, value: Value) -> Value {
    for _ in 0..400 {
        let answer = client.get(path).await.expect(200);
        if answer.pointer(pointer) == Some(&value) {
            return answer.body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{path} never had {value} at {pointer}");
}

#[tokio::test]
async fn a_finished_campaign_cancels_what_waits_and_completes_with_its_last_call() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(3, json!({"max_retries": 5})).await;
    let path = format!("/campaigns/{campaign}");
    let claimed = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
    let (task, call) = (claimed["task"]["id"].as_str().unwrap().to_owned(), claimed["call_id"].clone());
    assert_eq!(admin.act(&format!("{path}/finish")).await.expect(200)["status"], "running");
    assert_eq!(admin.act(&format!("{path}/tasks/claim")).await.expect(204).header("reason"), Some("not_running"));
    until(&admin, &format!("{path}/stats"), "/tasks/cancelled", json!(2)).await;
    assert_eq!(admin.act(&format!("{path}/pause")).await.problem(409)["code"], "campaign_finishing");
    admin.upload(&campaign, "more.csv", b"phone_number\n+12025550199\n".to_vec()).await.problem(409);
    // The attempt in progress is the last one, although the campaign allows retries.
    admin.post(&format!("/tasks/{task}/fail"), &json!({"call_id": call, "error_message": "busy", "outcome": "busy"})).await.expect(200);
    assert_eq!(admin.get(&format!("/tasks/{task}")).await.expect(200)["status"], "failed");
    until(&admin, &path, "/status", json!("completed")).await;
    admin.act(&format!("{path}/finish")).await.expect(200);
    let draft = admin.campaign(json!({})).await;
    admin.act(&format!("/campaigns/{draft}/finish")).await.problem(409);
    platform.stop().await;
}

#[tokio::test]
async fn a_waiting_task_is_cancelled_and_no_other() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(2, json!({})).await;
    let claimed = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let (claimed, call) = (claimed["task"]["id"].as_str().unwrap().to_owned(), claimed["call_id"].clone());
    let waiting = admin.get(&format!("/campaigns/{campaign}/tasks?status=pending")).await.expect(200)["items"][0]["id"].clone();
    let cancel = |task: &str| format!("/tasks/{task}/cancel");
    let of_waiting = cancel(waiting.as_str().unwrap());
    let cancelled = admin.act(&of_waiting).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled");
    let again = admin.act(&of_waiting).await.expect(200);
    assert_eq!(again.header("event-position"), cancelled.header("event-position"), "a repeated command has no effect");
    let refused = admin.act(&cancel(&claimed)).await.problem(409);
    assert_eq!((&refused["code"], &refused["args"]["status"]), (&json!("task_is"), &json!("in_progress")));
    admin.post(&format!("/tasks/{claimed}/complete"), &json!({"call_id": call, "outcome": "success"})).await.expect(200);
    assert_eq!(admin.act(&cancel(&claimed)).await.problem(409)["args"]["status"], "completed");
    admin.act(&cancel(&uuid::Uuid::new_v4().to_string())).await.problem(404);
    let stats = admin.get(&format!("/campaigns/{campaign}/stats")).await.expect(200);
    assert_eq!((&stats["tasks"]["cancelled"], &stats["tasks"]["completed"]), (&json!(1), &json!(1)));
    platform.stop().await;
}

#[tokio::test]
async fn a_draft_is_started_once_it_has_tasks() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let path = format!("/campaigns/{id}");
    admin.act(&format!("{path}/start")).await.problem(409);
    admin.act(&format!("{path}/pause")).await.problem(409);
    let upload = admin.upload(&id, "list.csv", b"phone_number\n+12025550100\n+12025550101\n".to_vec()).await.expect(200);
    assert_eq!((&upload["total"], &upload["created"], &upload["errors"]), (&json!(2), &json!(2), &json!([])));
    assert_eq!(admin.act(&format!("{path}/start")).await.expect(200)["status"], "running");
    admin.act(&format!("{path}/start")).await.problem(409);
    platform.stop().await;
}

#[tokio::test]
async fn tasks_are_claimed_by_priority_until_none_is_left() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({"max_concurrent_calls": 2})).await;
    let path = format!("/campaigns/{id}");
    let list = b"phone_number,name,priority,city\n+12025550100,Low,1,Brno\n+12025550101,High,9,Praha\n";
    admin.upload(&id, "list.csv", list.to_vec()).await.expect(200);
    admin.act(&format!("{path}/start")).await.expect(200);
    let first = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
    assert_eq!((&first["task"]["contact_name"], &first["task"]["contact_data"]), (&json!("High"), &json!({"city": "Praha"})));
    assert_eq!((&first["task"]["status"], &first["task"]["attempt_count"]), (&json!("in_progress"), &json!(1)));
    let call = first["call_id"].as_str().unwrap();
    assert_eq!(admin.get(&format!("/calls/{call}")).await["status"], "dialing");
    let second = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
    assert_eq!(second["task"]["contact_name"], "Low");
    // The reason is that no task is left, not the limit of two.
    let nothing = admin.act(&format!("{path}/tasks/claim")).await.expect(204);
    assert_eq!(nothing.header("reason"), Some("empty"));
    platform.stop().await;
}

#[tokio::test]
async fn a_claimed_call_belongs_to_its_campaign_and_its_result_is_final() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{id}/tasks/claim")).await.expect(200);
    let (task, call) = (claim["task"]["id"].as_str().unwrap(), claim["call_id"].as_str().unwrap());
    let start = json!({"call_id": call, "direction": "outbound", "phone_number": claim["task"]["phone_number"]});
    let started = admin.post("/calls", &start).await.expect(200);
    assert_eq!((&started["status"], &started["campaign_id"]), (&json!("in_progress"), &json!(id)));
    assert_eq!(started["skillbase_version"], 1);
    admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0, "agent_text": "Hello"})).await.expect(201);
    admin.post(&format!("/calls/{call}/end"), &json!({"final_state": "booked"})).await.expect(200);
    let complete = format!("/tasks/{task}/complete");
    let done = admin.post(&complete, &json!({"call_id": call, "outcome": "success"})).await.expect(200);
    assert_eq!((&done["status"], &done["outcome"]), (&json!("completed"), &json!("success")));
    admin.post(&complete, &json!({"call_id": call, "outcome": "success"})).await.expect(200);
    admin.post(&complete, &json!({"call_id": call, "outcome": "fail"})).await.problem(409);
    platform.stop().await;
}

/// Claims the task once it is due again.
async fn claimed_again(admin: &Client, campaign: &str) -> Value {
    for _ in 0..400 {
        let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await;
        if claim.status == 200 {
            return claim.body;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no task of {campaign} became due");
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again_and_its_own_result_then_refused() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({"max_retries": 2, "retry_delay_minutes": 0})).await;
    let first = admin.act(&format!("/campaigns/{id}/tasks/claim")).await.expect(200);
    let (task, call) = (first["task"]["id"].as_str().unwrap(), &first["call_id"]);
    let fail = format!("/tasks/{task}/fail");
    let retry = admin.post(&fail, &json!({"call_id": call, "error_message": "busy", "outcome": "busy"})).await.expect(200);
    assert_eq!((&retry["status"], &retry["error_message"]), (&json!("retry"), &json!("busy")));
    let again = claimed_again(&admin, &id).await;
    assert_eq!((&again["task"]["id"], &again["task"]["attempt_count"]), (&json!(task), &json!(2)));
    assert_ne!(&again["call_id"], call);
    admin.post(&fail, &json!({"call_id": call, "error_message": "late"})).await.problem(409);
    let failed =
        admin.post(&fail, &json!({"call_id": again["call_id"], "error_message": "busy again", "outcome": "busy"})).await.expect(200);
    assert_eq!(failed["status"], "failed");
    let history = admin.get(&format!("/tasks/{task}/history")).await.expect(200);
    let types: Vec<_> = history["items"].as_array().unwrap().iter().map(|e| e["event_type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, ["TaskCreated", "TaskClaimed", "CallDialed", "TaskRetryScheduled", "TaskClaimed", "CallDialed", "TaskFailed"]);
    platform.stop().await;
}

#[tokio::test]
async fn a_campaign_without_tasks_left_completes_and_starts_again_with_new_ones() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(2, json!({"max_retries": 1})).await;
    let path = format!("/campaigns/{id}");
    for (verb, body) in [("complete", json!({"outcome": "success"})), ("fail", json!({"error_message": "busy", "outcome": "busy"}))] {
        let claim = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
        let mut body = body;
        body["call_id"] = claim["call_id"].clone();
        admin.post(&format!("/tasks/{}/{verb}", claim["task"]["id"].as_str().unwrap()), &body).await.expect(200);
    }
    let campaign = until(&admin, &path, "/status", json!("completed")).await;
    assert_eq!((&campaign["total_tasks"], &campaign["completed_tasks"], &campaign["failed_tasks"]), (&json!(2), &json!(1), &json!(1)));
    let stats = admin.get(&format!("{path}/stats")).await.expect(200);
    assert_eq!(
        stats["tasks"],
        json!({"total": 2, "pending": 0, "in_progress": 0, "retry": 0, "completed": 1, "failed": 1, "cancelled": 0})
    );
    assert_eq!(stats["outcomes"], json!({"success": 1, "fail": 0, "voicemail": 0, "no_answer": 0, "busy": 1}));
    assert_eq!((&stats["attempts"], &stats["success_rate"]), (&json!(2), &json!(0.5)));
    admin.act(&format!("{path}/start")).await.problem(409);
    admin.upload(&id, "more.csv", b"phone_number\n+12025550102\n".to_vec()).await.expect(200);
    assert_eq!(admin.act(&format!("{path}/start")).await.expect(200)["status"], "running");
    platform.stop().await;
}

#[tokio::test]
async fn a_change_that_a_running_campaign_refuses_names_its_field() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({})).await;
    let refused = admin.put(&format!("/campaigns/{id}"), &json!({"calls_per_minute": 5, "timezone": "Europe/Prague"})).await.problem(409);
    assert_eq!((&refused["errors"][0]["path"], &refused["code"]), (&json!("timezone"), &json!("campaign_fixed_while_running")));
    admin.put(&format!("/campaigns/{id}"), &json!({"calls_per_minute": 5})).await.expect(200);
    platform.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_a_campaign_is_422_with_the_path() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let skillbase = admin.skillbase().await;
    let cases = [
        (json!({"timezone": "Mars/Olympus"}), "timezone"),
        (json!({"daily_start_time": "9:00", "daily_end_time": "10:00"}), "daily_start_time"),
        (json!({"daily_start_time": "09:00"}), "daily_end_time"),
        (json!({"days_of_week": [0]}), "days_of_week[0]"),
        (json!({"max_concurrent_calls": 0}), "max_concurrent_calls"),
        (json!({"max_concurrent_calls": -1}), "max_concurrent_calls"),
        (json!({"calls_per_minute": 100_001}), "calls_per_minute"),
        (json!({"max_retries": 21}), "max_retries"),
        (json!({"retry_backoff": "sometimes"}), "retry_backoff"),
        (json!({"default_region": "ZZ"}), "default_region"),
        (json!({"dialed_by": "carrier pigeon"}), "dialed_by"),
        (json!({"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}), "end_time"),
        (json!({"start_time": "yesterday"}), "start_time"),
        (json!({"colour": "red"}), "colour"),
        (json!({"skillbase_id": "00000000-0000-0000-0000-000000000000"}), "skillbase_id"),
        (json!({"name": null}), "name"),
    ];
    for (change, path) in cases {
        let mut body = json!({"name": "C", "skillbase_id": skillbase});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = admin.post("/campaigns", &body).await.problem(422);
        assert_eq!(answer.paths(), [path], "{change}");
    }
    assert_eq!(admin.post("/campaigns", &json!({})).await.problem(422).paths(), ["name", "skillbase_id"]);
    platform.stop().await;
}

#[tokio::test]
async fn put_changes_the_given_fields_and_null_clears() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin
        .campaign(json!({"description": "old", "daily_start_time": "09:00", "daily_end_time": "17:00", "timezone": "Europe/Prague"}))
        .await;
    let path = format!("/campaigns/{id}");
    let changed = admin.put(&path, &json!({"name": "New", "daily_start_time": null, "daily_end_time": null})).await.expect(200);
    assert_eq!((&changed["name"], &changed["description"], &changed["timezone"]), (&json!("New"), &json!("old"), &json!("Europe/Prague")));
    assert_eq!((&changed["daily_start_time"], &changed["daily_end_time"]), (&json!(null), &json!(null)));
    let copy = admin.post(&format!("{path}/clone"), &json!({"name": "Copy"})).await.expect(201);
    assert_eq!(
        (&copy["name"], &copy["description"], &copy["status"], &copy["total_tasks"]),
        (&json!("Copy"), &json!("old"), &json!("draft"), &json!(0))
    );
    let running = admin.running_campaign(1, json!({})).await;
    admin.put(&format!("/campaigns/{running}"), &json!({"timezone": "Asia/Tokyo"})).await.problem(409);
    admin.put(&format!("/campaigns/{running}"), &json!({"calls_per_minute": 77})).await.expect(200);
    platform.stop().await;
}

#[tokio::test]
async fn a_deleted_campaign_leaves_the_lists_cancels_what_waits_and_stays_readable() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(3, json!({})).await;
    let path = format!("/campaigns/{id}");
    admin.delete(&path).await.problem(409);
    admin.act(&format!("{path}/pause")).await.expect(200);
    let task = admin.get(&format!("{path}/tasks")).await["items"][0]["id"].as_str().unwrap().to_owned();
    admin.delete(&path).await.expect(204);
    let deleted = admin.get(&path).await.expect(200);
    assert!(deleted["deleted_at"].is_string() && deleted["status"] == "paused", "{}", deleted.body);
    assert_eq!(admin.get("/campaigns").await["items"], json!([]));
    admin.put(&path, &json!({"name": "Other"})).await.problem(404);
    until(&admin, &format!("/tasks/{task}"), "/status", json!("cancelled")).await;
    until(&admin, &format!("{path}/stats"), "/tasks/cancelled", json!(3)).await;
    assert_eq!(admin.get(&format!("{path}/tasks?status=cancelled")).await.expect(200)["items"].as_array().unwrap().len(), 3);
    let history = admin.get(&format!("{path}/history")).await.expect(200);
    assert_eq!(history["items"].as_array().unwrap().last().unwrap()["event_type"], "CampaignDeleted");
    platform.stop().await;
}

#[tokio::test]
async fn claims_wait_for_the_schedule() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({"start_time": "2190-01-01T00:00:00Z"})).await;
    let claim = admin.act(&format!("/campaigns/{id}/tasks/claim")).await.expect(204);
    assert_eq!(claim.header("reason"), Some("outside_schedule"));
    admin.act(&format!("/campaigns/{id}/pause")).await.expect(200);
    let claim = admin.act(&format!("/campaigns/{id}/tasks/claim")).await.expect(204);
    assert_eq!(claim.header("reason"), Some("not_running"));
    platform.stop().await;
}

/// Two processes on one database, with many workers each: neither limit is ever exceeded, and no task is claimed twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_across_processes() {
    let first = Platform::start().await;
    let second = Platform::start_on(&first.database_url).await;
    let admin = first.admin().await;
    let id = admin.running_campaign(40, json!({"max_concurrent_calls": 7, "calls_per_minute": 100})).await;
    let claim = format!("/campaigns/{id}/tasks/claim");
    let clients: Vec<_> = [first.base(), second.base()].iter().map(|base| admin.at(base)).collect();
    let claims = futures::future::join_all((0..30).map(|i| clients[i % 2].act(&claim))).await;
    let tasks: Vec<_> = claims.iter().filter(|c| c.status == 200).map(|c| c["task"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(tasks.len(), 7, "as many as may be in progress");
    assert_eq!(tasks.iter().collect::<HashSet<_>>().len(), 7, "each to one worker");
    assert!(claims.iter().filter(|c| c.status == 204).all(|c| c.header("reason") == Some("concurrency")));
    // One attempt ends, so one more claim is possible.
    let done = claims.iter().find(|c| c.status == 200).unwrap();
    let complete = format!("/tasks/{}/complete", done["task"]["id"].as_str().unwrap());
    admin.post(&complete, &json!({"call_id": done["call_id"], "outcome": "success"})).await.expect(200);
    let claims = futures::future::join_all((0..10).map(|i| clients[i % 2].act(&claim))).await;
    assert_eq!(claims.iter().filter(|c| c.status == 200).count(), 1);

    let rate = admin.running_campaign(40, json!({"max_concurrent_calls": 1000, "calls_per_minute": 9})).await;
    let claim = format!("/campaigns/{rate}/tasks/claim");
    let claims = futures::future::join_all((0..30).map(|i| clients[i % 2].act(&claim))).await;
    assert_eq!(claims.iter().filter(|c| c.status == 200).count(), 9, "as many as may be claimed within a minute");
    assert!(claims.iter().filter(|c| c.status == 204).all(|c| c.header("reason") == Some("rate")));
    second.stop().await;
    first.stop().await;
}

/// A claim of an external agent, with a lease of one second.
async fn claim_for_a_second(platform: &Platform, context: &CommandContext, campaign: &str, call_id: Uuid) -> Claim {
    let (services, op) = (&platform.app().services, OpContext::from(context.clone()));
    let claimed = services.claim_task(&op, campaign.parse().unwrap(), call_id, Claimant::External, 1).await;
    claimed.unwrap().claimed().expect("a task is waiting")
}

#[tokio::test]
async fn a_claim_whose_worker_is_gone_is_released_and_counts_as_a_failed_attempt() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({})).await;
    // A worker with a lease of one second.
    let me = admin.get("/auth/me").await;
    let company = me["company"]["id"].as_str().unwrap().parse().unwrap();
    let context = CommandContext::system(company, "test", now());
    let call_id = Uuid::now_v7();
    let claim = claim_for_a_second(&platform, &context, &id, call_id).await;
    let task = until(&admin, &format!("/tasks/{}", claim.task_id), "/status", json!("retry")).await;
    assert_eq!((&task["attempt_count"], &task["error_message"]), (&json!(1), &json!("no sign of life for 1 seconds")));
    // The worker is still alive, and no other attempt has begun: a person who has agreed must not be called a second time.
    let complete = json!({"call_id": call_id, "outcome": "success"});
    let done = admin.post(&format!("/tasks/{}/complete", claim.task_id), &complete).await.expect(200);
    assert_eq!((&done["status"], &done["error_message"], &done["next_attempt_at"]), (&json!("completed"), &json!(null), &json!(null)));
    let stats = admin.get(&format!("/campaigns/{id}/stats")).await.expect(200);
    assert_eq!((&stats["tasks"]["completed"], &stats["tasks"]["retry"], &stats["outcomes"]["success"]), (&json!(1), &json!(0), &json!(1)));
    platform.stop().await;
}

/// The worker ended its call with an outcome and died before it reported the task: the outcome settles the task, not the expired lease.
#[tokio::test]
async fn an_expired_claim_is_settled_by_the_outcome_of_its_call() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let me = admin.get("/auth/me").await;
    let company = me["company"]["id"].as_str().unwrap().parse().unwrap();
    for (outcome, status, cause) in [("success", "completed", None), ("no_answer", "retry", Some("call_ended"))] {
        let id = admin.running_campaign(1, json!({})).await;
        let context = CommandContext::system(company, "test", now());
        let call_id = Uuid::now_v7();
        let claim = claim_for_a_second(&platform, &context, &id, call_id).await;
        admin.post(&format!("/calls/{call_id}/end"), &json!({"outcome": outcome, "duration_sec": 30})).await.expect(200);
        let task = until(&admin, &format!("/tasks/{}", claim.task_id), "/status", json!(status)).await;
        assert_eq!((&task["outcome"], &task["attempt_count"]), (&json!(outcome), &json!(1)));
        let history = admin.get(&format!("/tasks/{}/history", claim.task_id)).await.expect(200);
        let causes: Vec<_> =
            history["items"].as_array().unwrap().iter().filter_map(|e| e["payload"]["failure"]["cause"].as_str()).collect();
        assert_eq!(causes, cause.into_iter().collect::<Vec<_>>());
    }
    platform.stop().await;
}

/// A call that our own dialer hung up because the process stopped has reached no person; a client's call that `system` hung up may have.
#[tokio::test]
async fn who_claimed_decides_what_a_hang_up_by_the_system_means() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let company = admin.get("/auth/me").await["company"]["id"].as_str().unwrap().parse().unwrap();
    for (kind, status) in [(ActorKind::Dialer, "retry"), (ActorKind::ApiKey, "completed")] {
        let id = admin.running_campaign(1, json!({})).await;
        let mut context = CommandContext::system(company, "test", now());
        context.metadata.actor.kind = kind;
        let call_id = Uuid::now_v7();
        let claim = claim_for_a_second(&platform, &context, &id, call_id).await;
        let end = json!({"outcome": "fail", "hangup_by": "system", "duration_sec": 3});
        admin.post(&format!("/calls/{call_id}/end"), &end).await.expect(200);
        until(&admin, &format!("/tasks/{}", claim.task_id), "/status", json!(status)).await;
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_campaign_past_its_end_is_completed_and_what_waits_is_cancelled() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(3, json!({})).await;
    let path = format!("/campaigns/{id}");
    let claim = admin.act(&format!("{path}/tasks/claim")).await.expect(200);
    // The end time can be changed while the campaign runs, even to the present time.
    let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    admin.put(&path, &json!({"end_time": later})).await.expect(200);
    admin.put(&path, &json!({"end_time": chrono::Utc::now()})).await.expect(200);
    let stats = until(&admin, &format!("{path}/stats"), "/tasks/cancelled", json!(2)).await;
    assert_eq!(stats["tasks"]["in_progress"], 1);
    assert_eq!(admin.get(&path).await["status"], "running", "an attempt is in progress");
    let other = admin.running_campaign(1, json!({})).await;
    let past = json!({"end_time": "2026-01-01T00:00:00Z"});
    assert_eq!(admin.put(&format!("/campaigns/{other}"), &past).await.problem(422).paths(), ["end_time"], "it would cancel what waits");
    // The attempt fails, and there is no further attempt.
    let fail = json!({"call_id": claim["call_id"], "error_message": "busy", "outcome": "busy"});
    admin.post(&format!("/tasks/{}/fail", claim["task"]["id"].as_str().unwrap()), &fail).await.expect(200);
    until(&admin, &path, "/status", json!("completed")).await;
    assert_eq!(admin.get(&format!("{path}/stats")).await["tasks"]["cancelled"], 3);
    platform.stop().await;
}

#[tokio::test]
async fn a_paused_campaign_past_its_end_is_resumed_only_with_a_later_end() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({})).await;
    let path = format!("/campaigns/{id}");
    admin.act(&format!("{path}/pause")).await.expect(200);
    admin.put(&path, &json!({"end_time": chrono::Utc::now()})).await.expect(200);
    admin.act(&format!("{path}/resume")).await.problem(409);
    admin.put(&path, &json!({"end_time": chrono::Utc::now() + chrono::TimeDelta::hours(1)})).await.expect(200);
    assert_eq!(admin.act(&format!("{path}/resume")).await.expect(200)["status"], "running");
    platform.stop().await;
}

/// A start whose answer was lost gets the same answer when it is repeated, although the campaign is running by then.
#[tokio::test]
async fn a_transition_that_comes_again_under_its_key_is_answered_as_the_first_time() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    admin.upload(&id, "list.csv", b"phone_number\n+12025550100\n".to_vec()).await.expect(200);
    let mover = admin.unversioned();
    // A client of NEW-VOICE resumes with start.
    for (client, action) in [(&admin, "start"), (&admin, "pause"), (&admin, "resume"), (&mover, "pause"), (&mover, "start")] {
        let path = format!("/campaigns/{id}/{action}");
        let key = if std::ptr::eq(client, &mover) { "mover" } else { "k" };
        let send = async || client.send(client.request(reqwest::Method::POST, &path).header("idempotency-key", key)).await;
        let first = send().await.expect(200);
        // Simulates that the process died between effect and answer.
        sqlx::query("update idempotency_keys set status = null, sealed_answer = null, locked_until = '-infinity'")
            .execute(&platform.app().owner)
            .await
            .unwrap();
        let again = send().await.expect(200);
        assert_eq!((again.position(), &again["status"]), (first.position(), &first["status"]), "{action}");
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_campaign_that_the_simulator_dials_runs_by_itself() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let settings = json!({"dialed_by": "simulator", "max_concurrent_calls": 20, "calls_per_minute": 1000, "max_retries": 1});
    let id = admin.running_campaign(25, settings).await;
    let path = format!("/campaigns/{id}");
    until(&admin, &path, "/status", json!("completed")).await;
    let stats = admin.get(&format!("{path}/stats")).await.expect(200);
    assert_eq!((&stats["tasks"]["total"], &stats["attempts"]), (&json!(25), &json!(25)));
    let outcomes = stats["outcomes"].as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum::<i64>();
    assert_eq!(outcomes, 25);
    let calls = admin.get(&format!("/analytics/calls?campaign_id={id}&limit=200")).await;
    assert_eq!(calls["items"].as_array().unwrap().len(), 25);
    assert!(calls["items"].as_array().unwrap().iter().all(|call| call["status"] == "ended" && call["outcome_method"] == "explicit"));
    platform.stop().await;
}

#[tokio::test]
async fn a_large_campaign_does_not_keep_another_company_from_dialing() {
    let url = support::new_database().await;
    let settings = newvoice_api::settings::Settings { roles: vec![Role::Api, Role::Projectors], ..support::settings(&url) };
    let platform = Platform::start_with(settings).await;
    let (large, small) = (platform.admin().await, platform.admin().await);
    let unlimited = json!({"dialed_by": "simulator", "max_concurrent_calls": 10_000, "calls_per_minute": 100_000});
    large.running_campaign(400, unlimited).await;
    let id = small.running_campaign(1, json!({"dialed_by": "simulator", "max_retries": 1})).await;
    // The read models include both campaigns before the platform stops.
    small.get(&format!("/campaigns/{id}")).await.expect(200);
    platform.stop().await;

    // The dialer finds both campaigns when it begins.
    let platform = Platform::start_with(support::settings(&url)).await;
    let [large, small] = [large, small].map(|admin| admin.at(&platform.base()));
    until(&small, &format!("/campaigns/{id}"), "/status", json!("completed")).await;
    let dialed = async |client: &Client| {
        let events = client.get("/events?event_type=CallDialed&limit=200").await.expect(200);
        events["items"].as_array().unwrap().iter().map(|event| event["position"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let first = dialed(&small).await[0];
    let before = dialed(&large).await.into_iter().filter(|position| *position < first).count();
    assert!(before <= 20, "{before} calls of the large campaign came first");
    platform.stop().await;
}

#[tokio::test]
async fn time_travel_shows_what_was_known_then() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({})).await;
    let events = admin.get(&format!("/campaigns/{id}/history")).await;
    let at = |i: usize| events["items"][i]["recorded_at"].as_str().unwrap().replace('+', "%2B");
    let as_of = |moment: String| format!("/campaigns/{id}?as_of={moment}");
    let created = admin.get(&as_of(at(0))).await.expect(200);
    assert_eq!((&created["status"], &created["total_tasks"]), (&json!("draft"), &json!(0)));
    let started = admin.get(&as_of(at(3))).await.expect(200);
    assert_eq!((&started["status"], &started["total_tasks"]), (&json!("running"), &json!(1)));
    admin.get(&as_of("2020-01-01T00:00:00Z".into())).await.problem(404);
    admin.get(&as_of("soon".into())).await.problem(400);
    platform.stop().await;
}

#[tokio::test]
async fn tasks_of_a_provider_are_not_claimed_over_the_api() {
    let url = support::new_database().await;
    // No dialer runs, so that the campaign stays running.
    let settings = newvoice_api::settings::Settings { roles: vec![Role::Api, Role::Projectors], ..support::settings(&url) };
    let platform = Platform::start_with(settings).await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(1, json!({"dialed_by": "simulator"})).await;
    let claim = admin.act(&format!("/campaigns/{id}/tasks/claim")).await.expect(204);
    assert_eq!(claim.header("reason"), Some("dialed_by_provider"));
    platform.stop().await;
}

#[tokio::test]
async fn what_was_counted_at_a_moment_stays_so_whatever_comes_later() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.running_campaign(3, json!({"max_retries": 1})).await;
    let me = admin.get("/auth/me").await;
    let company = me["company"]["id"].as_str().unwrap().parse().unwrap();
    let context = CommandContext::system(company, "test", now());
    let counts = async |moment: chrono::DateTime<chrono::Utc>| {
        let moment = moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let then = admin.get(&format!("/campaigns/{id}?as_of={moment}")).await.expect(200);
        (then["completed_tasks"].as_i64().unwrap(), then["failed_tasks"].as_i64().unwrap())
    };
    // The time at which the last event was recorded, independent of a client's clock.
    let now = async || {
        let events = admin.get("/events?category=task&limit=200").await.expect(200);
        let last = events["items"].as_array().unwrap().last().unwrap()["recorded_at"].as_str().unwrap().to_owned();
        last.parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    };
    let mut moments = vec![(now().await, (0, 0))];
    let claim = admin.act(&format!("/campaigns/{id}/tasks/claim")).await.expect(200);
    let complete = json!({"call_id": claim["call_id"], "outcome": "success"});
    admin.post(&format!("/tasks/{}/complete", claim["task"]["id"].as_str().unwrap()), &complete).await.expect(200);
    moments.push((now().await, (1, 0)));
    // The last attempt's lease expires, and its worker still completes the task.
    let call_id = Uuid::now_v7();
    let late = claim_for_a_second(&platform, &context, &id, call_id).await;
    until(&admin, &format!("/tasks/{}", late.task_id), "/status", json!("failed")).await;
    moments.push((now().await, (1, 1)));
    admin.post(&format!("/tasks/{}/complete", late.task_id), &json!({"call_id": call_id, "outcome": "success"})).await.expect(200);
    moments.push((now().await, (2, 0)));
    for (moment, expected) in moments {
        assert_eq!(counts(moment).await, expected, "{moment}");
    }
    platform.stop().await;
}

/// Pages in other languages show their own sentences for codes.
#[tokio::test]
async fn a_refusal_has_a_code_with_arguments() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.campaign(json!({})).await;
    let refused = admin.act(&format!("/campaigns/{campaign}/start")).await;
    assert_eq!((&refused["code"], refused.body.get("args"), refused.body.get("errors")), (&json!("campaign_no_tasks"), None, None));
    refused.problem(409);
    let wrong = json!({"name": "x".repeat(201), "max_retries": 99, "end_time": "2026-01-01T00:00:00Z",
                       "start_time": "2026-01-02T00:00:00Z"});
    let wrong = admin.put(&format!("/campaigns/{campaign}"), &wrong).await;
    let errors =
        wrong["errors"].as_array().unwrap().iter().map(|error| (error["path"].as_str().unwrap(), &error["code"], error.get("args")));
    let mut errors: Vec<_> = errors.collect();
    errors.sort_unstable_by_key(|(path, ..)| *path);
    assert_eq!(
        errors,
        [
            ("end_time", &json!("not_after"), Some(&json!({"field": "start_time"}))),
            ("max_retries", &json!("out_of_range"), Some(&json!({"min": "1", "max": "20"}))),
            ("name", &json!("too_long"), Some(&json!({"max": 200}))),
        ]
    );
    wrong.problem(422);
    let zone = admin.put(&format!("/campaigns/{campaign}"), &json!({"timezone": "Mars"})).await;
    assert_eq!((&zone["errors"][0]["code"], zone["errors"][0].get("args")), (&json!("not_a_time_zone"), None));
    let unknown = admin.post("/calls", &json!({"direction": "sideways", "phone_number": "12"})).await;
    assert_eq!(unknown["errors"][0]["code"], "malformed");
    unknown.problem(422);
    platform.stop().await;
}
