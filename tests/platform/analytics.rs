use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use support::{Client, Platform};

/// Twelve calls over several hours, with two skillbases, with and without provider.
async fn calls(client: &Client) -> Vec<f64> {
    let skillbases = [client.skillbase().await, client.skillbase().await];
    let mut latencies = Vec::new();
    for i in 0..12_i64 {
        let started_at = format!("2026-03-01T{:02}:{:02}:00Z", 8 + i / 3, i * 17 % 60);
        let mut body = json!({"direction": "inbound", "phone_number": "+12025550100", "started_at": started_at});
        if i % 4 != 3 {
            body["skillbase_id"] = json!(skillbases[usize::try_from(i % 2).unwrap()]);
        }
        let id = client.post("/calls", &body).await.expect(201).id();
        let turns: Vec<_> = (0..20)
            .map(|t| {
                // A skewed distribution, like real latencies: most are short, few are a hundred times as long; whole microseconds.
                let even = ((i * 20 + t) * 7919 % 4001) as f64 / 4_001.0;
                let latency = ((80.0 + 9_000.0 * even.powi(6)) * 1_000.0).round() / 1_000.0;
                latencies.push(latency);
                let provider = if t % 2 == 0 { json!("deepgram") } else { Value::Null };
                json!({"turn_index": t, "latency_llm_ms": latency, "stt_duration_sec": 1.23, "stt_provider": provider, "tts_characters": 7 + t})
            })
            .collect();
        client.post(&format!("/calls/{id}/turns"), &json!(turns)).await.expect(201);
        client.post(&format!("/calls/{id}/end"), &json!({"duration_sec": 31.7 + i as f64})).await.expect(200);
    }
    latencies
}

fn decimal(value: &Value) -> Decimal {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn groups_sum_to_totals_exactly_whatever_the_grouping() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    calls(&admin).await;
    let period = "from=2026-03-01T08:20:00Z&to=2026-03-01T11:05:00Z";
    for filter in
        ["", period, "from=2026-03-01T09:00:00Z", &format!("{period}&timezone=Asia/Kolkata"), &format!("{period}&timezone=Europe/Prague")]
    {
        let whole = admin.get(&format!("/analytics/costs?{filter}")).await.expect(200);
        for group_by in ["hour", "day", "skillbase", "campaign", "component", "provider"] {
            let grouped = admin.get(&format!("/analytics/costs?{filter}&group_by={group_by}")).await.expect(200);
            let groups = grouped["groups"].as_array().unwrap();
            let sum: Decimal = groups.iter().map(|g| decimal(&g["cost_total"])).sum();
            assert_eq!(sum, decimal(&whole["totals"]["cost_total"]), "{filter} by {group_by}");
            assert_eq!(decimal(&grouped["totals"]["cost_total"]), sum);
        }
        let metrics = admin.get(&format!("/analytics/metrics?{filter}")).await.expect(200);
        for group_by in ["hour", "day", "skillbase", "campaign"] {
            let grouped = admin.get(&format!("/analytics/metrics?{filter}&group_by={group_by}")).await.expect(200);
            let sum = |field: &str| grouped["groups"].as_array().unwrap().iter().map(|g| g[field].as_i64().unwrap()).sum::<i64>();
            assert_eq!(sum("turn_count"), metrics["totals"]["turn_count"].as_i64().unwrap(), "{filter} by {group_by}");
            assert_eq!(sum("call_count"), whole["totals"]["call_count"].as_i64().unwrap(), "{filter} by {group_by}");
        }
    }
    platform.stop().await;
}

#[tokio::test]
async fn aggregates_are_over_turns_and_percentiles_within_one_percent() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let mut latencies = calls(&admin).await;
    latencies.sort_by(f64::total_cmp);
    let totals = admin.get("/analytics/metrics").await.expect(200)["totals"].clone();
    let exact = |q: f64| latencies[(q * latencies.len() as f64).ceil() as usize - 1];
    for (field, q) in [("latency_llm_p50", 0.5), ("latency_llm_p95", 0.95), ("latency_llm_p99", 0.99)] {
        let found = totals[field].as_f64().unwrap();
        assert!((found - exact(q)).abs() <= exact(q) * 0.01, "{field}: {found}, exactly {}", exact(q));
    }
    assert!((totals["latency_llm_avg"].as_f64().unwrap() - latencies.iter().sum::<f64>() / latencies.len() as f64).abs() < 1e-6);
    assert_eq!(
        (totals["latency_llm_min"].as_f64(), totals["latency_llm_max"].as_f64()),
        (latencies.first().copied(), latencies.last().copied())
    );
    assert_eq!((&totals["ttfb_stt_avg"], &totals["ttfb_stt_p99"]), (&Value::Null, &Value::Null));
    assert_eq!((&totals["call_count"], &totals["turn_count"]), (&json!(12), &json!(240)));
    platform.stop().await;
}

#[tokio::test]
async fn group_keys_are_hours_days_ids_and_names() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    calls(&admin).await;
    let keys = |answer: &Value| answer["groups"].as_array().unwrap().iter().map(|g| g["key"].clone()).collect::<Vec<_>>();
    let hours = admin.get("/analytics/metrics?group_by=hour&timezone=Europe/Prague").await.expect(200);
    assert_eq!(keys(&hours)[0], "2026-03-01T09:00:00+01:00");
    let india = admin.get("/analytics/costs?group_by=hour&timezone=Asia/Kolkata").await.expect(200);
    assert_eq!(keys(&india)[0], "2026-03-01T13:00:00+05:30");
    assert_eq!(keys(&admin.get("/analytics/costs?group_by=day").await.body), [json!("2026-03-01")]);
    assert_eq!(keys(&admin.get("/analytics/costs?group_by=campaign").await.body), [Value::Null]);
    assert_eq!(keys(&admin.get("/analytics/costs?group_by=provider").await.body), [Value::Null, json!("deepgram")]);
    let components: Vec<_> = keys(&admin.get("/analytics/costs?group_by=component").await.body);
    assert_eq!(components, ["livekit", "stt", "tts"]);
    let skillbases = admin.get("/analytics/metrics?group_by=skillbase").await.expect(200);
    assert_eq!(skillbases["groups"].as_array().unwrap().iter().filter(|g| g["name"] == "Bot").count(), 2);
    platform.stop().await;
}

#[tokio::test]
async fn a_call_that_moves_takes_its_measurements_with_it() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let call = claim["call_id"].as_str().unwrap();
    // Metrics arrive before it is known that the call began in another hour.
    admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0, "ttfb_stt_ms": 123, "stt_duration_sec": 2})).await.expect(201);
    admin.get(&format!("/analytics/calls/{call}/metrics")).await.expect(200);
    let started = json!({"call_id": call, "direction": "outbound", "phone_number": "+12025551000", "started_at": "2026-01-05T07:30:00Z"});
    admin.post("/calls", &started).await.expect(200);
    for path in ["/analytics/metrics", "/analytics/costs"] {
        let groups = admin.get(&format!("{path}?group_by=hour")).await.expect(200)["groups"].clone();
        let counts: BTreeMap<_, _> =
            groups.as_array().unwrap().iter().map(|g| (g["key"].as_str().unwrap(), g["call_count"].as_i64().unwrap())).collect();
        assert_eq!(counts, BTreeMap::from([("2026-01-05T07:00:00+00:00", 1)]), "{path}");
    }
    platform.stop().await;
}

#[tokio::test]
async fn calls_are_listed_by_what_they_are() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    calls(&admin).await;
    let first = admin.get("/analytics/calls?limit=5").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    let rest = admin.get(&format!("/analytics/calls?limit=200&cursor={cursor}")).await.expect(200);
    let started: Vec<_> =
        [&first, &rest].iter().flat_map(|p| p["items"].as_array().unwrap()).map(|c| c["started_at"].as_str().unwrap().to_owned()).collect();
    assert_eq!(started.len(), 12);
    assert!(started.windows(2).all(|w| w[0] >= w[1]), "newest first");
    let count =
        async |query: &str| admin.get(&format!("/analytics/calls?{query}&limit=200")).await.expect(200)["items"].as_array().unwrap().len();
    assert_eq!(count("direction=inbound").await, 12);
    assert_eq!(count("direction=outbound").await, 0);
    assert_eq!(count("phone_number=%2B12025550100").await, 12);
    assert_eq!(count("phone_number=%2B12025550199").await, 0);
    assert_eq!(count("phone_number=+1 202-555-0100").await, 12, "a + that is not encoded");
    for bad in ["2025550100", "12025550100", "(202) 555-0100", "00420601123456"] {
        let problem = admin.get(&format!("/analytics/calls?phone_number={bad}")).await.problem(400);
        assert!(problem.body.to_string().contains("with + and the country code"), "{}", problem.body);
    }
    assert_eq!(count("from=2026-03-01T09:00:00Z&to=2026-03-01T10:00:00Z").await, 3);
    for bad in ["outcome=great", "direction=up", "from=soon", "campaign_id=7", "phone_number=x", "cursor=%00"] {
        admin.get(&format!("/analytics/calls?{bad}")).await.problem(400);
    }
    for bad in ["limit=0", "limit=201", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"] {
        admin.get(&format!("/analytics/calls?{bad}")).await.problem(422);
    }
    admin.get("/analytics/metrics?group_by=mood").await.problem(400);
    admin.get("/analytics/costs?timezone=Mars").await.problem(400);
    platform.stop().await;
}

#[tokio::test]
async fn the_overview_has_the_numbers_of_today() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(2, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let overview = admin.get("/analytics/overview").await.expect(200);
    assert_eq!((&overview["today"]["call_count"], &overview["live_calls"]), (&json!(1), &json!(1)));
    assert_eq!(overview["live_campaigns"][0]["id"], json!(campaign));
    assert_eq!(overview["recent_calls"][0]["id"], claim["call_id"]);
    platform.stop().await;
}

#[tokio::test]
async fn periods_are_given_as_dates_in_a_zone_or_as_times_with_one() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    for (hour, started_at) in [(0, "2026-03-09T23:30:00Z"), (1, "2026-03-10T12:00:00Z")] {
        let call = json!({"direction": "inbound", "phone_number": format!("+1202555010{hour}"), "started_at": started_at});
        let id = admin.post("/calls", &call).await.expect(201).id();
        admin.post(&format!("/calls/{id}/end"), &json!({"duration_sec": 60})).await.expect(200);
    }
    let counted = async |query: &str| admin.get(&format!("/analytics/metrics?{query}")).await.expect(200)["totals"]["call_count"].clone();
    assert_eq!(counted("from=2026-03-10&to=2026-03-11").await, 1);
    // In Prague, the day begins an hour earlier.
    assert_eq!(counted("from=2026-03-10&to=2026-03-11&timezone=Europe/Prague").await, 2);
    assert_eq!(counted("from=2026-03-09T23:00:00Z&to=2026-03-11").await, 2);
    assert_eq!(admin.get("/analytics/calls?from=2026-03-10").await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get("/audit?from=2026-01-01&to=2026-01-02").await.expect(200)["items"], json!([]));
    for (path, wrong) in [
        ("/analytics/metrics?from=2026-03-10T12:00:00", "time with its zone"),
        ("/analytics/costs?to=10.3.2026", "time with its zone"),
        ("/analytics/calls?from=2026-13-10", "time with its zone"),
        ("/audit?from=yesterday", "time with its zone"),
    ] {
        let refused = admin.get(path).await.problem(400);
        assert!(refused.body.to_string().contains(wrong), "{path}: {}", refused.body);
    }
    let campaign = admin.campaign(json!({"timezone": "America/New_York", "start_time": "2026-12-01", "end_time": "2026-12-24"})).await;
    let campaign = admin.get(&format!("/campaigns/{campaign}")).await.expect(200);
    assert_eq!((&campaign["start_time"], &campaign["end_time"]), (&json!("2026-12-01T05:00:00Z"), &json!("2026-12-24T05:00:00Z")));
    let refused = admin.put(&format!("/campaigns/{}", campaign["id"].as_str().unwrap()), &json!({"start_time": "2026-12-01T09:00"})).await;
    let refused = refused.problem(422);
    assert_eq!(refused.paths(), ["start_time"]);
    assert!(refused.body.to_string().contains("as 2026-11-20T09:30:00Z"), "{}", refused.body);
    platform.stop().await;
}
