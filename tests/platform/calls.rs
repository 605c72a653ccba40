use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};
use support::{Client, Platform};

/// A conversation of `turns` turns in which some measurements are missing, as in real calls.
fn conversation(seed: i64, turns: i64) -> Vec<Value> {
    let turn = |i: i64| {
        let mut turn =
            json!({"turn_index": i, "agent_text": format!("sentence {i}"), "tts_characters": 10 + i, "interrupted": (i + seed) % 3 == 0});
        if i > 0 {
            turn["user_text"] = json!(format!("answer {i}"));
            turn["stt_duration_sec"] = json!(((seed * 7 + i * 31) % 400 + 1) as f64 / 100.0);
            turn["eou_latency_ms"] = json!((seed * 37 + i * 91) % 1_000);
        }
        if i % 2 == 0 {
            turn["llm_input_tokens"] = json!(100 + i * seed);
            turn["llm_output_tokens"] = json!(5 + i);
            turn["latency_llm_ms"] = json!(200.5 + i as f64);
            turn["ttfb_tts_ms"] = json!(90 + (seed * 13 + i * 29) % 200);
        }
        turn
    };
    (0..turns).map(turn).collect()
}

/// Starts a call in the past, posts its turns one by one in random order and with repeats, and ends it.
async fn play(client: &Client, seed: i64, turns: &[Value], duration_sec: f64) -> String {
    let body = json!({"direction": "inbound", "phone_number": "+12025550100", "started_at": "2026-03-01T10:00:00Z"});
    let id = client.post("/calls", &body).await.expect(201).id();
    let mut order: Vec<_> = (0..turns.len()).chain(0..turns.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed.unsigned_abs()));
    let mut recorded = 0;
    for i in order {
        let answer = client.post(&format!("/calls/{id}/turns"), &turns[i]).await;
        assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
        assert_eq!(answer["recorded"].as_i64().unwrap() + answer["duplicates"].as_i64().unwrap(), 1);
        recorded += answer["recorded"].as_i64().unwrap();
    }
    assert_eq!(recorded, turns.len() as i64);
    client.post(&format!("/calls/{id}/end"), &json!({"duration_sec": duration_sec, "outcome": "success"})).await.expect(200);
    id
}

fn floats(turns: &[Value], field: &str) -> Vec<f64> {
    let mut values: Vec<_> = turns.iter().filter_map(|turn| turn[field].as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values
}

#[track_caller]
fn assert_close(actual: &Value, expected: f64) {
    let actual = actual.as_f64().unwrap();
    assert!((actual - expected).abs() < 1e-6, "{actual} is not {expected}");
}

/// The expected metrics, computed here with integers: micro-dollars, scaled so that all values are whole.
#[track_caller]
fn check(metrics: &Value, turns: &[Value], duration_ms: i64) {
    assert_eq!(metrics["turn_count"], turns.len());
    let interrupted = turns.iter().filter(|t| t["interrupted"] == true).count();
    assert_eq!(metrics["interruption_count"], interrupted);
    assert_close(&metrics["interruption_rate"], interrupted as f64 / turns.len() as f64);
    for (field, prefix) in
        [("ttfb_stt_ms", "ttfb_stt"), ("latency_llm_ms", "latency_llm"), ("ttfb_tts_ms", "ttfb_tts"), ("eou_latency_ms", "eou_latency")]
    {
        let values = floats(turns, field);
        if values.is_empty() {
            for suffix in ["avg", "min", "max", "p50", "p95", "p99"] {
                assert_eq!(metrics[format!("{prefix}_{suffix}")], Value::Null, "{prefix}_{suffix}");
            }
            continue;
        }
        let nearest = |q: f64| values[((q * values.len() as f64).ceil() as usize).max(1) - 1];
        assert_close(&metrics[format!("{prefix}_avg")], values.iter().sum::<f64>() / values.len() as f64);
        assert_close(&metrics[format!("{prefix}_min")], values[0]);
        assert_close(&metrics[format!("{prefix}_max")], values[values.len() - 1]);
        assert_close(&metrics[format!("{prefix}_p50")], nearest(0.5));
        assert_close(&metrics[format!("{prefix}_p95")], nearest(0.95));
        assert_close(&metrics[format!("{prefix}_p99")], nearest(0.99));
    }
    // Speech in hundredths of a second at 0.0043 per second: whole millionths.
    let centis: i64 = floats(turns, "stt_duration_sec").iter().map(|s| (s * 100.0).round() as i64).sum();
    let (input, output) = (sum(turns, "llm_input_tokens"), sum(turns, "llm_output_tokens"));
    assert_eq!(decimal(&metrics["cost_stt"]), i128::from(centis) * 43 * 1_000_000, "cost_stt");
    assert_eq!(decimal(&metrics["cost_llm"]), i128::from(input * 5 + output * 8) * 10_000, "cost_llm");
    assert_eq!(decimal(&metrics["cost_tts"]), i128::from(sum(turns, "tts_characters")) * 15_000_000, "cost_tts");
    // A minute costs 0.004: thousandths of a second at 4 / 60 000 000, rounded half to even to twelve decimals.
    let (numerator, denominator) = (i128::from(duration_ms) * 4 * 1_000_000, 60_i128);
    let (whole, rest) = (numerator / denominator, numerator % denominator);
    let livekit = whole + i128::from(rest * 2 > denominator || (rest * 2 == denominator && whole % 2 == 1));
    assert_eq!(decimal(&metrics["cost_livekit"]), livekit, "cost_livekit");
    let total: i128 = ["cost_stt", "cost_llm", "cost_tts", "cost_livekit"].iter().map(|c| decimal(&metrics[*c])).sum();
    assert_eq!(decimal(&metrics["cost_total"]), total, "cost_total");
}

fn sum(turns: &[Value], field: &str) -> i64 {
    turns.iter().filter_map(|turn| turn[field].as_i64()).sum()
}

/// A decimal string in trillionths.
#[track_caller]
fn decimal(value: &Value) -> i128 {
    let text = value.as_str().expect("a decimal is a string");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 12, "{text}");
    format!("{whole}{fraction:0<12}").parse().unwrap()
}

#[tokio::test]
async fn metrics_and_costs_are_those_of_the_turns_whatever_their_order() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    for seed in 1..=8 {
        let turns = conversation(seed, seed + 1);
        let duration_ms = 45_248 + seed * 977;
        let id = play(&admin, seed, &turns, duration_ms as f64 / 1_000.0).await;
        let metrics = admin.get(&format!("/analytics/calls/{id}/metrics")).await.expect(200);
        check(&metrics.body, &turns, duration_ms);
        assert_eq!(metrics["ttfb_stt_avg"], Value::Null, "never measured is not zero");
        // The transcript has the texts in order.
        let transcript = admin.get(&format!("/analytics/calls/{id}/turns")).await.expect(200);
        let items = transcript["items"].as_array().unwrap();
        assert_eq!(items.len(), turns.len());
        for (item, turn) in items.iter().zip(&turns) {
            for (field, value) in turn.as_object().unwrap() {
                match value.as_f64() {
                    Some(number) => assert_close(&item[field], number),
                    None => assert_eq!(&item[field], value, "{field}"),
                }
            }
            assert_eq!(item["ttfb_stt_ms"], Value::Null);
        }
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_call_has_a_number_without_extension() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let start = async |number: &str| admin.post("/calls", &json!({"direction": "inbound", "phone_number": number})).await;
    let problem = start("+1 202-555-0100 x7").await.problem(422);
    assert_eq!(problem.paths(), ["phone_number"]);
    assert!(problem.body.to_string().contains("send the number without it"), "{}", problem.body);
    assert_eq!(start("2025550100").await.problem(422).paths(), ["phone_number"]);
    assert_eq!(start("tel:+1-202-555-0100").await.expect(201)["phone_number"], "+12025550100");
    platform.stop().await;
}

#[tokio::test]
async fn a_call_without_turns_has_metrics_of_nothing() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let metrics = admin.get(&format!("/analytics/calls/{id}/metrics")).await.expect(200);
    assert_eq!((&metrics["turn_count"], &metrics["interruption_rate"]), (&json!(0), &json!(0.0)));
    for field in ["stt_duration_sec", "llm_input_tokens", "tts_characters", "duration_sec", "eou_latency_p99", "outcome"] {
        assert_eq!(metrics[field], Value::Null, "{field}");
    }
    assert_eq!(decimal(&metrics["cost_total"]), 0);
    platform.stop().await;
}

#[tokio::test]
async fn an_array_of_turns_is_all_or_nothing() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let path = format!("/calls/{id}/turns");
    let turns = json!([{"turn_index": 0, "user_text": "a"}, {"turn_index": 1, "user_text": "b"}]);
    assert_eq!(admin.post(&path, &turns).await.expect(201).body, json!({"recorded": 2, "duplicates": 0}));
    assert_eq!(admin.post(&path, &turns).await.expect(200).body, json!({"recorded": 0, "duplicates": 2}));
    let conflict = admin.post(&path, &json!([{"turn_index": 2}, {"turn_index": 1, "user_text": "other"}])).await.problem(409);
    assert_eq!(conflict.paths(), ["turns[1]"]);
    let invalid = admin.post(&path, &json!([{"turn_index": 2}, {"turn_index": 3, "tts_characters": -1}])).await.problem(422);
    assert_eq!(invalid.paths(), ["turns[1].tts_characters"]);
    let unknown = admin.post(&path, &json!([{"turn_index": 2}, {"turn_index": 3, "mood": "good"}])).await.problem(422);
    assert_eq!(unknown.paths(), ["turns[1].mood"]);
    let twice = r#"[{"turn_index": 5}, {"turn_index": 6, "turn_index": 7}]"#;
    let twice = admin.request(reqwest::Method::POST, &path).header("content-type", "application/json").body(twice);
    assert_eq!(admin.send(twice).await.problem(422).paths(), ["turns[1].turn_index"]);
    let day = admin.post(&path, &json!({"turn_index": 5, "occurred_at": "2026-11-27"})).await.problem(422);
    assert!(day["detail"].as_str().unwrap().contains("must be a time with its zone"), "{}", day["detail"]);
    admin.post(&path, &json!([])).await.problem(422);
    admin.post(&path, &json!({"turn_index": -1})).await.problem(422);
    admin.post(&path, &json!({"turn_index": 2, "user_text": "a\u{0}"})).await.problem(422);
    for huge in [1e300, 7e27, 1e18, -1.0] {
        admin.post(&path, &json!({"turn_index": 2, "eou_latency_ms": huge})).await.problem(422);
    }
    assert_eq!(admin.get(&format!("/analytics/calls/{id}/turns")).await["items"].as_array().unwrap().len(), 2);
    admin.post(&format!("/calls/{}/turns", uuid::Uuid::new_v4()), &turns).await.problem(404);
    platform.stop().await;
}

#[tokio::test]
async fn late_turns_are_refused_and_old_calls_can_be_filled_in() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let body = json!({"direction": "inbound", "phone_number": "+12025550100", "started_at": "2020-06-02T00:13:03Z"});
    let id = admin.post("/calls", &body).await.expect(201).id();
    let ended = admin.post(&format!("/calls/{id}/end"), &json!({"duration_sec": 51.203})).await.expect(200);
    assert_eq!((&ended["ended_at"], &ended["duration_sec"]), (&json!("2020-06-02T00:13:54.203Z"), &json!(51.203)));
    let path = format!("/calls/{id}/turns");
    admin.post(&path, &json!({"turn_index": 0, "occurred_at": "2020-06-02T00:13:30Z"})).await.expect(201);
    assert_eq!(
        admin.post(&path, &json!({"turn_index": 1, "occurred_at": "2020-06-03T00:14:00Z"})).await.problem(422).paths(),
        ["turns[0].occurred_at"]
    );
    admin.post(&path, &json!({"turn_index": 1})).await.problem(422);
    admin.post(&format!("/calls/{id}/end"), &json!({"duration_sec": 51.203})).await.expect(200);
    admin.post(&format!("/calls/{id}/end"), &json!({"duration_sec": 52})).await.problem(409);
    platform.stop().await;
}

#[tokio::test]
async fn outcomes_are_told_from_state_and_words_unless_given() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let cases = [
        (json!({"outcome": "busy", "final_state": "booked"}), "", "busy", "explicit"),
        (json!({"final_state": "Voicemail-Left"}), "", "voicemail", "state"),
        (json!({"final_state": "my own state"}), "no me interesa", "fail", "keywords"),
        (json!({}), "souhlasím", "success", "keywords"),
    ];
    for (end, said, outcome, method) in cases {
        let id = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
        admin.post(&format!("/calls/{id}/turns"), &json!({"turn_index": 0, "user_text": said})).await.expect(201);
        let ended = admin.post(&format!("/calls/{id}/end"), &end).await.expect(200);
        assert_eq!((&ended["outcome"], &ended["outcome_method"]), (&json!(outcome), &json!(method)));
        assert_eq!(admin.get(&format!("/calls/{id}")).await["outcome"], outcome);
    }
    let id = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let ended = admin.act(&format!("/calls/{id}/end")).await.expect(200);
    assert_eq!((&ended["outcome"], &ended["outcome_method"], &ended["outcome_confidence"]), (&Value::Null, &json!("none"), &json!(0.0)));
    platform.stop().await;
}

#[tokio::test]
async fn a_calls_history_says_who_and_when() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let key = admin.post("/api-keys", &json!({"name": "bot 7", "role": "agent"})).await.expect(201);
    let agent = admin.with_token(key["key"].as_str().unwrap());
    let id = agent.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    agent.post(&format!("/calls/{id}/turns"), &json!({"turn_index": 0, "user_text": "hi"})).await.expect(201);
    let before_end = agent.get(&format!("/calls/{id}/history")).await["items"][1]["recorded_at"].as_str().unwrap().replace('+', "%2B");
    agent.act(&format!("/calls/{id}/end")).await.expect(200);
    let history = agent.get(&format!("/calls/{id}/history")).await.expect(200);
    let items = history["items"].as_array().unwrap();
    assert_eq!(
        items.iter().map(|e| e["event_type"].as_str().unwrap()).collect::<Vec<_>>(),
        ["CallStarted", "TurnRecorded", "CallEnded", "CallOutcomeClassified"]
    );
    assert_eq!(items[1]["payload"]["turn_index"], 0);
    let actor = &items[1]["metadata"]["actor"];
    assert_eq!((&actor["kind"], &actor["name"]), (&json!("api_key"), &json!("bot 7")));
    assert_eq!(agent.get(&format!("/calls/{id}?as_of={before_end}")).await.expect(200)["status"], "in_progress");
    platform.stop().await;
}

/// The call and its costs as the API shows them, without the ids.
async fn told(client: &Client, id: &str) -> Value {
    let call = client.get(&format!("/calls/{id}")).await.expect(200).body;
    let mut metrics = client.get(&format!("/analytics/calls/{id}/metrics")).await.expect(200).body;
    metrics.as_object_mut().unwrap().remove("call_id");
    let times: Vec<_> = ["status", "started_at", "ended_at", "duration_sec", "outcome"].map(|field| call[field].clone()).into();
    json!({"times": times, "metrics": metrics})
}

#[tokio::test]
async fn start_and_end_in_either_order_give_the_same_call() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(2, json!({})).await;
    let mut calls = Vec::new();
    for end_first in [false, true] {
        let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
        let (call, number) = (claim["call_id"].as_str().unwrap(), &claim["task"]["phone_number"]);
        let start = json!({"call_id": call, "direction": "outbound", "phone_number": number, "started_at": "2026-03-01T10:59:30Z"});
        let end = json!({"ended_at": "2026-03-01T11:00:45Z", "outcome": "success"});
        let turn = json!({"turn_index": 0, "occurred_at": "2026-03-01T10:59:31Z", "stt_duration_sec": 2});
        let mut requests = vec![("/calls".to_owned(), start), (format!("/calls/{call}/end"), end)];
        if end_first {
            requests.reverse();
        }
        for (path, body) in requests {
            admin.post(&path, &body).await.expect(200);
            // Each request is projected separately.
            admin.get(&format!("/analytics/calls/{call}/metrics")).await.expect(200);
        }
        admin.post(&format!("/calls/{call}/turns"), &turn).await.expect(201);
        calls.push(told(&admin, call).await);
    }
    assert_eq!(calls[0], calls[1]);
    assert_eq!((&calls[1]["times"][3], &calls[1]["metrics"]["duration_sec"]), (&json!(75.0), &json!(75.0)));
    assert_eq!(calls[1]["metrics"]["cost_livekit"].as_str().unwrap().trim_end_matches('0'), "0.005");
    assert_eq!(admin.get(&format!("/campaigns/{campaign}/stats")).await.expect(200)["average_duration_sec"], json!(75.0));
    let groups = admin.get("/analytics/metrics?group_by=hour").await.expect(200)["groups"].clone();
    assert_eq!((&groups[0]["call_count"], &groups[0]["duration_sec"]), (&json!(2), &json!(150.0)));
    platform.stop().await;
}

#[tokio::test]
async fn a_worker_whose_clock_is_slow_can_end_its_call() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let ended_at = Utc::now().trunc_subsecs(3) - TimeDelta::seconds(3);
    let end = json!({"ended_at": ended_at, "duration_sec": 0.4});
    for _ in 0..2 {
        let ended = admin.post(&format!("/calls/{id}/end"), &end).await.expect(200);
        let time = |field: &str| ended[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        assert_eq!((time("started_at"), time("ended_at")), (ended_at - TimeDelta::milliseconds(400), ended_at));
        assert_eq!(ended["duration_sec"], json!(0.4));
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_start_in_the_future_or_after_the_end_is_refused() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let start = |started_at: DateTime<Utc>| json!({"direction": "inbound", "phone_number": "+12025550100", "started_at": started_at});
    for ahead in [TimeDelta::minutes(6), TimeDelta::days(400)] {
        assert_eq!(admin.post("/calls", &start(Utc::now() + ahead)).await.problem(422).paths(), ["started_at"]);
    }
    let id = admin.post("/calls", &start(Utc::now() + TimeDelta::minutes(4))).await.expect(201).id();
    let early = json!({"ended_at": Utc::now()});
    assert_eq!(admin.post(&format!("/calls/{id}/end"), &early).await.problem(422).paths(), ["ended_at"]);

    let campaign = admin.running_campaign(1, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let call = claim["call_id"].as_str().unwrap();
    admin.post(&format!("/calls/{call}/end"), &json!({"ended_at": "2026-03-01T10:00:00Z"})).await.expect(200);
    let number = &claim["task"]["phone_number"];
    let late = json!({"call_id": call, "direction": "outbound", "phone_number": number, "started_at": "2026-03-01T10:00:01Z"});
    assert_eq!(admin.post("/calls", &late).await.problem(422).paths(), ["started_at"]);
    platform.stop().await;
}

#[tokio::test]
async fn a_wrong_clock_is_refused_on_a_field_that_the_request_has_and_can_be_corrected() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    let (call, number) = (claim["call_id"].as_str().unwrap(), &claim["task"]["phone_number"]);
    let end = format!("/calls/{call}/end");
    assert_eq!(admin.post(&end, &json!({"ended_at": "2199-01-01T00:00:00Z"})).await.problem(422).paths(), ["ended_at"]);
    admin.post(&end, &json!({"ended_at": "2026-03-01T10:01:00Z"})).await.expect(200);
    let start = |started_at| json!({"call_id": call, "direction": "outbound", "phone_number": number, "started_at": started_at});
    assert_eq!(admin.post("/calls", &start("1970-01-01T00:00:00Z")).await.problem(422).paths(), ["started_at"]);
    let started = admin.post("/calls", &start("2026-03-01T10:00:00Z")).await.expect(200);
    assert_eq!(started["duration_sec"], json!(60.0));

    let old = json!({"direction": "inbound", "phone_number": "+12025550100", "started_at": "1970-01-01T00:00:00Z"});
    let end = format!("/calls/{}/end", admin.post("/calls", &old).await.expect(201).id());
    assert_eq!(admin.post(&end, &json!({"ended_at": "2026-03-01T10:00:00Z"})).await.problem(422).paths(), ["duration_sec"]);
    let ended = admin.post(&end, &json!({"duration_sec": 60})).await.expect(200);
    assert_eq!((&ended["ended_at"], &ended["duration_sec"]), (&json!("1970-01-01T00:01:00Z"), &json!(60.0)));
    platform.stop().await;
}

#[tokio::test]
async fn an_end_sent_again_may_leave_fields_out() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let path = format!("/calls/{id}/end");
    let end = json!({"duration_sec": 5, "final_state": "bye", "hangup_by": "agent", "outcome": "success"});
    let ended = admin.post(&path, &end).await.expect(200);
    for field in ["duration_sec", "final_state", "hangup_by", "outcome"] {
        let mut again = end.clone();
        again.as_object_mut().unwrap().remove(field);
        assert_eq!(admin.post(&path, &again).await.expect(200).body, ended.body, "without {field}");
        again[field] = if field == "duration_sec" { json!(6) } else { json!("busy") };
        admin.post(&path, &again).await.problem(409);
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_call_of_a_task_is_with_the_tasks_number() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let claim = admin.act(&format!("/campaigns/{campaign}/tasks/claim")).await.expect(200);
    for (of, started) in [(json!({"call_id": claim["call_id"]}), 200), (json!({"task_id": claim["task"]["id"]}), 201)] {
        let mut start = of;
        start
            .as_object_mut()
            .unwrap()
            .extend(json!({"direction": "outbound", "phone_number": "+12025559999"}).as_object().unwrap().clone());
        assert_eq!(admin.post("/calls", &start).await.problem(422).paths(), ["phone_number"]);
        start["phone_number"] = claim["task"]["phone_number"].clone();
        admin.post("/calls", &start).await.expect(started);
    }
    platform.stop().await;
}

#[tokio::test]
async fn limits_are_told_in_the_fields_own_unit() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let cases = [
        ("turns", json!({"turn_index": 0, "ttfb_stt_ms": -1}), "ttfb_stt_ms", "must be from 0 to 3600000"),
        ("turns", json!({"turn_index": 0, "ttfb_stt_ms": 3_600_000.1}), "ttfb_stt_ms", "must be from 0 to 3600000"),
        ("end", json!({"duration_sec": -1}), "duration_sec", "must be from 0 to 864000"),
        (
            "end",
            json!({"duration_sec": 1e300}),
            "duration_sec",
            "has more digits than a decimal holds exactly: 28 decimals, 28 digits in all",
        ),
    ];
    for (path, body, field, message) in cases {
        let problem = admin.post(&format!("/calls/{id}/{path}"), &body).await.problem(422);
        assert_eq!((problem.paths(), &problem["errors"][0]["message"]), (vec![field], &json!(message)), "{body}");
    }
    let end = json!({"duration_sec": 1e300, "ended_at": "9999-01-01T00:00:00Z", "hangup_by": "x".repeat(201)});
    assert_eq!(admin.post(&format!("/calls/{id}/end"), &end).await.problem(422).paths(), ["duration_sec", "ended_at", "hangup_by"]);
    platform.stop().await;
}
