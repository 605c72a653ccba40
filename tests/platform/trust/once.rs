//! Commands take effect once.

use std::{collections::HashSet, process::Stdio, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Client, MASTER_KEY, Platform, binary, new_database, seed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_equal_requests_at_once_have_one_effect_and_one_answer() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(60, json!({"max_concurrent_calls": 60, "calls_per_minute": 1000})).await;
    let claims = (0..50).map(|_| {
        let request = admin.request(Method::POST, &format!("/campaigns/{campaign}/tasks/claim")).header("idempotency-key", "once");
        admin.send(request)
    });
    let answers = futures::future::join_all(claims).await;
    let bodies: HashSet<String> = answers.iter().map(|answer| answer.body.to_string()).collect();
    assert!(bodies.len() == 1 && answers.iter().all(|answer| answer.status == 200), "{bodies:?}");
    assert_eq!(admin.get(&format!("/campaigns/{campaign}/stats")).await["attempts"], 1);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_twice_under_one_key_is_registering_once() {
    let platform = Platform::start().await;
    let nobody = platform.anonymous();
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    let register = |body: &Value| nobody.send(nobody.request(Method::POST, "/auth/register").header("idempotency-key", "k").json(body));
    let answers = futures::future::join_all((0..10).map(|_| register(&body))).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
    // Another client that chose the same key.
    let other = json!({"email": "b@example.com", "password": "correct horse", "company_name": "B"});
    assert_ne!(register(&other).await.expect(201)["company"]["id"], answers[0]["company"]["id"]);
    platform.stop().await;
}

/// The process is killed at random moments while commands are in flight; each is repeated under its key until it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_between_effect_and_answer_has_done_it_once() {
    let newvoice = binary("newvoice");
    let url = new_database().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = || {
        let mut command = std::process::Command::new(&newvoice);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--seal-every-sec", "0"]).env("DATABASE_URL", &url);
        command.env("NEWVOICE_MASTER_KEY", MASTER_KEY).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut process = start();
    let nobody = Client::new(&format!("http://127.0.0.1:{port}"), None);
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    let registered = until_answered(|| nobody.request(Method::POST, "/auth/register").header("idempotency-key", "r").json(&body)).await;
    let admin = nobody.with_token(registered["token"].as_str().unwrap());
    let mut answered = Vec::new();
    let mut rng = StdRng::seed_from_u64(seed());
    let moments: [u64; 6] = std::array::from_fn(|_| rng.random_range(0..20_000));
    for (round, moment) in moments.into_iter().enumerate() {
        let keys: Vec<String> = (0..8).map(|n| format!("{round}-{n}")).collect();
        let calls = keys.iter().map(|key| {
            let body = json!({"direction": "inbound", "phone_number": "+12025550100"});
            let admin = &admin;
            until_answered(move || admin.request(Method::POST, "/calls").header("idempotency-key", key).json(&body))
        });
        let kill = async {
            tokio::time::sleep(Duration::from_micros(moment)).await;
            process.kill().unwrap();
            process.wait().unwrap();
            process = start();
        };
        let (answers, ()) = tokio::join!(futures::future::join_all(calls), kill);
        answered.extend(answers.into_iter().map(|answer| answer["id"].as_str().unwrap().to_owned()));
    }
    let distinct: HashSet<_> = answered.iter().collect();
    assert_eq!((distinct.len(), answered.len()), (48, 48));
    let started = admin.get("/events?event_type=CallStarted&limit=200").await.expect(200);
    assert_eq!(started["items"].as_array().unwrap().len(), 48, "each of them once");
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Repeats the request, as a client would, until an answer confirms it.
async fn until_answered(request: impl Fn() -> reqwest::RequestBuilder) -> Value {
    for _ in 0..1_200 {
        if let Ok(response) = request().timeout(Duration::from_secs(5)).send().await
            && response.status().is_success()
            && let Ok(body) = response.json().await
        {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody answered");
}
