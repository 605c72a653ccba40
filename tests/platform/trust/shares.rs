//! One company cannot delay the others, nor fill the memory.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::response::Response;
use newvoice_api::edge::Payer;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Answer, Client, Platform, skillbase_config};

use super::matrix::operations;

/// Number of concurrent requests.
const AT_ONCE: usize = 64;

/// Ids of a company's objects, by the prefix of their paths.
async fn something_of_everything(admin: &Client) -> Vec<(&'static str, String)> {
    let campaign = admin.running_campaign(2, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let call = claim["call_id"].as_str().unwrap().to_owned();
    admin.post(&format!("/calls/{call}/turns"), &json!([{"turn_index": 0, "user_text": "hello", "latency_llm_ms": 300}])).await.expect(201);
    admin.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 9})).await.expect(200);
    let id_of = async |path: &str| admin.get(path).await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    let key = admin.post("/api-keys", &json!({"name": "k", "role": "viewer"})).await.expect(201).id();
    vec![
        ("/campaigns/", campaign),
        ("/tasks/", claim["task"]["id"].as_str().unwrap().to_owned()),
        ("/calls/", call.clone()),
        ("/analytics/calls/", call),
        ("/skillbases/", id_of("/skillbases").await),
        ("/price-lists/", id_of("/price-lists").await),
        ("/users/", id_of("/users").await),
        ("/api-keys/", key),
    ]
}

/// The paths of all reads whose answers end, for a company with these objects.
fn reads(ids: &[(&'static str, String)]) -> Vec<String> {
    let ends = |path: &str| !path.contains("/ws/") && !path.ends_with("/stream");
    let mut paths = Vec::new();
    for operation in operations().into_iter().filter(|operation| operation.method == Method::GET && ends(&operation.path)) {
        let id = ids.iter().find(|(start, _)| operation.path.starts_with(start)).map_or("", |(_, id)| id);
        paths.push(operation.path.replace("{id}", id).replace("{n}", "1").replace("{name}", "dialing"));
    }
    paths
}

/// A request that holds one connection while it acquires another could cause a deadlock with requests that do the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_read_is_answered_however_many_come_at_once() {
    let platform = Platform::configured(|settings| settings.store.database_connections = 16).await;
    let admin = platform.operator().await;
    let paths = reads(&something_of_everything(&admin).await);
    assert!(paths.len() > 25, "{paths:?}");
    for path in paths {
        let answers = futures::future::join_all((0..AT_ONCE).map(|_| admin.get(&path))).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).filter(|status| *status != 200).collect();
        assert!(statuses.is_empty(), "{path}: {statuses:?}");
    }
    platform.stop().await;
}

/// A company has used much of the processor while another one is active: its next requests wait, and are refused when too many wait. The
/// other company does not notice, and neither do probes from a network that has used much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_used_much_of_the_processor_waits_for_the_others() {
    let platform = Platform::start().await;
    let (busy, other) = (platform.admin().await, platform.admin().await);
    let company = busy.get("/auth/me").await["company"]["id"].as_str().unwrap().parse().unwrap();
    let network = Payer::Network(Some("127.0.0.1".parse().unwrap()));
    // The other company is active until all are answered.
    let statuses = async |requests: Vec<_>| {
        let are_answered = AtomicBool::new(false);
        let requests = async {
            let answers = futures::future::join_all(requests).await;
            are_answered.store(true, Ordering::Relaxed);
            answers.into_iter().map(|answer: Answer| answer.status).collect::<BTreeSet<_>>()
        };
        let other = async {
            while !are_answered.load(Ordering::Relaxed) {
                other.get("/campaigns").await.expect(200);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::join!(requests, other).0
    };
    for payer in [Payer::Company(company), network] {
        let bill = platform.app().processor_time.wait(payer).await.ok().unwrap();
        bill.stores(u64::MAX).answer(async { Response::default() }).await;
        let request = || match payer {
            Payer::Company(_) => busy.request(Method::GET, "/campaigns"),
            Payer::Network(_) => reqwest::Client::new().get(format!("{}/metrics", platform.base())),
        };
        other.get("/campaigns").await.expect(200);
        let answered = statuses((0..4 * AT_ONCE).map(|_| busy.send(request())).collect()).await;
        assert_eq!(answered, BTreeSet::from([200, 429]), "{payer:?}");
        let probe = || reqwest::Client::new().get(format!("{}/readyz", platform.base()));
        assert_eq!(statuses((0..AT_ONCE).map(|_| busy.send(probe())).collect()).await, BTreeSet::from([200]), "{payer:?}");
    }
    let waited = platform.app().processor_time.wait(Payer::Company(company)).await;
    assert!(waited.is_ok(), "what was used is paid after a while");
    let audit = busy.get("/audit?refused=true").await.expect(200);
    let refused = audit["items"].as_array().unwrap().iter().find(|entry| entry["status"] == 429).unwrap();
    assert!(refused["reason"].as_str().unwrap().contains("processor time"), "{refused}");
    platform.stop().await;
}

/// The share of one company leaves connections free; the shares of four companies together are twice the connections. Requests that hold
/// one of the two connections while they acquire the other would wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_several_companies_are_answered_over_two_connections() {
    let platform = Platform::configured(|settings| settings.store.database_connections = 8).await;
    assert_eq!(platform.app().access.reads_max(), 2);
    let mut companies = Vec::new();
    for _ in 0..4 {
        let admin = platform.operator().await;
        let paths = reads(&something_of_everything(&admin).await);
        companies.push((admin, paths));
    }
    for (n, first) in companies[0].1.iter().enumerate() {
        let requests = companies.iter().flat_map(|(admin, paths)| (0..6).map(move |_| admin.get(&paths[n])));
        let answers = futures::future::join_all(requests).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).filter(|status| *status != 200).collect();
        assert!(statuses.is_empty(), "{first}: {statuses:?}");
    }
    platform.stop().await;
}

async fn all_pages(client: &Client, path: &str) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = client.get(&format!("{path}{cursor}")).await.expect(200);
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("{}cursor={next}", if path.contains('?') { '&' } else { '?' }),
            None => return (items, pages),
        }
    }
}

#[tokio::test]
async fn long_histories_and_turns_come_in_pages() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let long = "x".repeat(50_000);
    let turns: Vec<_> = (0..120).map(|index| json!({"turn_index": index, "user_text": long, "agent_text": long})).collect();
    for turns in turns.chunks(60) {
        admin.post(&format!("/calls/{call}/turns"), &json!(turns)).await.expect(201);
    }
    let history = format!("/calls/{call}/history");
    let (events, pages) = all_pages(&admin, &history).await;
    let versions: Vec<_> = events.iter().map(|event| event["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, (1..=121).collect::<Vec<_>>());
    assert!(pages > 3, "12 MB of text in {pages} pages");
    let (events, pages) = all_pages(&admin, &format!("{history}?limit=50")).await;
    assert_eq!((events.len(), events[0]["version"].as_i64()), (121, Some(1)));
    assert!(pages > 3);
    assert_eq!(admin.get(&format!("{history}?limit=1")).await["items"].as_array().unwrap().len(), 1);
    admin.get(&format!("{history}?limit=201")).await.problem(422);
    admin.get(&format!("{history}?cursor=x")).await.problem(400);
    let (shown, pages) = all_pages(&admin, &format!("/analytics/calls/{call}/turns?limit=200")).await;
    let indexes: Vec<_> = shown.iter().map(|turn| turn["turn_index"].as_i64().unwrap()).collect();
    assert_eq!(indexes, (0..120).collect::<Vec<_>>());
    assert!(pages > 3, "12 MB of text in {pages} pages");
    platform.admin().await.get(&history).await.problem(404);
    platform.stop().await;
}

/// Rows of a list may have hundreds of kilobytes: a page of them ends after some megabytes.
#[tokio::test]
async fn lists_of_long_rows_come_in_pages_of_some_megabytes() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let mut config = skillbase_config();
    config["context"]["facts"] = json!(vec!["x".repeat(20_000); 40]);
    let skillbase = admin.post("/skillbases", &json!({"name": "0", "slug": "s0", "config": config})).await.expect(201).id();
    for n in 1..8 {
        admin.post("/skillbases", &json!({"name": n.to_string(), "slug": format!("s{n}"), "config": config})).await.expect(201);
        config["context"]["role"] = json!(format!("role {n}"));
        admin.put(&format!("/skillbases/{skillbase}"), &json!({"config": config})).await.expect(200);
    }
    let long = "y".repeat(95);
    let rate = |n: usize| json!({"component": "llm_input", "provider": long, "model": format!("{n}{long}"), "price": "1", "per": 1000, "unit": "token"});
    let rates: Vec<_> = (0..500).map(rate).collect();
    for n in 0..50 {
        let list = json!({"name": n.to_string(), "effective_from": format!("20{}-01-01T00:00:00Z", 40 + n), "rates": rates});
        admin.post("/price-lists", &list).await.expect(201);
    }
    let campaign = admin.campaign(json!({})).await;
    for numbers in [100..130, 130..160] {
        let contacts = numbers.map(|n| format!("+12025550{n},{}\n", "z".repeat(90_000))).collect::<String>();
        admin.upload(&campaign, "long.csv", format!("phone_number,note\n{contacts}").into_bytes()).await.expect(200);
    }
    let lists = [
        // A campaign has its own.
        ("/skillbases".to_owned(), "id", 9),
        (format!("/skillbases/{skillbase}/versions"), "version", 8),
        // A company begins with one list.
        ("/price-lists".to_owned(), "id", 51),
        (format!("/campaigns/{campaign}/tasks"), "id", 60),
    ];
    for (path, id, count) in lists {
        let (items, pages) = all_pages(&admin, &format!("{path}?limit=200")).await;
        let ids: BTreeSet<_> = items.iter().map(|item| item[id].to_string()).collect();
        assert_eq!((items.len(), ids.len()), (count, count), "{path}");
        assert!(pages > 1, "{path} has one page");
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_tasks_history_has_its_calls_events_in_log_order_across_pages() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({"max_retries": 3, "retry_delay_minutes": 0})).await;
    let mut task = String::new();
    for attempt in 0..3 {
        // The read model lists the task again shortly after its attempt has failed.
        let claim = loop {
            let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await;
            if claim.status != 204 {
                break claim.expect(200);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        task = claim["task"]["id"].as_str().unwrap().to_owned();
        let call = claim["call_id"].as_str().unwrap();
        admin.post(&format!("/calls/{call}/turns"), &json!([{"turn_index": 0}, {"turn_index": 1}])).await.expect(201);
        admin.post(&format!("/calls/{call}/end"), &json!({"duration_sec": attempt})).await.expect(200);
        admin.post(&format!("/tasks/{task}/fail"), &json!({"call_id": call, "error_message": "busy"})).await.expect(200);
    }
    let path = format!("/tasks/{task}/history");
    let whole = admin.get(&path).await.expect(200);
    assert_eq!(whole["next_cursor"], Value::Null);
    for limit in [1, 2, 7] {
        let (events, pages) = all_pages(&admin, &format!("{path}?limit={limit}")).await;
        assert_eq!(json!(events), whole["items"], "{limit}");
        assert_eq!(pages, events.len().div_ceil(limit));
    }
    let positions: Vec<_> = whole["items"].as_array().unwrap().iter().map(|event| event["position"].as_i64().unwrap()).collect();
    assert!(positions.len() > 15 && positions.is_sorted(), "{positions:?}");
    platform.stop().await;
}

/// The database stops the work of a request that the client has cancelled.
#[tokio::test]
async fn a_statement_that_is_given_up_is_cancelled() {
    let platform = Platform::start().await;
    let work = platform.app().access.work.clone();
    let sleeping = tokio::spawn(async move { sqlx::query("select pg_sleep(25), 'given up'").execute(&work).await });
    let at_work = async || {
        let count = "select count(*) from pg_stat_activity where state = 'active' and query like '%given up%' and pid <> pg_backend_pid()";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&platform.app().owner).await.unwrap()
    };
    while at_work().await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sleeping.abort();
    let cancelled = async {
        while at_work().await > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cancelled).await.expect("the server cancels a statement that was given up");
    platform.stop().await;
}
