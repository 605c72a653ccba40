use std::{sync::Arc, time::Duration};

use newvoice_api::settings::RegistrationMode;
use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};
use support::{Client, Platform, Proxy, new_database};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

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
    // The same key of another company is independent.
    let stranger = platform.admin().await;
    let theirs = stranger.send(stranger.request(Method::POST, "/calls").header("idempotency-key", "one").json(&other)).await.expect(201);
    assert!(!ids.contains(&theirs.id()));
    // Refusals are stored answers, too.
    let broken = json!({"direction": "sideways"});
    let first = post("three", &broken).await.problem(422);
    let again = post("three", &broken).await.expect(422);
    assert_eq!((first.body, again.header("idempotent-replayed")), (again.body.clone(), Some("true")));
    platform.stop().await;
}

/// A refusal that is not final leaves no row, and a body that will be refused is not awaited.
#[tokio::test]
async fn a_refused_key_is_not_kept() {
    let platform = Platform::configured(|settings| settings.identity.registration = RegistrationMode::Closed).await;
    let keyed = async |client: &Client, path: &str, body: &Value| {
        client.send(client.request(Method::POST, path).header("idempotency-key", "key").json(body)).await
    };
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    keyed(&platform.anonymous(), "/auth/register", &body).await.problem(403);
    let keys = "select count(*) from idempotency_keys";
    assert_eq!(sqlx::query_scalar::<_, i64>(keys).fetch_one(&platform.app().owner).await.unwrap(), 0);
    let url = platform.database_url.clone();
    platform.stop().await;

    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let viewer =
        admin.with_token(admin.post("/api-keys", &json!({"name": "v", "role": "viewer"})).await.expect(201)["key"].as_str().unwrap());
    keyed(&viewer, "/campaigns", &json!({})).await.problem(403);
    keyed(&platform.anonymous(), "/auth/register", &json!({"x".repeat(10_000): 1})).await.problem(422);
    keyed(&platform.anonymous(), "/auth/register", &json!({"email": "b@example.com"})).await.problem(422);
    assert_eq!(sqlx::query_scalar::<_, i64>(keys).fetch_one(&platform.app().owner).await.unwrap(), 0);
    let address = platform.base().trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /api/v1/campaigns HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: large\r\n\
         content-type: application/json\r\ncontent-length: 30000000\r\nexpect: 100-continue\r\n\r\n",
        viewer.token.as_ref().unwrap()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403", "the body is asked for");
    platform.stop().await;
}

/// The first request waits for the database, and the second one reaches the database before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_equal_requests_one_runs_whichever_reaches_the_database_first() {
    let (proxy, url) = Proxy::before(&new_database().await).await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let [first_came, go, ran] = std::array::from_fn(|_| Arc::new(Notify::new()));
    let body = json!({"email": "b@example.com", "role": "viewer"});
    let invite = || admin.send(admin.request(Method::POST, "/users").header("idempotency-key", "invite").json(&body));
    let hold = {
        let (first_came, go) = (Arc::clone(&first_came), Arc::clone(&go));
        async move {
            first_came.notify_one();
            go.notified().await;
        }
    };
    proxy.hold_at(&["insert into idempotency_keys"], hold);
    let second = async {
        first_came.notified().await;
        let running = Arc::clone(&ran);
        let hold = async move {
            running.notify_one();
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        proxy.hold_at(&["insert into user_credentials"], hold);
        let release = async {
            // Enough time for the second request to run, if it did.
            let _ = tokio::time::timeout(Duration::from_secs(1), ran.notified()).await;
            go.notify_one();
        };
        tokio::join!(invite(), release).0
    };
    let (first, second) = tokio::join!(invite(), second);
    let (first, second) = (first.expect(201), second.expect(201));
    assert_eq!(first["invitation"], second["invitation"], "each has an invitation of its own, and one of them is not valid");
    platform.stop().await;
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_everywhere() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let long = "x".repeat(256);
    for key in [b"".as_slice(), b"a\tb", "caf\u{e9}".as_bytes(), b"\xe9", long.as_bytes()] {
        // The last two issue credentials, and their answers are not stored.
        for path in ["/calls", "/auth/register", "/auth/login", "/auth/ticket"] {
            let key = HeaderValue::from_bytes(key).unwrap();
            let refused = admin.send(admin.request(Method::POST, path).header("idempotency-key", key)).await.problem(400);
            assert!(refused.body.to_string().contains("Idempotency-Key"), "{path}: {}", refused.body);
        }
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_path_of_any_length_is_no_error_of_ours() {
    let platform = Platform::start().await;
    let admin = platform.operator().await;
    // Random letters cannot be compressed; an index entry is limited to some kilobytes.
    let long: String = (0..200).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    for path in [format!("/projections/{long}/rebuild"), format!("/calls/{long}/end")] {
        for _ in 0..2 {
            let answer = admin.send(admin.request(Method::POST, &path).header("idempotency-key", "k").json(&json!({}))).await;
            assert!([400, 404].contains(&answer.status), "{} {}", answer.status, answer.body);
        }
    }
    platform.stop().await;
}

/// Simulates a crash between effect and answer: the effect is in the log, the answer was not stored.
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
    sqlx::query("update idempotency_keys set status = null, sealed_answer = null, locked_until = '-infinity'")
        .execute(&platform.app().owner)
        .await
        .unwrap();
    let (claimed_again, created_again) = (claim().await.expect(200), create().await.expect(201));
    assert_eq!((&claimed["call_id"], &claimed["task"]["id"]), (&claimed_again["call_id"], &claimed_again["task"]["id"]));
    assert_eq!(created.body, created_again.body);
    assert_eq!(admin.get(&format!("/campaigns/{campaign}/stats")).await["attempts"], 1);
    platform.stop().await;
}

/// A caller who has lost rights does not get the earlier answer; another caller never gets it.
#[tokio::test]
async fn a_stored_answer_is_for_its_caller_and_role_only() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let other = admin.invited("b@example.com", "admin").await;
    let body = json!({"name": "root", "role": "admin"});
    let issue = |client: &Client| client.request(Method::POST, "/api-keys").header("idempotency-key", "issue").json(&body);
    let issued = other.send(issue(&other)).await.expect(201);
    assert_eq!(other.send(issue(&other)).await.expect(201)["key"], issued["key"]);
    assert_ne!(admin.send(issue(&admin)).await.expect(201)["key"], issued["key"]);
    let id = other.get("/auth/me").await.expect(200)["user"]["id"].as_str().unwrap().to_owned();
    admin.put(&format!("/users/{id}"), &json!({"role": "viewer"})).await.expect(200);
    let refused = other.send(issue(&other)).await.problem(403);
    assert!(refused.get("key").is_none());
    let events = admin.get("/events?event_type=ApiKeyIssued").await;
    assert!(events["items"].as_array().unwrap().iter().all(|e| e["metadata"].get("idempotency_key").is_none()));
    platform.stop().await;
}

#[tokio::test]
async fn a_changed_resource_refuses_its_old_etag() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let path = format!("/campaigns/{id}");
    let etag = admin.get(&path).await.header("etag").unwrap().to_owned();
    let put = |name: String, etag: String| {
        let request = admin.request(Method::PUT, &path).header("if-match", etag).json(&json!({"name": name}));
        admin.send(request)
    };
    let answers = futures::future::join_all((0..12).map(|i| put(format!("name {i}"), etag.clone()))).await;
    assert_eq!(answers.iter().filter(|a| a.status == 200).count(), 1, "one of many with the same ETag");
    assert_eq!(answers.iter().filter(|a| a.status == 412).count(), 11);
    put("x".into(), "\"no-etag-of-ours\"".into()).await.problem(412);
    let nowhere =
        admin.request(Method::PUT, &format!("/campaigns/{}", uuid::Uuid::new_v4())).header("if-match", "\"1\"").json(&json!({"name": "x"}));
    admin.send(nowhere).await.problem(404);
    platform.stop().await;
}

#[tokio::test]
async fn concurrent_changes_of_different_fields_are_all_kept() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let path = format!("/campaigns/{id}");
    let changes = [
        json!({"name": "N"}),
        json!({"description": "D"}),
        json!({"calls_per_minute": 7}),
        json!({"max_retries": 2}),
        json!({"timezone": "Asia/Tokyo"}),
    ];
    futures::future::join_all(changes.iter().map(|change| admin.put(&path, change))).await.into_iter().for_each(|a| drop(a.expect(200)));
    let campaign = admin.get(&path).await;
    for change in changes {
        for (field, value) in change.as_object().unwrap() {
            assert_eq!(&campaign[field], value, "{field}");
        }
    }
    platform.stop().await;
}

/// Two workers whose software numbers its keys 1, 2, 3 are two callers, not one caller that repeats requests.
#[tokio::test]
async fn the_same_key_of_two_callers_stands_for_two_commands() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(3, json!({})).await;
    let mut workers = Vec::new();
    for name in ["a", "b"] {
        let key = admin.post("/api-keys", &json!({"name": name, "role": "agent"})).await.expect(201);
        workers.push(admin.with_token(key["key"].as_str().unwrap()));
    }
    let path = format!("/campaigns/{campaign}/tasks/claim");
    let claim = async |worker: &Client| worker.send(worker.request(Method::POST, &path).header("idempotency-key", "1")).await;
    let (first, second) = (claim(&workers[0]).await.expect(200), claim(&workers[1]).await.expect(200));
    assert_ne!(first["task"]["id"], second["task"]["id"]);
    assert_eq!(claim(&workers[0]).await.expect(200).body, first.body);
    platform.stop().await;
}

#[tokio::test]
async fn logging_out_under_a_used_key_ends_ones_own_session() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let other = admin.invited("b@example.com", "admin").await;
    let login = json!({"email": "b@example.com", "password": "correct horse"});
    let second_session = platform.anonymous().post("/auth/login", &login).await.expect(200);
    let second_session = platform.anonymous().signed_in(&second_session);
    for user in [&admin, &other, &second_session] {
        user.send(user.request(Method::POST, "/auth/logout").header("idempotency-key", "1")).await.expect(204);
        user.get("/campaigns").await.problem(401);
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_call_list_sent_again_under_its_key_may_have_another_file_name_and_type() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let upload = async |name: &str, content_type: &str, content: &str| {
        let part = reqwest::multipart::Part::bytes(content.as_bytes().to_vec()).file_name(name.to_owned()).mime_str(content_type).unwrap();
        let form = reqwest::multipart::Form::new().part("file", part);
        let request = admin.request(Method::POST, &format!("/campaigns/{id}/call-list")).header("idempotency-key", "list");
        admin.send(request.multipart(form)).await
    };
    let list = "phone_number\n+12025550100\n";
    let first = upload("list.csv", "text/csv", list).await.expect(200);
    let again = upload("list (1).csv", "application/vnd.ms-excel", list).await.expect(200);
    assert_eq!((again.body, again.headers.get("idempotent-replayed").is_some()), (first.body, true));
    upload("list.csv", "text/csv", "phone_number\n+12025550101\n").await.problem(422);
    platform.stop().await;
}
