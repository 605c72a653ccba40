use std::sync::Arc;

use serde_json::json;
use services::identity::credentials;
use support::{Platform, Proxy, new_database};

#[tokio::test]
async fn a_company_registers_and_its_admin_logs_in() {
    let platform = Platform::start().await;
    let nobody = platform.anonymous();
    let body = json!({"email": "Ada@Example.com", "password": "correct horse", "company_name": "Ada & Sons", "company_slug": "ada"});
    let registered = nobody.post("/auth/register", &body).await.expect(201);
    assert_eq!(registered["user"]["role"], "admin");
    assert_eq!(registered["company"]["slug"], "ada");
    nobody.post("/auth/login", &json!({"email": "ada@example.com", "password": "wrong horse"})).await.problem(401);
    nobody.post("/auth/login", &json!({"email": "nobody@example.com", "password": "wrong horse"})).await.problem(401);
    let login = nobody.post("/auth/login", &json!({"email": "ADA@example.com", "password": "correct horse"})).await.expect(200);
    let ada = nobody.with_token(login["token"].as_str().unwrap());
    let me = ada.get("/auth/me").await.expect(200);
    assert_eq!(me["user"]["email"], "ada@example.com");
    assert_eq!(me["company"]["name"], "Ada & Sons");
    // The address and the slug are taken now.
    nobody.post("/auth/register", &body).await.problem(409);
    nobody
        .post("/auth/register", &json!({"email": "b@example.com", "password": "correct horse", "company_name": "B", "company_slug": "ada"}))
        .await
        .problem(409);
    // A refused registration leaves the address free.
    nobody
        .post("/auth/register", &json!({"email": "b@example.com", "password": "correct horse", "company_name": "B", "company_slug": "b"}))
        .await
        .expect(201);
    platform.stop().await;
}

#[tokio::test]
async fn registering_says_everything_that_is_wrong() {
    let platform = Platform::start().await;
    let answer =
        platform.anonymous().post("/auth/register", &json!({"email": "x", "password": "short", "company_name": " "})).await.problem(422);
    assert_eq!(answer.paths(), ["email", "password", "company_name"]);
    let answer = platform
        .anonymous()
        .post("/auth/register", &json!({"email": "a@b", "password": "long enough", "company_name": "C", "admin": true}))
        .await
        .problem(422);
    assert_eq!(answer.paths(), ["admin"]);
    platform.stop().await;
}

#[tokio::test]
async fn each_role_may_do_what_it_is_for() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let mut keys = Vec::new();
    for role in ["viewer", "agent", "manager", "auditor"] {
        let issued = admin.post("/api-keys", &json!({"name": role, "role": role})).await.expect(201);
        keys.push((issued.id(), admin.with_token(issued["key"].as_str().unwrap())));
    }
    let [(_, viewer), (agent_id, agent), (_, manager), (_, auditor)] = keys.try_into().ok().unwrap();
    viewer.get("/campaigns").await.expect(200);
    viewer.act(&format!("/campaigns/{campaign}/tasks/claim")).await.problem(403);
    agent.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    agent.act(&format!("/campaigns/{campaign}/pause")).await.problem(403);
    manager.act(&format!("/campaigns/{campaign}/pause")).await.expect(200);
    manager.get("/api-keys").await.problem(403);
    manager.get("/audit").await.problem(403);
    for path in ["/audit", "/users", "/campaigns", "/events?category=api_key"] {
        assert!(!auditor.get(path).await.expect(200)["items"].as_array().unwrap().is_empty(), "{path}");
    }
    assert_eq!(manager.get("/events?category=api_key").await.expect(200)["items"], json!([]));
    auditor.act(&format!("/campaigns/{campaign}/tasks/claim")).await.problem(403);
    auditor.get("/api-keys").await.problem(403);
    manager.post("/price-lists", &json!({})).await.problem(403);
    assert_eq!(admin.get("/api-keys").await.expect(200)["items"].as_array().unwrap().len(), 4);
    admin.delete(&format!("/api-keys/{agent_id}")).await.expect(204);
    agent.get("/campaigns").await.problem(401);
    admin.delete(&format!("/api-keys/{}", uuid::Uuid::new_v4())).await.problem(404);
    platform.stop().await;
}

#[tokio::test]
async fn credentials_that_prove_nothing_are_401() {
    let platform = Platform::start().await;
    platform.anonymous().get("/campaigns").await.problem(401);
    for token in ["", "nonsense", "nvk_0000", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."] {
        platform.anonymous().with_token(token).get("/campaigns").await.problem(401);
    }
    platform.stop().await;
}

#[tokio::test]
async fn companies_do_not_see_each_other() {
    let platform = Platform::start().await;
    let (a, b) = (platform.admin().await, platform.admin().await);
    let campaign = a.running_campaign(1, json!({})).await;
    let claim = a.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let (task, call) = (claim["task"]["id"].as_str().unwrap(), claim["call_id"].as_str().unwrap());
    let skillbase = a.get("/skillbases").await["items"][0]["id"].as_str().unwrap().to_owned();
    for path in [
        format!("/campaigns/{campaign}"),
        format!("/campaigns/{campaign}/stats"),
        format!("/campaigns/{campaign}/tasks"),
        format!("/campaigns/{campaign}/history"),
        format!("/tasks/{task}"),
        format!("/tasks/{task}/history"),
        format!("/calls/{call}"),
        format!("/calls/{call}/history"),
        format!("/analytics/calls/{call}/costs"),
        format!("/analytics/calls/{call}/metrics"),
        format!("/analytics/calls/{call}/turns"),
        format!("/skillbases/{skillbase}"),
        format!("/skillbases/{skillbase}/versions"),
        format!("/skillbases/{skillbase}/for-call"),
    ] {
        b.get(&path).await.problem(404);
        a.get(&path).await.expect(200);
    }
    b.act(&format!("/campaigns/{campaign}/start")).await.problem(404);
    b.act(&format!("/campaigns/{campaign}/tasks/claim")).await.problem(404);
    b.upload(&campaign, "a.csv", b"phone_number\n+12025550100\n".to_vec()).await.problem(404);
    b.post(&format!("/tasks/{task}/complete"), &json!({"call_id": call, "outcome": "success"})).await.problem(404);
    b.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0})).await.problem(404);
    b.post("/calls", &json!({"call_id": call, "direction": "outbound", "phone_number": "+12025550100"})).await.problem(409);
    b.post("/campaigns", &json!({"name": "x", "skillbase_id": skillbase})).await.problem(422);
    let own: Vec<_> = b.get("/events").await["items"].as_array().unwrap().iter().map(|e| e["event_type"].clone()).collect();
    assert_eq!(own, ["NameReserved", "CompanyRegistered", "UserRegistered", "PriceListPublished"]);
    platform.stop().await;
}

#[tokio::test]
async fn the_company_can_be_changed_under_its_etag() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let before = admin.get("/company").await.expect(200);
    let etag = before.header("etag").unwrap().to_owned();
    let put = |body: serde_json::Value| admin.send(admin.request(reqwest::Method::PUT, "/company").header("if-match", &etag).json(&body));
    put(json!({"name": "New name", "email": "office@example.com"})).await.expect(200);
    put(json!({"name": "Newer name"})).await.problem(412);
    let after = admin.get("/company").await.expect(200);
    assert_eq!((&after["name"], &after["email"]), (&json!("New name"), &json!("office@example.com")));
    admin.put("/company", &json!({"email": null})).await.expect(200);
    assert_eq!(admin.get("/company").await["email"], json!(null));
    platform.stop().await;
}

#[tokio::test]
async fn two_companies_may_have_one_name_and_get_their_own_slugs() {
    let platform = Platform::start().await;
    let nobody = platform.anonymous();
    let register = async |email: &str| {
        let body = json!({"email": email, "password": "correct horse", "company_name": "Фирма"});
        nobody.post("/auth/register", &body).await.expect(201)
    };
    let slug = |answer: &support::Answer| answer["company"]["slug"].as_str().unwrap().to_owned();
    let (first, second) = (register("a@example.com").await, register("b@example.com").await);
    assert_eq!(slug(&first), "company");
    assert!(slug(&second).starts_with("company-"));
    platform.stop().await;
}

#[tokio::test]
async fn a_registration_that_was_cut_off_leaves_its_address_free_after_a_while() {
    let platform = Platform::start().await;
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    let pool = &platform.app().owner;
    // Simulates a crash between the credentials and the log.
    let insert = "insert into user_credentials (email_hash, user_id, company_id, role, password_hash, pending_since) values ($1, gen_random_uuid(), gen_random_uuid(), 'admin', 'x', $2)";
    let email_hash = credentials::email_hash(&support::master_key(), "a@example.com");
    sqlx::query(insert).bind(email_hash).bind(eventstore::now()).execute(pool).await.unwrap();
    platform.anonymous().post("/auth/register", &body).await.problem(409);
    sqlx::query("update user_credentials set pending_since = now() - interval '1 hour'").execute(pool).await.unwrap();
    platform.anonymous().post("/auth/register", &body).await.expect(201);
    platform.stop().await;
}

#[tokio::test]
async fn users_and_keys_are_for_admins_to_see() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let key = admin.post("/api-keys", &json!({"name": "v", "role": "viewer"})).await.expect(201);
    let viewer = admin.with_token(key["key"].as_str().unwrap());
    let types = |answer: support::Answer| {
        answer["items"].as_array().unwrap().iter().map(|e| e["event_type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = types(admin.get("/events").await);
    assert!(all.contains(&"UserRegistered".to_owned()) && all.contains(&"ApiKeyIssued".to_owned()));
    assert_eq!(types(viewer.get("/events").await), ["NameReserved", "CompanyRegistered", "PriceListPublished"]);
    assert!(types(viewer.get(&format!("/events?stream=api_key-{}", key.id())).await).is_empty());
    platform.stop().await;
}

/// Another admin revokes a key between its event and its credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_while_it_is_issued_is_never_valid() {
    let (proxy, url) = Proxy::before(&new_database().await).await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let (other, owner) = (Arc::new(admin.with_token(admin.token.as_deref().unwrap())), platform.app().owner.clone());
    let revoker = Arc::clone(&other);
    let revoke = async move {
        let stream: String =
            sqlx::query_scalar("select stream from events where event_type = 'ApiKeyIssued'").fetch_one(&owner).await.unwrap();
        let id = stream.strip_prefix("api_key-").unwrap();
        // The second request is from a client that lost the answer.
        for _ in 0..2 {
            revoker.delete(&format!("/api-keys/{id}")).await.expect(204);
        }
    };
    proxy.hold_at(&["insert into api_key_credentials"], revoke);
    let refused = admin.post("/api-keys", &json!({"name": "k", "role": "admin"})).await.problem(409);
    assert!(refused.body.to_string().contains("revoked meanwhile"), "{}", refused.body);
    let valid = "select count(*) from api_key_credentials where revoked_at is null";
    assert_eq!(sqlx::query_scalar::<_, i64>(valid).fetch_one(&platform.app().owner).await.unwrap(), 0);
    assert_eq!(other.get("/api-keys").await.expect(200)["items"], json!([]));
    // A key that was never issued cannot be revoked, and the attempt leaves no row.
    admin.delete(&format!("/api-keys/{}", uuid::Uuid::new_v4())).await.problem(404);
    let rows = sqlx::query_scalar::<_, i64>("select count(*) from api_key_credentials").fetch_one(&platform.app().owner).await.unwrap();
    assert_eq!(rows, 1);
    platform.stop().await;
}
