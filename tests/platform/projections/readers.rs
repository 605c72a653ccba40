//! Readers during the rebuild of a read model.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use support::{Client, Platform};

/// Readers that poll continuously see every count stay or grow, during three rebuilds, their swaps and a restore of each projection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_a_count_go_down() {
    let platform = Platform::start().await;
    let admin = platform.operator().await;
    let campaign = admin.running_campaign(40, json!({"max_concurrent_calls": 100, "calls_per_minute": 1_000})).await;
    let done = AtomicBool::new(false);
    let reader = |path: String, count: &'static str| {
        let (client, done) = (admin.with_token(admin.token.as_deref().unwrap()), &done);
        async move {
            let (mut last, mut reads) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                // Regardless of the projections' positions, no reader waits.
                let answer = client.send(client.request(reqwest::Method::GET, &path)).await.expect(200);
                let now = answer.pointer(count).and_then(Value::as_i64).unwrap_or_else(|| panic!("{count} in {}", answer.body));
                assert!(now >= last, "{path}: {count} went from {last} to {now}");
                (last, reads) = (now, reads + 1);
            }
            (path, last, reads)
        }
    };
    let readers = futures::future::join_all([
        reader(format!("/campaigns/{campaign}/stats"), "/tasks/total"),
        reader(format!("/campaigns/{campaign}/stats"), "/attempts"),
        reader("/analytics/metrics".to_owned(), "/totals/turn_count"),
        reader(format!("/analytics/metrics?group_by=hour&campaign_id={campaign}"), "/totals/call_count"),
        reader("/analytics/costs".to_owned(), "/totals/call_count"),
        reader("/analytics/overview".to_owned(), "/last_30_days/turn_count"),
    ]);
    let work = async {
        for n in 0.. {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await;
            let call = if claim.status == 200 {
                claim["call_id"].as_str().unwrap().to_owned()
            } else {
                admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id()
            };
            let turn = json!({"turn_index": n, "stt_duration_sec": 1, "ttfb_stt_ms": 100});
            admin.post(&format!("/calls/{call}/turns"), &turn).await.expect(201);
        }
    };
    let rebuilds = async {
        for how in ["rebuild", "rebuild", "restore", "rebuild"] {
            for name in ["campaigns", "call_tasks", "calls", "call_metrics", "cost_rollups"] {
                admin.act(&format!("/projections/{name}/{how}")).await.expect(202);
            }
            until_live(&admin).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (read, (), ()) = tokio::join!(readers, work, rebuilds);
    for (path, last, reads) in read {
        println!("{path}: {last} after {reads} reads");
        assert!(last > 0 && reads > 20, "{path}: {last} after {reads} reads");
    }
    platform.stop().await;
}

async fn until_live(client: &Client) {
    for _ in 0..600 {
        let projections = client.get("/projections").await.expect(200);
        let projections = projections["items"].as_array().unwrap();
        assert!(projections.iter().all(|p| p["error"].is_null()), "{projections:#?}");
        if projections.iter().all(|p| p["rebuild"].is_null()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the rebuilds never ended");
}
