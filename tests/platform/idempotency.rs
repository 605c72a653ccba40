use reqwest::Method;
use serde_json::json;
use support::Platform;

#[tokio::test]
async fn many_equal_requests_have_one_effect_and_one_answer() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let body = json!({"direction": "inbound", "phone_number": "+12025550100"});
    let post = |key: &'static str, body| admin.send(admin.request(Method::POST, "/calls").header("idempotency-key", key).json(body));
    let answers = futures::future::join_all((0..20).map(|_| post("one", &body))).await;
    let ids: std::collections::HashSet<_> = answers.iter().map(|a| a["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|a| a.header("idempotent-replayed").is_none()).count(), 1);
    assert!(answers.iter().all(|a| a.status == 201 && a.position() == answers[0].position()));
    let other = json!({"direction": "outbound", "phone_number": "+12025550100"});
    post("one", &other).await.problem(422);
    assert_ne!(post("two", &body).await.expect(201).id(), answers[0].id());
    // Another company's key is another key.
    let stranger = platform.admin().await;
    let theirs = stranger.send(stranger.request(Method::POST, "/calls").header("idempotency-key", "one").json(&other)).await.expect(201);
    assert!(!ids.contains(&theirs.id()));
    // Refusals are answers, too.
    let broken = json!({"direction": "sideways"});
    let first = post("three", &broken).await.problem(422);
    let again = post("three", &broken).await.expect(422);
    assert_eq!((first.body, again.header("idempotent-replayed")), (again.body.clone(), Some("true")));
    admin.send(admin.request(Method::POST, "/calls").header("idempotency-key", "x".repeat(256)).json(&body)).await.problem(400);
    platform.stop().await;
}

/// As after a crash between effect and answer: the effect is in the log, the answer was never kept.
#[tokio::test]
async fn a_request_whose_answer_was_lost_finds_its_effect() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(5, json!({"max_concurrent_calls": 5})).await;
    let claim =
        || admin.send(admin.request(Method::POST, &format!("/campaigns/{campaign}/tasks/claim")).header("idempotency-key", "claim"));
    let create = || {
        let body = json!({"name": "Bot", "slug": "lost", "config": support::skillbase_config()});
        admin.send(admin.request(Method::POST, "/skillbases").header("idempotency-key", "create").json(&body))
    };
    let (claimed, created) = (claim().await.expect(200), create().await.expect(201));
    sqlx::query("update idempotency_keys set status = null, body = null, locked_until = '-infinity'")
        .execute(&platform.app().pool)
        .await
        .unwrap();
    let (claimed_again, created_again) = (claim().await.expect(200), create().await.expect(201));
    assert_eq!((&claimed["call_id"], &claimed["task"]["id"]), (&claimed_again["call_id"], &claimed_again["task"]["id"]));
    assert_eq!(created.body, created_again.body);
    assert_eq!(admin.get(&format!("/campaigns/{campaign}/stats")).await["attempts"], 1);
    platform.stop().await;
}
