//! Users who may log in, their credentials, and the lifetime of their sessions.

use chrono::{DateTime, TimeDelta, Utc};
use domain::role::Role;
use futures::{StreamExt as _, stream::FuturesUnordered};
use newvoice_api::settings::{BehindProxy, Settings};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answer, Client, Platform};
use uuid::Uuid;

async fn invited(platform: &Platform, admin: &Client, role: &str) -> (String, Client, Value) {
    let email = format!("{}@example.com", Uuid::new_v4().simple());
    let invited = admin.post("/users", &json!({"email": email, "role": role})).await.expect(201);
    let accept = json!({"invitation": invited["invitation"], "password": "correct horse"});
    let session = platform.anonymous().post("/auth/accept-invitation", &accept).await.expect(200);
    (invited.id(), admin.with_token(session["token"].as_str().unwrap()), json!({"email": email, "password": "correct horse"}))
}

#[tokio::test]
async fn a_user_is_invited_joins_changes_role_and_is_disabled() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let (id, user, login) = invited(&platform, &admin, "manager").await;
    let nobody = platform.anonymous();
    assert_eq!(user.get("/auth/me").await.expect(200)["user"]["role"], "manager");
    nobody.post("/auth/login", &login).await.expect(200);
    let listed = admin.get("/users").await.expect(200);
    let found = listed["items"].as_array().unwrap().iter().find(|item| item["id"] == id.as_str()).unwrap().clone();
    assert_eq!((&found["email"], &found["status"]), (&login["email"], &json!("active")));
    user.get("/users").await.problem(403);
    // The change is effective at once, although the token has the old role.
    admin.put(&format!("/users/{id}"), &json!({"role": "viewer"})).await.expect(200);
    user.post("/skillbases", &json!({})).await.problem(403);
    user.get("/campaigns").await.expect(200);
    admin.put(&format!("/users/{id}"), &json!({"disabled": true})).await.expect(200);
    user.get("/campaigns").await.problem(401);
    nobody.post("/auth/login", &login).await.problem(401);
    assert_eq!(admin.put(&format!("/users/{id}"), &json!({"disabled": false})).await.expect(200)["status"], "active");
    nobody.post("/auth/login", &login).await.expect(200);
    // Within the company, the answer may reveal that the user exists.
    admin.post("/users", &json!({"email": login["email"], "role": "viewer"})).await.problem(409);
    platform.stop().await;
}

#[tokio::test]
async fn an_invitation_counts_once_and_the_newest_only() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let nobody = platform.anonymous();
    let accept = |invitation: &Value| json!({"invitation": invitation, "password": "correct horse"});
    let first = admin.post("/users", &json!({"email": "u@example.com", "role": "agent"})).await.expect(201);
    let again = admin.act(&format!("/users/{}/invitation", first.id())).await.expect(201);
    nobody.post("/auth/accept-invitation", &accept(&first["invitation"])).await.problem(401);
    nobody.post("/auth/accept-invitation", &json!({"invitation": again["invitation"], "password": "short"})).await.problem(422);
    nobody.post("/auth/accept-invitation", &accept(&again["invitation"])).await.expect(200);
    nobody.post("/auth/accept-invitation", &accept(&again["invitation"])).await.problem(401);
    admin.act(&format!("/users/{}/invitation", first.id())).await.problem(409);
    admin.post("/users", &json!({"email": "no address", "role": "agent"})).await.problem(422);
    admin.post("/users", &json!({"email": "v@example.com", "role": "king"})).await.problem(422);
    platform.stop().await;
}

#[tokio::test]
async fn an_invitation_is_withdrawn_by_disabling_who_was_invited() {
    let platform = Platform::start().await;
    let (admin, other) = (platform.admin().await, platform.admin().await);
    let nobody = platform.anonymous();
    let body = json!({"email": "u@example.com", "role": "admin"});
    let accept = |invited: &Value| json!({"invitation": invited["invitation"], "password": "correct horse"});
    let invited = admin.post("/users", &body).await.expect(201);
    let path = format!("/users/{}", invited.id());
    assert_eq!(admin.put(&path, &json!({"disabled": true})).await.expect(200)["status"], "disabled");
    nobody.post("/auth/accept-invitation", &accept(&invited)).await.problem(401);
    admin.act(&format!("{path}/invitation")).await.problem(409);
    // Enabling does not renew the invitation, because another person may have the revoked one.
    assert_eq!(admin.put(&path, &json!({"disabled": false})).await.expect(200)["status"], "invited");
    nobody.post("/auth/accept-invitation", &accept(&invited)).await.problem(401);
    let again = admin.act(&format!("{path}/invitation")).await.expect(201);
    admin.put(&path, &json!({"disabled": true})).await.expect(200);
    nobody.post("/auth/accept-invitation", &accept(&again)).await.problem(401);
    // An invitation of another company is independent.
    let elsewhere = other.post("/users", &body).await.expect(201);
    nobody.post("/auth/accept-invitation", &accept(&elsewhere)).await.expect(200);
    assert_eq!(admin.put(&path, &json!({"disabled": false})).await.expect(200)["status"], "invited");
    platform.stop().await;
}

#[tokio::test]
async fn a_company_keeps_an_admin() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let me = admin.get("/auth/me").await["user"]["id"].as_str().unwrap().to_owned();
    admin.put(&format!("/users/{me}"), &json!({"disabled": true})).await.problem(409);
    admin.put(&format!("/users/{me}"), &json!({"role": "viewer"})).await.problem(409);
    let (id, other, _) = invited(&platform, &admin, "admin").await;
    let (mine, theirs) = (json!({"disabled": true}), json!({"disabled": true}));
    // Two admins disable each other at the same time: one of them is left.
    let (other_path, my_path) = (format!("/users/{id}"), format!("/users/{me}"));
    let (first, second) = tokio::join!(admin.put(&other_path, &mine), other.put(&my_path, &theirs));
    assert!((first.status == 200) != (second.status == 200), "{} {}", first.status, second.status);
    platform.stop().await;
}

#[tokio::test]
async fn a_session_continues_with_its_refresh_token_and_ends_when_a_used_one_comes_later() {
    let platform = Platform::start().await;
    let nobody = platform.anonymous();
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    let first = nobody.post("/auth/register", &body).await.expect(201);
    let refresh = |token: &Value| json!({"refresh_token": token});
    let second = nobody.post("/auth/refresh", &refresh(&first["refresh_token"])).await.expect(200);
    // Another tab of the same browser sends it at the same moment: both sessions continue.
    let third = nobody.post("/auth/refresh", &refresh(&first["refresh_token"])).await.expect(200);
    let second = nobody.post("/auth/refresh", &refresh(&second["refresh_token"])).await.expect(200);
    let user = nobody.with_token(second["token"].as_str().unwrap());
    user.get("/campaigns").await.expect(200);
    let third = nobody.post("/auth/refresh", &refresh(&third["refresh_token"])).await.expect(200);
    sqlx::query("update refresh_tokens set used_at = now() - interval '1 minute' where used_at is not null")
        .execute(&platform.app().owner)
        .await
        .unwrap();
    // A client that uses it later has stolen it, or it was stolen from that client: the session ends for both.
    nobody.post("/auth/refresh", &refresh(&first["refresh_token"])).await.problem(401);
    nobody.post("/auth/refresh", &refresh(&third["refresh_token"])).await.problem(401);
    user.get("/campaigns").await.problem(401);
    let login = nobody.post("/auth/login", &json!({"email": "a@example.com", "password": "correct horse"})).await.expect(200);
    let user = nobody.with_token(login["token"].as_str().unwrap());
    user.act("/auth/logout").await.expect(204);
    user.get("/campaigns").await.problem(401);
    nobody.post("/auth/refresh", &refresh(&login["refresh_token"])).await.problem(401);
    platform.stop().await;
}

#[tokio::test]
async fn a_session_ends_after_three_months_however_much_it_is_used() {
    let platform = Platform::start().await;
    let nobody = platform.anonymous();
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    let session = nobody.post("/auth/register", &body).await.expect(201);
    let lasts = |session: &Value| {
        let until: DateTime<Utc> = session["refresh_expires_at"].as_str().unwrap().parse().unwrap();
        until - Utc::now()
    };
    assert!((TimeDelta::days(29)..=TimeDelta::days(30)).contains(&lasts(&session)));
    let began = u64::try_from((Utc::now() - TimeDelta::days(89)).timestamp()).unwrap();
    sqlx::query("update refresh_tokens set family = $1")
        .bind(Uuid::new_v7(uuid::Timestamp::from_unix_time(began, 0, 0, 0)))
        .execute(&platform.app().owner)
        .await
        .unwrap();
    let refreshed = nobody.post("/auth/refresh", &json!({"refresh_token": session["refresh_token"]})).await.expect(200);
    assert!((TimeDelta::hours(23)..=TimeDelta::hours(24)).contains(&lasts(&refreshed)), "{}", lasts(&refreshed));
    let owner = &platform.app().owner;
    // Two days later; a token that was issued before sessions had an end has no end of its own.
    let began = Uuid::new_v7(uuid::Timestamp::from_unix_time(began - 2 * 86_400, 0, 0, 0));
    sqlx::query("update refresh_tokens set family = $1").bind(began).execute(owner).await.unwrap();
    nobody.post("/auth/refresh", &json!({"refresh_token": refreshed["refresh_token"]})).await.problem(401);
    // When the session ends, its tokens are rejected.
    let login = nobody.post("/auth/login", &json!({"email": "a@example.com", "password": "correct horse"})).await.expect(200);
    let user = nobody.with_token(login["token"].as_str().unwrap());
    user.get("/campaigns").await.expect(200);
    sqlx::query("update refresh_tokens set expires_at = now()").execute(owner).await.unwrap();
    platform.app().services.identity.callers.forget_all();
    user.get("/campaigns").await.problem(401);
    platform.stop().await;
}

#[tokio::test]
async fn guessing_a_password_takes_time_and_does_not_lock_others_out() {
    let platform = Platform::start().await;
    let nobody = platform.anonymous();
    let mut tokens = Vec::new();
    for email in ["a@example.com", "b@example.com"] {
        let body = json!({"email": email, "password": "correct horse", "company_name": "A"});
        tokens.push(nobody.post("/auth/register", &body).await.expect(201)["token"].as_str().unwrap().to_owned());
    }
    let guess = json!({"email": "a@example.com", "password": "wrong horse"});
    let guesses = futures::future::join_all((0..30).map(|_| nobody.post("/auth/login", &guess))).await;
    assert_eq!(guesses.iter().filter(|answer| answer.status == 401).count(), 10, "many at once are not more");
    let refused = guesses.iter().find(|answer| answer.status == 429).unwrap();
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    let right = json!({"email": "a@example.com", "password": "correct horse"});
    nobody.post("/auth/login", &right).await.problem(429);
    // A user whose password is guessed sees the number of guesses and refusals.
    let audit = nobody.with_token(&tokens[0]).get("/audit?limit=200").await.expect(200);
    let noted = |status| -> Vec<i64> {
        let entries = audit["items"].as_array().unwrap().iter().filter(|entry| entry["status"] == status);
        entries.map(|entry| entry["count"].as_i64().unwrap()).collect()
    };
    assert_eq!((noted(401), noted(429)), (vec![10], vec![21]));
    nobody.post("/auth/login", &json!({"email": "b@example.com", "password": "correct horse"})).await.expect(200);
    sqlx::query("update attempt_allowances set full_at = now()").execute(&platform.app().owner).await.unwrap();
    nobody.post("/auth/login", &right).await.expect(200);
    platform.stop().await;
}

/// A platform that trusts its proxy for the clients' addresses.
async fn behind_proxy(change: impl FnOnce(&mut Settings)) -> Platform {
    let mut settings = support::settings(&support::new_database().await);
    settings.http.behind_proxy = BehindProxy::XForwardedFor;
    change(&mut settings);
    Platform::start_with(settings).await
}

async fn post_from(client: &Client, address: &str, path: &str, body: &Value) -> Answer {
    client.send(client.request(Method::POST, path).header("x-forwarded-for", address).json(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_is_slowed_down_and_not_whom_they_guess() {
    let platform = behind_proxy(|_| {}).await;
    let nobody = platform.anonymous();
    let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
    post_from(&nobody, "203.0.113.1", "/auth/register", &body).await.expect(201);
    let (right, wrong) =
        (json!({"email": "a@example.com", "password": "correct horse"}), json!({"email": "a@example.com", "password": "wrong horse"}));
    post_from(&nobody, "203.0.113.1", "/auth/login", &right).await.expect(200);
    for network in 0..10 {
        let address = format!("198.51.100.{network}");
        let guesses = futures::future::join_all((0..10).map(|_| post_from(&nobody, &address, "/auth/login", &wrong))).await;
        assert!(guesses.iter().all(|answer| answer.status == 401), "{network}");
    }
    post_from(&nobody, "198.51.100.0", "/auth/login", &right).await.problem(429);
    // On the network from which the user has logged in before, nothing changes; elsewhere, attempts run one after the other.
    sqlx::query("update attempt_allowances set full_at = now() + interval '1 hour'").execute(&platform.app().owner).await.unwrap();
    let used_up = async || {
        let count = "select count(*) from attempt_allowances where full_at > now() + interval '59 minutes'";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&platform.app().owner).await.unwrap()
    };
    let before = used_up().await;
    post_from(&nobody, "203.0.113.1", "/auth/login", &right).await.expect(200);
    assert_eq!(used_up().await, before, "a login that has taken nothing gives nothing back");
    let addresses: Vec<_> = (1..=5).map(|network| format!("192.0.2.{network}")).collect();
    let mut attempts: FuturesUnordered<_> = addresses.iter().map(|address| post_from(&nobody, address, "/auth/login", &right)).collect();
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) {
        statuses.push(attempts.next().await.expect("an attempt is refused").status);
    }
    // As many attempts as may wait are waiting now: an attempt from the known network does not need to wait.
    post_from(&nobody, "203.0.113.1", "/auth/login", &right).await.expect(200);
    statuses.extend(attempts.map(|answer| answer.status).collect::<Vec<_>>().await);
    assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    platform.stop().await;
}

#[tokio::test]
async fn several_companies_may_invite_one_address_and_whoever_joins_first_has_it() {
    let platform = Platform::start().await;
    let (one, two) = (platform.admin().await, platform.admin().await);
    let nobody = platform.anonymous();
    let invite = json!({"email": "Ceo@BigCorp.example", "role": "viewer"});
    let invited = [one.post("/users", &invite).await.expect(201), two.post("/users", &invite).await.expect(201)];
    one.post("/users", &json!({"email": "ceo@bigcorp.example", "role": "viewer"})).await.problem(409);
    let accept = |n: usize| json!({"invitation": invited[n]["invitation"], "password": "correct horse"});
    // The invitations do not prevent a registration with the address.
    let body = json!({"email": "ceo@bigcorp.example", "password": "correct horse", "company_name": "Big"});
    nobody.post("/auth/register", &body).await.expect(201);
    for n in [0, 1] {
        nobody.post("/auth/accept-invitation", &accept(n)).await.problem(409);
    }
    let session = nobody.post("/auth/login", &json!({"email": "ceo@bigcorp.example", "password": "correct horse"})).await.expect(200);
    assert_eq!(nobody.with_token(session["token"].as_str().unwrap()).get("/auth/me").await["company"]["name"], "Big");
    platform.stop().await;
}

#[tokio::test]
async fn addresses_and_names_that_look_like_others_are_refused() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let nobody = platform.anonymous();
    let register = |email: &str, name: &str| json!({"email": email, "password": "correct horse", "company_name": name});
    for email in ["adm\u{131}n@example.com", "a\u{200b}b@example.com", "\u{202e}ab@example.com"] {
        assert_eq!(nobody.post("/auth/register", &register(email, "A")).await.problem(422).paths(), ["email"], "{email:?}");
        assert_eq!(admin.post("/users", &json!({"email": email, "role": "viewer"})).await.problem(422).paths(), ["email"], "{email:?}");
    }
    assert_eq!(nobody.post("/auth/register", &register("a@example.com", "A\u{202e}B")).await.problem(422).paths(), ["company_name"]);
    assert_eq!(admin.post("/api-keys", &json!({"name": "k\u{200b}", "role": "viewer"})).await.problem(422).paths(), ["name"]);
    nobody.post("/auth/register", &register("caf\u{e9}@example.com", "A")).await.expect(201);
    nobody.post("/auth/register", &register("cafe\u{301}@EXAMPLE.com", "A")).await.problem(409);
    for password in ["password", "12345678", "        ", "aaaaaaaa", "qwertyuiop"] {
        let body = json!({"email": "b@example.com", "password": password, "company_name": "B"});
        assert_eq!(nobody.post("/auth/register", &body).await.problem(422).paths(), ["password"], "{password}");
    }
    platform.stop().await;
}

/// Rights that are revoked between the issue of a ticket and its use.
#[tokio::test]
async fn a_ticket_is_worth_what_its_caller_may_do_when_it_is_used() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let ticket = async |client: &Client| client.act("/auth/ticket").await.expect(200)["ticket"].as_str().unwrap().to_owned();
    let stream = async |ticket: &str| {
        let url = format!("{}/api/v1/events/stream?after=0&ticket={ticket}", platform.base());
        reqwest::get(url).await.unwrap().status().as_u16()
    };
    let (id, user, _) = invited(&platform, &admin, "viewer").await;
    assert_eq!(stream(&ticket(&user).await).await, 200);
    let given = ticket(&user).await;
    admin.put(&format!("/users/{id}"), &json!({"disabled": true})).await.expect(200);
    assert_eq!(stream(&given).await, 401, "disabled");
    let (_, user, _) = invited(&platform, &admin, "viewer").await;
    let given = ticket(&user).await;
    user.act("/auth/logout").await.expect(204);
    assert_eq!(stream(&given).await, 401, "logged out");
    let key = admin.post("/api-keys", &json!({"name": "k", "role": "viewer"})).await.expect(201);
    let given = ticket(&admin.with_token(key["key"].as_str().unwrap())).await;
    admin.delete(&format!("/api-keys/{}", key.id())).await.expect(204);
    assert_eq!(stream(&given).await, 401, "revoked");
    platform.stop().await;
}

#[tokio::test]
async fn one_client_does_not_register_for_ever() {
    let platform = behind_proxy(|settings| settings.identity.registrations_per_hour = 2).await;
    let nobody = platform.anonymous();
    let register = |email: &str| json!({"email": email, "password": "correct horse", "company_name": "A"});
    post_from(&nobody, "203.0.113.1", "/auth/register", &register("a@example.com")).await.expect(201);
    post_from(&nobody, "203.0.113.1", "/auth/register", &register("a@example.com")).await.problem(409);
    let refused = post_from(&nobody, "203.0.113.1", "/auth/register", &register("b@example.com")).await.problem(429);
    assert!((1..=1_800).contains(&refused.header("retry-after").unwrap().parse::<u32>().unwrap()));
    post_from(&nobody, "203.0.113.2", "/auth/register", &register("b@example.com")).await.expect(201);
    sqlx::query("update attempt_allowances set full_at = now()").execute(&platform.app().owner).await.unwrap();
    post_from(&nobody, "203.0.113.1", "/auth/register", &register("c@example.com")).await.expect(201);
    platform.stop().await;
}

#[tokio::test]
async fn refresh_tokens_and_invitations_are_not_guessed() {
    let platform = Platform::configured(|settings| settings.rates.of_guesses = 4).await;
    let nobody = platform.anonymous();
    for _ in 0..2 {
        nobody.post("/auth/refresh", &json!({"refresh_token": "nvr_x"})).await.problem(401);
        nobody.post("/auth/accept-invitation", &json!({"invitation": "nvi_x", "password": "correct horse"})).await.problem(401);
    }
    nobody.post("/auth/refresh", &json!({"refresh_token": "nvr_x"})).await.problem(429);
    nobody.post("/auth/accept-invitation", &json!({"invitation": "nvi_x", "password": "correct horse"})).await.problem(429);
    platform.stop().await;
}

/// Simulates that the process dies or the log is unavailable in between: no user has more rights than the log grants.
#[tokio::test]
async fn rights_are_gone_before_the_log_says_so_and_there_only_once_it_does() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let (id, user, _) = invited(&platform, &admin, "manager").await;
    let key = admin.post("/api-keys", &json!({"name": "k", "role": "viewer"})).await.expect(201);
    let holder = admin.with_token(key["key"].as_str().unwrap());
    let (user_path, key_path) = (format!("/users/{id}"), format!("/api-keys/{}", key.id()));
    // With another version required, nothing is changed.
    let stale = admin.request(reqwest::Method::DELETE, &key_path).header("if-match", "\"7\"");
    admin.send(stale).await.problem(412);
    let stale = admin.request(reqwest::Method::PUT, &user_path).header("if-match", "\"7\"");
    admin.send(stale.json(&json!({"disabled": true}))).await.problem(412);
    for client in [&user, &holder] {
        client.get("/campaigns").await.expect(200);
    }
    let rename = async |sql: &'static str| sqlx::raw_sql(sql).execute(&platform.app().owner).await.unwrap();
    rename("alter table log_head rename to away").await;
    admin.put(&user_path, &json!({"role": "admin"})).await.problem(503);
    user.post("/users", &json!({})).await.problem(403);
    user.post("/skillbases", &json!({})).await.problem(422);
    admin.put(&user_path, &json!({"role": "viewer", "disabled": false})).await.problem(503);
    user.post("/skillbases", &json!({})).await.problem(403);
    admin.put(&user_path, &json!({"disabled": true})).await.problem(503);
    admin.delete(&key_path).await.problem(503);
    for client in [&user, &holder] {
        client.send(client.request(reqwest::Method::GET, "/auth/me")).await.problem(401);
    }
    rename("alter table away rename to log_head").await;
    // A repeated request brings the log up to date.
    assert_eq!(admin.put(&user_path, &json!({"disabled": true})).await.expect(200)["status"], "disabled");
    admin.delete(&key_path).await.expect(204);
    let history = admin.get(&format!("/events?stream=api_key-{}", key.id())).await.expect(200);
    assert_eq!(history["items"].as_array().unwrap().last().unwrap()["event_type"], "ApiKeyRevoked");
    platform.stop().await;
}

/// One admin disables a user, and before the event is in the log, another admin enables the user in another process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_admins_at_once_leave_what_the_log_says() {
    let settings = support::settings(&support::new_database().await);
    let (platform, elsewhere) = (Platform::start_with(settings.clone()).await, Platform::start_with(settings).await);
    let admin = platform.admin().await;
    let (id, user, login) = invited(&platform, &admin, "viewer").await;
    let path = format!("/users/{id}");
    let mut log = platform.app().owner.begin().await.unwrap();
    sqlx::raw_sql("lock table log_head in exclusive mode").execute(&mut *log).await.unwrap();
    let (disable, enable) = (json!({"disabled": true}), json!({"disabled": false}));
    let other = admin.at(&elsewhere.base());
    let disabling = admin.put(&path, &disable);
    let enabling = async {
        // The user's rights are already revoked, and the first admin's event waits.
        while user.get("/auth/me").await.status != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        other.put(&path, &enable).await.expect(200);
        platform.anonymous().post("/auth/login", &login).await.expect(200);
        log.rollback().await.unwrap();
    };
    let (disabled, ()) = tokio::join!(disabling, enabling);
    assert_eq!(disabled.expect(200)["status"], "disabled");
    platform.anonymous().post("/auth/login", &login).await.problem(401);
    elsewhere.stop().await;
    platform.stop().await;
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_the_old_one_and_ends_all_sessions() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let change = |old: &str, new: &str| json!({"old_password": old, "new_password": new});
    admin.put("/auth/password", &change("wrong horse", "another horse")).await.problem(403);
    admin.put("/auth/password", &change("correct horse", "short")).await.problem(422);
    let session = admin.put("/auth/password", &change("correct horse", "another horse")).await.expect(200);
    admin.get("/auth/me").await.problem(401);
    admin.with_token(session["token"].as_str().unwrap()).get("/auth/me").await.expect(200);
    platform.stop().await;
}

#[tokio::test]
async fn signing_keys_are_rotated_and_old_ones_can_be_revoked() {
    let platform = Platform::start().await;
    let app = platform.app();
    let admin = platform.admin().await;
    app.services.identity.tokens.rotate(&app.access.identity, false).await.unwrap();
    admin.get("/campaigns").await.expect(200);
    let claims = app.services.identity.tokens.verify(admin.token.as_ref().unwrap()).unwrap();
    let before = app.services.identity.tokens.issue(claims.sub, claims.company_id, Role::Admin, claims.sid, Utc::now()).unwrap().0;
    assert_eq!(kid(&before), kid(admin.token.as_ref().unwrap()), "a new key does not sign before everybody knows it");
    sqlx::query("update signing_keys set created_at = created_at - interval '2 minutes'").execute(&app.owner).await.unwrap();
    app.services.identity.tokens.refresh(&app.access.identity).await.unwrap();
    let after = app.services.identity.tokens.issue(claims.sub, claims.company_id, Role::Admin, claims.sid, Utc::now()).unwrap().0;
    assert_ne!(kid(&after), kid(&before));
    admin.with_token(&after).get("/campaigns").await.expect(200);
    let keys = async || sqlx::query_scalar::<_, i64>("select count(*) from signing_keys").fetch_one(&app.owner).await.unwrap();
    // Two days after the next key was added, the earlier key no longer verifies any token.
    sqlx::query("update signing_keys set created_at = created_at - interval '47 hours'").execute(&app.owner).await.unwrap();
    app.services.identity.tokens.refresh(&app.access.identity).await.unwrap();
    assert_eq!(keys().await, 2);
    admin.get("/campaigns").await.expect(200);
    sqlx::query("update signing_keys set created_at = created_at - interval '1 hour'").execute(&app.owner).await.unwrap();
    app.services.identity.tokens.refresh(&app.access.identity).await.unwrap();
    assert_eq!(keys().await, 1);
    admin.get("/campaigns").await.problem(401);
    // A month later another key is added automatically; both verify tokens.
    sqlx::query("update signing_keys set created_at = created_at - interval '31 days'").execute(&app.owner).await.unwrap();
    app.services.identity.tokens.refresh(&app.access.identity).await.unwrap();
    assert_eq!(keys().await, 2);
    admin.with_token(&after).get("/campaigns").await.expect(200);
    app.services.identity.tokens.rotate(&app.access.identity, true).await.unwrap();
    admin.with_token(&after).get("/campaigns").await.problem(401);
    platform.stop().await;
}

fn kid(token: &str) -> String {
    use jsonwebtoken::decode_header;
    decode_header(token).unwrap().kid.unwrap()
}

#[tokio::test]
async fn tokens_count_from_when_and_until_when_they_say() {
    let platform = Platform::start().await;
    let app = platform.app();
    let admin = platform.admin().await;
    let claims = app.services.identity.tokens.verify(admin.token.as_ref().unwrap()).unwrap();
    let at = |minutes| {
        app.services
            .identity
            .tokens
            .issue(claims.sub, claims.company_id, Role::Admin, claims.sid, Utc::now() + TimeDelta::minutes(minutes))
            .unwrap()
            .0
    };
    admin.with_token(&at(-29)).get("/campaigns").await.expect(200);
    admin.with_token(&at(-31)).get("/campaigns").await.problem(401);
    admin.with_token(&at(5)).get("/campaigns").await.problem(401);
    let other_session =
        app.services.identity.tokens.issue(claims.sub, claims.company_id, Role::Admin, Uuid::now_v7(), Utc::now()).unwrap().0;
    admin.with_token(&other_session).get("/campaigns").await.problem(401);
    platform.stop().await;
}

#[tokio::test]
async fn a_key_shows_its_beginning_and_when_it_was_used() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let issued = admin.post("/api-keys", &json!({"name": "bot", "role": "agent"})).await.expect(201);
    let key = issued["key"].as_str().unwrap();
    let listed = async || admin.get("/api-keys").await.expect(200)["items"][0].clone();
    let before = listed().await;
    assert!(
        before["last_used_at"].is_null()
            && key.starts_with(before["prefix"].as_str().unwrap())
            && before["prefix"].as_str().unwrap().len() < 16
    );
    admin.with_token(key).get("/campaigns").await.expect(200);
    assert!(listed().await["last_used_at"].is_string());
    assert!(!before.to_string().contains(&key[12..]));
    platform.stop().await;
}

#[tokio::test]
async fn what_was_done_and_what_was_refused_is_in_the_audit() {
    let platform = Platform::start().await;
    let (admin, stranger) = (platform.admin().await, platform.admin().await);
    let viewer = admin.post("/api-keys", &json!({"name": "v", "role": "viewer"})).await.expect(201);
    let viewer_client = admin.with_token(viewer["key"].as_str().unwrap());
    let request_id = Uuid::now_v7();
    let refused =
        viewer_client.request(reqwest::Method::POST, "/campaigns").header("x-request-id", request_id.to_string()).json(&json!({}));
    assert_eq!(viewer_client.send(refused).await.problem(403).header("x-request-id"), Some(request_id.to_string().as_str()));
    for n in 0..20 {
        viewer_client.post("/campaigns", &json!({"n": n})).await.problem(403);
    }
    let email = admin.get("/auth/me").await["user"]["email"].clone();
    platform.anonymous().post("/auth/login", &json!({"email": email, "password": "wrong horse"})).await.problem(401);
    let skillbase = admin.skillbase().await;
    let entries = admin.get("/audit").await.expect(200)["items"].as_array().unwrap().clone();
    let find =
        |action: &str| entries.iter().find(|entry| entry["action"] == action).unwrap_or_else(|| panic!("{action}: {entries:#?}")).clone();
    let refusal = find("POST /campaigns");
    assert_eq!((&refusal["status"], &refusal["request_id"]), (&json!(403), &json!(request_id)));
    assert_eq!((&refusal["actor"]["kind"], &refusal["actor"]["id"]), (&json!("api_key"), &viewer["id"]));
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "POST /campaigns").count(), 1, "repeats are counted in one entry");
    assert_eq!(refusal["count"], 21);
    assert!(refusal["reason"].as_str().unwrap().contains("needs the role manager") && refusal["client"] == "127.0.0.1");
    assert_eq!(find("POST /auth/login")["status"], 401);
    assert!(find("POST /auth/register")["actor"]["id"].is_string());
    // The change is in the log, under the same request id.
    let done = find("POST /skillbases");
    assert_eq!(done["count"], 1);
    let history = admin.get(&format!("/events?stream=skillbase-{skillbase}")).await;
    assert_eq!(history["items"][0]["metadata"]["correlation_id"], done["request_id"]);
    assert!(
        admin.get("/audit?refused=true").await["items"].as_array().unwrap().iter().all(|entry| entry["status"].as_i64().unwrap() >= 400)
    );
    let page = admin.get("/audit?limit=1").await.expect(200);
    let next = admin.get(&format!("/audit?limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await.expect(200);
    assert_ne!(page["items"][0]["id"], next["items"][0]["id"]);
    // The audit belongs to the company, and only its admins can read it.
    assert!(stranger.get("/audit").await["items"].as_array().unwrap().iter().all(|entry| entry["request_id"] != json!(request_id)));
    viewer_client.get("/audit").await.problem(403);
    platform.stop().await;
}
