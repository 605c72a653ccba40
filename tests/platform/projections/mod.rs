mod as_of;
mod crash_points;
mod oracle;
mod previews;
mod processes;
mod random;
mod readers;

use std::{collections::BTreeSet, sync::Arc};

use domain::Fact;
use eventstore::{EventStore, Pool};
use projections::{
    Projection, Recorded, all,
    rebuild::{Difference, Progress, Purpose, Rebuild},
};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use sqlx::Connection;
use support::{Client, Platform};
use uuid::Uuid;

use crate::campaigns::until;

/// A user who is invited, joins, gets another role, and is disabled for some time.
async fn users(client: &Client) {
    let invited =
        client.post("/users", &json!({"email": format!("{}@example.com", Uuid::new_v4().simple()), "role": "agent"})).await.expect(201);
    let accept = json!({"invitation": invited["invitation"], "password": "correct horse"});
    client.post("/auth/accept-invitation", &accept).await.expect(200);
    let path = format!("/users/{}", invited.id());
    client.put(&path, &json!({"role": "viewer", "disabled": true})).await.expect(200);
    client.put(&path, &json!({"disabled": false})).await.expect(200);
}

/// A history with all kinds of events: campaigns that are dialed, calls that move, prices that change, deletions.
async fn history(client: &Client) {
    let id = client
        .running_campaign(15, json!({"dialed_by": "simulator", "max_concurrent_calls": 20, "calls_per_minute": 1000, "max_retries": 1}))
        .await;
    until(client, &format!("/campaigns/{id}"), "/status", json!("completed")).await;
    client.act(&format!("/campaigns/{id}/retry")).await.expect(200);
    let other = client.running_campaign(4, json!({"max_retries": 2, "retry_delay_minutes": 0, "max_concurrent_calls": 9})).await;
    let claim = client.act(&format!("/campaigns/{other}/tasks/claim")).await.expect(200);
    let (task, call) = (claim["task"]["id"].as_str().unwrap(), claim["call_id"].as_str().unwrap());
    client.post(&format!("/calls/{call}/turns"), &json!([{"turn_index": 0, "ttfb_stt_ms": 150, "stt_duration_sec": 3.5, "stt_provider": "deepgram"}, {"turn_index": 1, "ttfb_stt_ms": 90}])).await.expect(201);
    let started = json!({"call_id": call, "direction": "outbound", "phone_number": "+12025551000", "started_at": "2026-02-01T05:30:00Z"});
    client.post("/calls", &started).await.expect(200);
    client.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 33.3})).await.expect(200);
    client
        .post(
            &format!("/calls/{call}/turns"),
            &json!({"turn_index": 2, "occurred_at": "2026-02-01T05:30:20Z", "user_text": "leave a message", "stt_duration_sec": 2}),
        )
        .await
        .expect(201);
    client.post(&format!("/tasks/{task}/fail"), &json!({"call_id": call, "error_message": "x", "outcome": "voicemail"})).await.expect(200);
    for (name, from, price) in
        [("A", "2026-01-01T00:00:00Z", "0.01"), ("B", "2025-06-01T00:00:00Z", "0.02"), ("C", "2026-02-01T05:30:10Z", "0.03")]
    {
        let rates = json!([{"component": "stt", "price": price, "per": 1, "unit": "minute"}, {"component": "tts", "provider": "cartesia", "price": "1", "per": 7, "unit": "character"}]);
        client.post("/price-lists", &json!({"name": name, "effective_from": from, "rates": rates})).await.expect(201);
    }
    let wrong = json!({"name": "D", "effective_from": "2026-01-15T00:00:00Z", "rates": [{"component": "stt", "price": "9", "per": 1, "unit": "minute"}]});
    let wrong = client.post("/price-lists", &wrong).await.expect(201).id();
    client.act(&format!("/price-lists/{wrong}/withdraw")).await.expect(200);
    client.act(&format!("/campaigns/{other}/pause")).await.expect(200);
    client.delete(&format!("/campaigns/{other}")).await.expect(204);
    let skillbase = client.skillbase().await;
    client.put(&format!("/skillbases/{skillbase}"), &json!({"name": "Other"})).await.expect(200);
    client.delete(&format!("/skillbases/{skillbase}")).await.expect(204);
    client.put("/company", &json!({"name": "Another name"})).await.expect(200);
    let third = client.running_campaign(1, json!({})).await;
    client.act(&format!("/campaigns/{third}/pause")).await.expect(200);
    client.act(&format!("/campaigns/{third}/resume")).await.expect(200);
    client.put(&format!("/campaigns/{third}"), &json!({"calls_per_minute": 3})).await.expect(200);
    client.act(&format!("/campaigns/{third}/finish")).await.expect(200);
    let key = client.post("/api-keys", &json!({"name": "k", "role": "agent"})).await.expect(201);
    client.delete(&format!("/api-keys/{}", key.id())).await.expect(204);
    users(client).await;
    client.post("/persons/erase", &json!({"phone_number": "+12025551000"})).await.expect(200);
    // All automatic work is done, and all events are projected.
    until(client, &format!("/tasks/{task}"), "/status", json!("cancelled")).await;
    client.get("/analytics/overview").await.expect(200);
    client.get("/auth/me").await.expect(200);
}

/// Rebuilds a projection beside the live one; returns every row that differs.
async fn differences(pool: &Pool, store: &EventStore, projection: Arc<dyn Projection>, purpose: Purpose) -> Vec<Difference> {
    let rebuild = Rebuild::begin(pool, store, projection, Uuid::now_v7(), purpose).await.unwrap();
    let mut differences = Vec::new();
    let found = rebuild.run(|progress| {
        if let Progress::Differs(difference) = progress {
            differences.push(difference);
        }
    });
    assert_eq!(found.await.unwrap(), differences.len());
    differences
}

/// The content of a projection's tables, row by row in a fixed order.
async fn content(pool: &Pool, projection: &dyn Projection) -> Vec<Value> {
    let mut rows = Vec::new();
    for table in projection.tables() {
        let sql = format!("select coalesce(jsonb_agg(r order by r), '[]') from (select to_jsonb(t) as r from {} t) x", table.name);
        let found: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
        rows.push(found);
    }
    rows
}

async fn recorded(store: &EventStore) -> Vec<Recorded> {
    let mut events = Vec::new();
    while let Ok(page) = store.read_page(i64::try_from(events.len()).unwrap(), 2_000).await {
        if page.is_empty() {
            break;
        }
        events.extend(page.iter().map(|stored| Recorded::decode(stored).unwrap()));
    }
    events
}

/// A rebuild processes the same events in different pages; a comparison finds no row that differs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_and_rebuilt_are_equal_for_every_projection() {
    let platform = Platform::start().await;
    history(&platform.admin().await).await;
    let app = platform.app();
    for projection in all() {
        let name = projection.name();
        let differences = differences(&app.owner, &app.store, projection, Purpose::CompareAndRebuild).await;
        assert!(differences.is_empty(), "{name}: {differences:#?}");
    }
    // After the swap the projections continue from their positions.
    let admin = platform.admin().await;
    let id = admin.running_campaign(2, json!({})).await;
    assert_eq!(admin.get(&format!("/campaigns/{id}/stats")).await["tasks"]["pending"], 2);
    platform.stop().await;
}

/// A comparison changes nothing, even while the live projection has stopped, and leaves no tables behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_ends_although_the_projection_stands_still() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    admin.running_campaign(3, json!({})).await;
    admin.get("/campaigns").await.expect(200);
    let url = platform.database_url.clone();
    platform.stop().await;
    let database = eventstore::Database::open(&support::settings(&url).store.database(Some(support::master_key()))).await.unwrap();
    let store = EventStore::open(&database);
    let sql = "update projection_checkpoints set error = 'stopped for a test', error_position = position where name = 'call_tasks'";
    sqlx::query(sql).execute(&database.pool).await.unwrap();
    let context = eventstore::CommandContext::system(Uuid::now_v7(), "test", eventstore::now());
    let profile = domain::company::CompanyProfile { name: "Later".into(), slug: "later".into(), email: None };
    store
        .execute::<domain::company::Company>(&context, context.company_id, domain::company::CompanyCommand::Register(profile))
        .await
        .unwrap();
    let projection = projections::by_name("call_tasks").unwrap();
    let compare = differences(&database.pool, &store, projection, Purpose::Compare);
    let differences = tokio::time::timeout(std::time::Duration::from_secs(20), compare).await.expect("it ends");
    assert!(differences.is_empty());
    // It also ignores events that the live projection has not applied yet.
    let companies = projections::by_name("companies").unwrap();
    assert!(self::differences(&database.pool, &store, companies, Purpose::Compare).await.is_empty());
    let left: i64 = sqlx::query_scalar("select count(*) from projection_rebuilds").fetch_one(&database.pool).await.unwrap();
    let next: Option<String> = sqlx::query_scalar("select to_regclass('call_tasks__next')::text").fetch_one(&database.pool).await.unwrap();
    assert_eq!((left, next), (0, None));
    // A manipulated read model is found, row by row.
    sqlx::query("update call_tasks set priority = 7 where position = (select min(position) from call_tasks)")
        .execute(&database.pool)
        .await
        .unwrap();
    let projection = projections::by_name("call_tasks").unwrap();
    let differences = self::differences(&database.pool, &store, projection, Purpose::Compare).await;
    assert_eq!(differences.iter().map(|d| d.side.as_str()).collect::<Vec<_>>(), ["live", "rebuilt"]);
}

/// Folding the same events in pages of any size gives the same tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_page_size_gives_the_same_read_models() {
    let platform = Platform::start().await;
    history(&platform.admin().await).await;
    let (pool, store, url) = (platform.app().owner.clone(), platform.app().store.clone(), platform.database_url.clone());
    // Housekeeping may still complete a campaign: tables and events match if no event was appended in between.
    let (events, expected) = loop {
        let events = recorded(&store).await;
        let last = i64::try_from(events.len()).unwrap();
        let models: Vec<_> = all().iter().map(|projection| projection.read_model()).collect();
        platform.app().services.positions.reached(&models, last, std::time::Duration::from_secs(120)).await.unwrap();
        let mut expected = Vec::new();
        for projection in all() {
            expected.push(content(&pool, projection.as_ref()).await);
        }
        if store.last_position().await.unwrap() == last {
            break (events, expected);
        }
    };
    let seen: BTreeSet<String> = events.iter().map(|event| event.fact.encode().unwrap().0).collect();
    let missing: Vec<_> = Fact::catalogue().into_iter().filter(|(_, event_type, _)| !seen.contains(*event_type)).collect();
    assert!(missing.is_empty(), "the history lacks {missing:?}");
    let runtime = tokio::runtime::Handle::current();
    let check = async |sizes: Vec<usize>| {
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        for (projection, expected) in all().into_iter().zip(&expected) {
            let mut db = sqlx::PgConnection::connect_with(&options.clone().options([("search_path", "newvoice")])).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            for table in projection.tables() {
                sqlx::query(sqlx::AssertSqlSafe(format!("delete from {}", table.name))).execute(&mut *tx).await.unwrap();
            }
            let mut rest = &events[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (page, after) = rest.split_at((*size).min(rest.len()));
                rest = after;
                let wanted: Vec<_> = page.iter().filter(|e| wants(projection.as_ref(), &e.fact)).collect();
                projection.apply(&mut tx, &wanted).await.unwrap();
            }
            let mut found = Vec::new();
            for table in projection.tables() {
                let sql = format!("select coalesce(jsonb_agg(r order by r), '[]') from (select to_jsonb(t) as r from {} t) x", table.name);
                found.push(sqlx::query_scalar::<_, Value>(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *tx).await.unwrap());
            }
            tx.rollback().await.unwrap();
            assert_eq!(&found, expected, "{} in pages of {sizes:?}", projection.name());
        }
    };
    tokio::task::block_in_place(|| {
        let mut runner = TestRunner::new(Config { cases: 6, failure_persistence: None, ..Config::default() });
        runner
            .run(&proptest::collection::vec(1..60_usize, 1..6), |sizes| {
                runtime.block_on(check(sizes));
                Ok(())
            })
            .unwrap();
    });
    platform.stop().await;
}

fn wants(projection: &dyn Projection, fact: &Fact) -> bool {
    let (event_type, _) = fact.encode().unwrap();
    let category = Fact::catalogue().into_iter().find(|(_, t, _)| *t == event_type).unwrap().0;
    projection.categories().contains(&category)
}

#[tokio::test]
async fn a_rebuild_over_the_api_serves_all_the_while() {
    let platform = Platform::start().await;
    let admin = platform.operator().await;
    let id = admin.running_campaign(3, json!({})).await;
    admin.act("/projections/nonsense/rebuild").await.problem(404);
    admin.act("/projections/call_tasks/rebuild").await.expect(202);
    for _ in 0..100 {
        assert_eq!(admin.get(&format!("/campaigns/{id}/stats")).await.expect(200)["tasks"]["total"], 3);
        let statuses = admin.get("/projections").await.expect(200);
        let status = statuses["items"].as_array().unwrap().iter().find(|p| p["name"] == "call_tasks").unwrap().clone();
        if status["status"] != "rebuilding" {
            assert_eq!(status.get("error"), None);
            admin.act("/projections/call_tasks/retry").await.problem(409);
            return platform.stop().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the rebuild never ended");
}

/// An event of a type that this release does not support stops the projections that handle it, visibly, and no others.
#[tokio::test]
async fn an_event_that_cannot_be_read_stops_its_projections_visibly() {
    let platform = Platform::start().await;
    let admin = platform.operator().await;
    let company: Uuid = admin.get("/auth/me").await["company"]["id"].as_str().unwrap().parse().unwrap();
    let call = Uuid::new_v4();
    sqlx::query(
        "select append_events(array['call-' || $1::text], array[$2], '{0}', '{1}', '{1}', array[gen_random_uuid()], '{CallTeleported}', '{1}', '{\"{}\"}',
                array['{\"actor\": {\"kind\": \"system\", \"id\": null, \"name\": null}, \"correlation_id\": \"00000000-0000-0000-0000-000000000000\", \"causation_id\": null}'],
                array[now()], sha256('x'), gen_random_uuid(), false, true)",
    )
    .bind(call)
    .bind(company)
    .execute(&platform.app().owner)
    .await
    .unwrap();
    for _ in 0..100 {
        let statuses = admin.get("/projections").await.expect(200);
        let failed: Vec<_> = statuses["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| p["status"] == "failed")
            .map(|p| p["name"].as_str().unwrap().to_owned())
            .collect();
        if failed == ["call_logs", "call_metrics", "calls", "cost_rollups"] {
            let calls = statuses["items"].as_array().unwrap().iter().find(|p| p["name"] == "calls").unwrap().clone();
            assert!(calls["error"]["message"].as_str().unwrap().contains("CallTeleported"));
            let position = calls["error"]["position"].as_i64().unwrap();
            assert_eq!(calls["error"]["event"]["event_type"], "CallTeleported");
            assert_eq!(calls["error"]["event"]["stream"], json!(format!("call-{call}")));
            assert_eq!(calls["position"], position - 1, "everything before it is applied");
            // The other projections continue.
            admin.campaign(json!({})).await;
            admin.get("/campaigns").await.expect(200);
            let ready = reqwest::get(format!("{}/readyz", platform.base())).await.unwrap();
            assert_eq!(ready.status(), 503);
            let ready: Value = ready.json().await.unwrap();
            let stopped = ready["not_ready"].as_array().unwrap().iter().find(|part| part["name"] == "calls").unwrap();
            assert_eq!(stopped["position"], position);
            let metrics = reqwest::get(format!("{}/metrics", platform.base())).await.unwrap().text().await.unwrap();
            assert!(metrics.contains(&format!("newvoice_projection_stopped_at{{projection=\"calls\"}} {position}")), "{metrics}");
            // Another company sees how far the read models lag, but no data of the event.
            let tenant = platform.admin().await.get("/projections").await.expect(200).body;
            assert_eq!(tenant["items"].as_array().unwrap().iter().filter(|p| p["status"] == "failed").count(), 4);
            for (what, text) in [("tenant", tenant.to_string()), ("readyz", ready.to_string()), ("metrics", metrics)] {
                for word in [call.to_string().as_str(), "CallTeleported", "\"error\"", "can_restore"] {
                    assert!(!text.contains(word), "{what} shows {word}: {text}");
                }
            }
            // A retry without a fix stops at the same event, and skips no event.
            admin.act("/projections/calls/retry").await.expect(202);
            for _ in 0..100 {
                let calls = status_of(&admin, "calls").await;
                if calls["status"] == "failed" {
                    assert_eq!(calls["error"]["position"], position);
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            // A release that supports the event continues from there.
            let fix = "set session_replication_role = replica;
                       update events set event_type = 'CallDialed', payload = $${\"campaign_id\": null, \"task_id\": null, \"skillbase_id\": null,
                           \"skillbase_version\": null, \"direction\": \"inbound\", \"phone_number\": \"+12025550100\"}$$ where event_type = 'CallTeleported';
                       set session_replication_role = origin";
            sqlx::raw_sql(fix).execute(&platform.app().owner).await.unwrap();
            for name in ["calls", "call_logs", "call_metrics", "cost_rollups"] {
                admin.act(&format!("/projections/{name}/retry")).await.expect(202);
            }
            assert_eq!(admin.get(&format!("/calls/{call}")).await.expect(200)["status"], "dialing");
            return platform.stop().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the projections never stopped");
}

#[tokio::test]
async fn queries_wait_for_their_read_model_and_not_for_the_impossible() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let position = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).position();
    let answer = admin.send(admin.request(reqwest::Method::GET, &format!("/analytics/calls?min_position={position}"))).await.expect(200);
    assert_eq!(answer["items"].as_array().unwrap().len(), 1);
    assert!(answer.position() >= position);
    let beyond = admin.send(admin.request(reqwest::Method::GET, "/campaigns?min_position=1000000")).await.problem(503);
    assert!(beyond.header("retry-after").is_some() && beyond["detail"].as_str().unwrap().contains("ends at"));
    admin.send(admin.request(reqwest::Method::GET, "/campaigns?min_position=x")).await.problem(400);
    platform.stop().await;
}

async fn status_of(client: &Client, name: &str) -> Value {
    let statuses = client.get("/projections").await.expect(200);
    statuses["items"].as_array().unwrap().iter().find(|projection| projection["name"] == name).unwrap().clone()
}

/// Tables with newer code are rebuilt at start, while the old tables serve; an operator can restore the old ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_projection_is_rebuilt_at_start_and_the_old_one_can_be_restored() {
    let platform = Platform::start().await;
    let admin = platform.operator().await;
    let id = admin.running_campaign(3, json!({})).await;
    admin.get(&format!("/campaigns/{id}/stats")).await.expect(200);
    admin.act("/projections/call_tasks/restore").await.problem(409);
    admin.act("/projections/nonsense/restore").await.problem(404);
    let url = platform.database_url.clone();
    let pool = platform.app().owner.clone();
    // The state that an older release left: with an older version, and with an error in the data.
    sqlx::query("update projection_checkpoints set version = 0 where name = 'call_tasks'").execute(&pool).await.unwrap();
    sqlx::query("update call_tasks set priority = 7").execute(&pool).await.unwrap();
    platform.stop().await;
    let platform = Platform::start_on(&url).await;
    let admin = admin.at(&platform.base());
    let priority = async || admin.get(&format!("/campaigns/{id}/tasks")).await.expect(200)["items"][0]["priority"].clone();
    for wanted in [json!(0), json!(7)] {
        for _ in 0..200 {
            assert_eq!(admin.get(&format!("/campaigns/{id}/stats")).await.expect(200)["tasks"]["total"], 3);
            if priority().await == wanted {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(priority().await, wanted);
        let status = status_of(&admin, "call_tasks").await;
        assert_eq!((&status["version"], &status["can_restore"]), (&json!(i32::from(wanted == json!(0))), &json!(true)));
        if wanted == json!(0) {
            admin.act("/projections/call_tasks/restore").await.expect(202);
        }
    }
    // The restored tables are updated further.
    let other = admin.running_campaign(2, json!({})).await;
    assert_eq!(admin.get(&format!("/campaigns/{other}/stats")).await.expect(200)["tasks"]["total"], 2);
    platform.stop().await;
}

/// A read model that no projector has ever run: its rebuild also creates the checkpoint, so that a projector continues after it.
#[tokio::test]
async fn a_rebuild_of_a_projection_without_a_checkpoint_counts_everything_once() {
    let platform = Platform::configured(|settings| settings.roles = vec![newvoice_api::settings::Role::Api]).await;
    let admin = platform.admin().await;
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let turns: Vec<_> = (0..50).map(|i| json!({"turn_index": i, "stt_duration_sec": 1})).collect();
    admin.post(&format!("/calls/{call}/turns"), &json!(turns)).await.expect(201);
    let (pool, store) = (platform.app().owner.clone(), platform.app().store.clone());
    let projection = projections::by_name("call_metrics").unwrap();
    let rebuild = Rebuild::begin(&pool, &store, Arc::clone(&projection), Uuid::now_v7(), Purpose::Rebuild).await.unwrap();
    rebuild.run(|_| {}).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let positions = projections::Positions::default();
    let projectors = projections::Projectors {
        projections: vec![projection],
        pool: pool.clone(),
        owner: pool.clone(),
        feed: projections::Feed::new(store.clone()),
        positions: positions.clone(),
    };
    let projectors = tokio::spawn(projectors.run(stopped));
    positions
        .reached(&[projections::call_metrics::READ_MODEL], store.last_position().await.unwrap(), std::time::Duration::from_secs(30))
        .await
        .unwrap();
    let counted: i64 = sqlx::query_scalar("select sum(turn_count)::bigint from call_rollups").fetch_one(&pool).await.unwrap();
    assert_eq!(counted, 50);
    stop.send(true).unwrap();
    projectors.await.unwrap();
    platform.stop().await;
}
