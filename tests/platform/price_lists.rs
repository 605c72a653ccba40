use chrono::{DateTime, Utc};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use support::{Client, Platform, new_database};

async fn call(client: &Client, started_at: &str, turn: serde_json::Value) -> String {
    let body = json!({"direction": "inbound", "phone_number": "+12025550100", "started_at": started_at});
    let id = client.post("/calls", &body).await.expect(201).id();
    client.post(&format!("/calls/{id}/turns"), &turn).await.expect(201);
    client.post(&format!("/calls/{id}/end"), &json!({"duration_sec": 60})).await.expect(200);
    id
}

async fn cost(client: &Client, id: &str, field: &str) -> String {
    client.get(&format!("/analytics/calls/{id}/metrics")).await.expect(200)[field].as_str().unwrap().to_owned()
}

fn list(name: &str, effective_from: &str, stt: &str) -> serde_json::Value {
    json!({"name": name, "effective_from": effective_from, "rates": [{"component": "stt", "price": stt, "per": 1, "unit": "second"}]})
}

#[tokio::test]
async fn a_turn_is_priced_by_the_list_in_force_when_it_happened() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let turn = |at: &str| json!({"turn_index": 0, "occurred_at": at, "stt_duration_sec": 10});
    let old = call(&admin, "2026-01-10T00:00:00Z", turn("2026-01-10T00:00:01Z")).await;
    let new = call(&admin, "2026-02-10T00:00:00Z", turn("2026-02-10T00:00:01Z")).await;
    assert_eq!(cost(&admin, &old, "cost_stt").await, "0.043");
    // A list for an earlier date changes the prices in its period, and only there.
    admin.post("/price-lists", &list("February", "2026-02-01T00:00:00Z", "0.01")).await.expect(201);
    assert_eq!((cost(&admin, &old, "cost_stt").await, cost(&admin, &new, "cost_stt").await), ("0.043".into(), "0.1".into()));
    assert_eq!(cost(&admin, &new, "cost_livekit").await, "0", "a list replaces the one before as a whole");
    admin.post("/price-lists", &list("January", "2026-01-05T00:00:00Z", "0.02")).await.expect(201);
    assert_eq!((cost(&admin, &old, "cost_stt").await, cost(&admin, &new, "cost_stt").await), ("0.2".into(), "0.1".into()));
    // If two lists have the same date, the one that was published later is in force.
    admin.post("/price-lists", &list("January again", "2026-01-05T00:00:00Z", "0.03")).await.expect(201);
    assert_eq!(cost(&admin, &old, "cost_stt").await, "0.3");
    // A turn before the change and a turn after it are priced by different lists.
    let both = call(
        &admin,
        "2026-01-31T23:59:00Z",
        json!([turn("2026-01-31T23:59:59Z"), {"turn_index": 1, "occurred_at": "2026-02-01T00:00:00Z", "stt_duration_sec": 10}]),
    )
    .await;
    assert_eq!(cost(&admin, &both, "cost_stt").await, "0.4");
    let totals = admin.get("/analytics/costs").await.expect(200)["totals"].clone();
    assert_eq!(totals["cost_stt"], "0.8");
    assert_eq!(totals["unpriced"], json!([{"component": "livekit", "provider": null, "model": null, "quantity": 180.0, "unit": "second"}]));
    platform.stop().await;
}

/// A dry run tells what the list would change, and publishing it then changes exactly that.
#[tokio::test]
async fn a_list_tells_what_it_reprices_and_a_dry_run_publishes_nothing() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let turn = |at: &str| json!({"turn_index": 0, "occurred_at": at, "stt_duration_sec": 10});
    for at in ["2026-01-10T00:00:00Z", "2026-02-10T00:00:00Z", "2026-02-11T00:00:00Z", "2026-03-10T00:00:00Z"] {
        call(&admin, at, turn(at)).await;
    }
    admin.post("/price-lists", &list("March", "2026-03-01T00:00:00Z", "0.01")).await.expect(201);
    let total = async || admin.get("/analytics/costs?from=2026-02-01&to=2026-03-01").await.expect(200)["totals"]["cost_total"].clone();
    let (before, february) = (total().await, list("February", "2026-02-01", "0.002"));
    let dry = admin.post("/price-lists?dry_run=true", &february).await.expect(200);
    let expected = json!({"calls": 2, "cost_before": before, "cost_after": "0.04"});
    assert_eq!((&dry["reprices"], &dry["id"], &dry["created_at"]), (&expected, &json!(null), &json!(null)));
    assert_eq!((&dry["dry_run"], &dry["unpriced"]), (&json!(true), &json!(["llm_input", "llm_output", "tts", "livekit"])));
    assert_eq!(total().await, before);
    assert_eq!(admin.get("/price-lists").await["items"].as_array().unwrap().len(), 2, "the default list and March");
    let done = admin.post("/price-lists", &february).await.expect(201);
    assert_eq!((&done["reprices"], &done["dry_run"]), (&expected, &json!(false)));
    assert_eq!(total().await, "0.04");
    let future = admin.post("/price-lists?dry_run=true", &list("Later", "2099-01-01", "1")).await.expect(200);
    assert_eq!(future["reprices"], json!({"calls": 0, "cost_before": "0", "cost_after": "0"}));
    admin.post("/price-lists?dry_run=maybe", &february).await.problem(400);
    admin.post("/price-lists?dry_run=true", &list("L", "2026-01-01", "x")).await.problem(422);

    // The query belongs to the request that a key stands for; the time to wait does not.
    let keyed = |query: &str, body: serde_json::Value| {
        admin.send(admin.request(reqwest::Method::POST, &format!("/price-lists{query}")).header("idempotency-key", "k").json(&body))
    };
    keyed("?dry_run=true", february.clone()).await.expect(200);
    keyed("", february.clone()).await.problem(422);
    assert_eq!(keyed("?dry_run=true", february).await.expect(200).header("idempotent-replayed"), Some("true"));
    platform.stop().await;
}

/// A withdrawn list prices nothing, and the list before it is in force in its period.
#[tokio::test]
async fn a_withdrawn_list_is_as_if_it_had_never_been_published() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let turn = |at: &str| json!({"turn_index": 0, "occurred_at": at, "stt_duration_sec": 10});
    let before = call(&admin, "2026-01-10T00:00:00Z", turn("2026-01-10T00:00:01Z")).await;
    let within = call(&admin, "2026-02-10T00:00:00Z", turn("2026-02-10T00:00:01Z")).await;
    let after = call(&admin, "2026-03-10T00:00:00Z", turn("2026-03-10T00:00:01Z")).await;
    let costs =
        async || [cost(&admin, &before, "cost_stt").await, cost(&admin, &within, "cost_stt").await, cost(&admin, &after, "cost_stt").await];
    let totals = async || admin.get("/analytics/costs").await.expect(200)["totals"].clone();
    let march = admin.post("/price-lists", &list("March", "2026-03-01T00:00:00Z", "0.01")).await.expect(201).id();
    let (unchanged, total) = (costs().await, totals().await);
    assert_eq!(unchanged, ["0.043", "0.043", "0.1"]);
    let wrong = admin.post("/price-lists", &list("Wrong", "2026-02-01T00:00:00Z", "0.9")).await.expect(201).id();
    let overtaken = admin.post("/price-lists", &list("Overtaken", "2026-02-15T00:00:00Z", "7")).await.expect(201).id();
    let later = admin.post("/price-lists", &list("Later", "2026-02-15T00:00:00Z", "8")).await.expect(201).id();
    assert_eq!(costs().await, ["0.043", "9", "0.1"]);

    let path = format!("/price-lists/{wrong}/withdraw");
    let dry = admin.act(&format!("{path}?dry_run=true")).await.expect(200);
    let expected = json!({"calls": 1, "cost_before": "9", "cost_after": "0.047"});
    assert_eq!((&dry["reprices"], &dry["dry_run"], &dry["withdrawn_at"]), (&expected, &json!(true), &json!(null)));
    assert_eq!(costs().await[1], "9");
    let viewer = admin.post("/api-keys", &json!({"name": "viewer", "role": "viewer"})).await.expect(201);
    admin.with_token(viewer["key"].as_str().unwrap()).act(&path).await.problem(403);
    platform.admin().await.act(&path).await.problem(404);
    admin.act(&format!("{path}?dry_run=perhaps")).await.problem(400);
    let done = admin.act(&path).await.expect(200);
    assert_eq!((&done["reprices"], &done["dry_run"]), (&expected, &json!(false)));
    assert_eq!((costs().await, totals().await), (unchanged.clone(), total.clone()));
    // The bill says why it changed, and names the list.
    let bill = admin.get(&format!("/analytics/calls/{within}/costs")).await.expect(200);
    let repricings = bill["repricings"].as_array().unwrap();
    assert_eq!(repricings.len(), 2);
    assert!(repricings[1]["why"].as_str().unwrap().contains("was withdrawn"), "{}", repricings[1]["why"]);
    assert_eq!(repricings[1]["changes"][0]["price_lists_before"][0]["name"], "Wrong");
    // It stays readable, and a second withdrawal changes nothing.
    let read = admin.get(&format!("/price-lists/{wrong}")).await.expect(200);
    assert_eq!((&read["withdrawn_at"], &read["name"]), (&done["withdrawn_at"], &json!("Wrong")));
    let again = admin.act(&path).await.expect(200);
    assert_eq!((&again["reprices"], &again["withdrawn_at"]), (&json!(null), &done["withdrawn_at"]));
    admin.act(&format!("{path}?dry_run=true")).await.problem(404);

    // A list that another one with its date has overtaken prices nothing; without the other one it does.
    let nothing = json!({"calls": 0, "cost_before": "0", "cost_after": "0"});
    assert_eq!(admin.act(&format!("/price-lists/{overtaken}/withdraw?dry_run=true")).await.expect(200)["reprices"], nothing);
    admin.act(&format!("/price-lists/{later}/withdraw")).await.expect(200);
    let own = call(&admin, "2026-02-20T00:00:00Z", turn("2026-02-20T00:00:01Z")).await;
    assert_eq!(cost(&admin, &own, "cost_stt").await, "70");
    admin.act(&format!("/price-lists/{overtaken}/withdraw")).await.expect(200);
    assert_eq!(cost(&admin, &own, "cost_stt").await, "0.043");
    // A rebuild from the log gives the same.
    admin.act(&format!("/price-lists/{march}/withdraw")).await.expect(200);
    let (expected, all) = (costs().await, totals().await);
    assert_eq!(expected, ["0.043", "0.043", "0.043"]);
    platform.operator().await.act("/projections/cost_rollups/rebuild").await.expect(202);
    let rebuilt = async {
        let state = async || admin.get("/projections").await.expect(200)["items"].clone();
        while state().await.as_array().unwrap().iter().any(|projection| projection["status"] != "live") {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), rebuilt).await.expect("the rebuild ends in time");
    assert_eq!((costs().await, totals().await), (expected, all));
    // Without any list, usage is unpriced.
    assert_eq!(dry["unpriced"], json!([]), "the default list takes its place");
    let first = admin.get("/price-lists").await.expect(200)["items"].as_array().unwrap().last().unwrap()["id"].clone();
    let last = admin.act(&format!("/price-lists/{}/withdraw", first.as_str().unwrap())).await.expect(200);
    assert_eq!(last["unpriced"], json!(["stt", "llm_input", "llm_output", "tts", "livekit"]), "no list is left");
    let unpriced = totals().await;
    assert_eq!((&unpriced["cost_total"], unpriced["unpriced"].as_array().unwrap().len()), (&json!("0"), 2));
    assert_eq!(admin.get("/price-lists/estimate").await.expect(200)["cost_per_minute"]["cost_total"], "0");
    platform.stop().await;
}

/// Each preset can be published as it is; the corrected one has a sixtieth of the original's price of speech.
#[tokio::test]
async fn presets_can_be_published_as_they_are() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let presets = admin.get("/price-lists/presets").await.expect(200)["items"].clone();
    let own = admin.get("/price-lists").await.expect(200)["items"][0].clone();
    assert_eq!((presets.as_array().unwrap().len(), &presets[0]["rates"]), (2, &own["rates"]), "a new company has the first one");
    let mut costs = Vec::new();
    for preset in presets.as_array().unwrap() {
        let list = json!({"name": preset["name"], "effective_from": "2026-01-01", "rates": preset["rates"]});
        let published = admin.post("/price-lists", &list).await.expect(201);
        assert_eq!((&published["unpriced"], &published["rates"]), (&json!([]), &preset["rates"]));
        let estimate = admin.get("/price-lists/estimate?stt_seconds=60").await.expect(200);
        costs.push(estimate["cost_per_minute"]["cost_stt"].as_str().unwrap().parse::<Decimal>().unwrap());
    }
    assert_eq!(costs, [Decimal::new(258, 3), Decimal::new(43, 4)]);
    platform.stop().await;
}

#[tokio::test]
async fn a_price_is_stored_exactly_or_refused() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    for price in ["0.00000000000000000000000000001", "1e-29", "1_000", " 1", "79228162514264337593543950336"] {
        let problem = admin.post("/price-lists", &list("L", "2026-01-01T00:00:00Z", price)).await.problem(422);
        assert_eq!(problem.paths(), ["rates[0].price"], "{price}");
    }
    for (written, stored) in [("0.0000000000000000000000000001", "0.0000000000000000000000000001"), ("2.50", "2.5"), ("1e-7", "0.0000001")]
    {
        let answer = admin.post("/price-lists", &list("L", "2026-01-01T00:00:00Z", written)).await.expect(201);
        assert_eq!(answer["rates"][0]["price"], stored);
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_whole_number_is_taken_however_it_is_written() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let turn = json!({"turn_index": 0.0, "occurred_at": "2026-01-10T00:00:01Z", "llm_input_tokens": 4.2e2, "tts_characters": 420.0});
    let id = call(&admin, "2026-01-10T00:00:00Z", turn).await;
    for field in ["turn_index", "llm_input_tokens", "llm_output_tokens", "tts_characters"] {
        let mut turn = json!({"turn_index": 1});
        turn[field] = json!(420.5);
        assert_eq!(admin.post(&format!("/calls/{id}/turns"), &turn).await.problem(422).paths(), [field]);
        assert_eq!(admin.post(&format!("/calls/{id}/turns"), &json!([turn])).await.problem(422).paths(), [format!("turns[0].{field}")]);
    }
    let mut rates = list("L", "2026-01-01T00:00:00Z", "1");
    rates["rates"][0]["per"] = json!(1e3);
    assert_eq!(admin.post("/price-lists", &rates).await.expect(201)["rates"][0]["per"], 1000);
    rates["rates"][0]["per"] = json!(0.5);
    assert_eq!(admin.post("/price-lists", &rates).await.problem(422).paths(), ["rates[0].per"]);
    let skillbase = admin.skillbase().await;
    let campaign = |max_retries: f64| json!({"name": "C", "skillbase_id": skillbase, "max_retries": max_retries});
    admin.post("/campaigns", &campaign(3.0)).await.expect(201);
    assert_eq!(admin.post("/campaigns", &campaign(3.5)).await.problem(422).paths(), ["max_retries"]);
    platform.stop().await;
}

#[tokio::test]
async fn the_most_specific_rate_wins() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let rates = json!([
        {"component": "llm_input", "price": "1", "per": 1000, "unit": "token"},
        {"component": "llm_input", "provider": "groq", "price": "2", "per": 1000, "unit": "token"},
        {"component": "llm_input", "provider": "groq", "model": "big", "price": "3", "per": 1000, "unit": "token"},
    ]);
    admin.post("/price-lists", &json!({"name": "L", "effective_from": "2026-01-01T00:00:00Z", "rates": rates})).await.expect(201);
    let turns = json!([
        {"turn_index": 0, "occurred_at": "2026-01-10T00:00:01Z", "llm_input_tokens": 1000},
        {"turn_index": 1, "occurred_at": "2026-01-10T00:00:01Z", "llm_input_tokens": 1000, "llm_provider": "groq", "llm_model": "small"},
        {"turn_index": 2, "occurred_at": "2026-01-10T00:00:01Z", "llm_input_tokens": 1000, "llm_provider": "groq", "llm_model": "big"},
    ]);
    let id = call(&admin, "2026-01-10T00:00:00Z", turns).await;
    assert_eq!(cost(&admin, &id, "cost_llm").await, "6");
    platform.stop().await;
}

#[tokio::test]
async fn what_if_prices_a_period_anew_and_changes_nothing() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id =
        call(&admin, "2026-01-10T00:00:00Z", json!({"turn_index": 0, "occurred_at": "2026-01-10T00:00:01Z", "stt_duration_sec": 10})).await;
    let rates = json!([{"component": "stt", "price": "0.01", "per": 1, "unit": "second"}]);
    let ask = |from: &str, to: &str| json!({"rates": rates, "from": from, "to": to});
    let answer = admin.ask("/price-lists/what-if", &ask("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")).await.expect(200);
    assert_eq!((&answer["actual"]["cost_stt"], &answer["actual"]["cost_total"]), (&json!("0.043"), &json!("0.047")));
    assert_eq!((&answer["what_if"]["cost_stt"], &answer["what_if"]["cost_livekit"]), (&json!("0.1"), &json!("0")));
    assert_eq!((&answer["difference"]["cost_stt"], &answer["difference"]["cost_total"]), (&json!("0.057"), &json!("0.053")));
    assert_eq!(answer["unpriced"], json!([{"component": "livekit", "provider": null, "model": null, "quantity": 60.0, "unit": "second"}]));
    let empty = admin.ask("/price-lists/what-if", &ask("2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z")).await.expect(200);
    assert_eq!((&empty["actual"]["cost_total"], &empty["what_if"]["cost_total"]), (&json!("0"), &json!("0")));
    let default = admin.get("/price-lists").await["items"][0]["id"].as_str().unwrap().to_owned();
    let same = json!({"price_list_id": default, "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"});
    let same = admin.ask("/price-lists/what-if", &same).await.expect(200);
    assert_eq!((&same["difference"]["cost_total"], &same["unpriced"]), (&json!("0"), &json!([])));
    admin.ask("/price-lists/what-if", &ask("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z")).await.problem(422);
    admin.ask("/price-lists/what-if", &json!({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"})).await.problem(422);
    assert_eq!(cost(&admin, &id, "cost_stt").await, "0.043");
    platform.stop().await;
}

#[tokio::test]
async fn a_minute_is_estimated_under_the_list_in_force() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let estimate =
        admin.get("/price-lists/estimate?stt_seconds=10&llm_input_tokens=1000000&llm_output_tokens=0&tts_characters=100").await.expect(200);
    let per_minute = &estimate["cost_per_minute"];
    assert_eq!((&per_minute["cost_stt"], &per_minute["cost_llm"]), (&json!("0.043"), &json!("0.05")));
    assert_eq!(
        (&per_minute["cost_tts"], &per_minute["cost_livekit"], &per_minute["cost_total"]),
        (&json!("0.0015"), &json!("0.004"), &json!("0.0985"))
    );
    assert_eq!((&estimate["assumptions"]["tts_characters"], &estimate["unpriced"]), (&json!(100), &json!([])));
    admin.get("/price-lists/estimate?stt_seconds=-1").await.problem(422);
    for malformed in ["x", "1_0", "0.00000000000000000000000000001"] {
        admin.get(&format!("/price-lists/estimate?stt_seconds={malformed}")).await.problem(400);
    }
    // A list without some components says so, and so does an estimate under it.
    let published = admin.post("/price-lists", &list("speech only", "2026-01-01T00:00:00Z", "0.01")).await.expect(201);
    let others = json!(["llm_input", "llm_output", "tts", "livekit"]);
    assert_eq!((&published["unpriced"], &admin.get(&format!("/price-lists/{}", published.id())).await["unpriced"]), (&others, &others));
    let estimate = admin.get("/price-lists/estimate?llm_output_tokens=0").await.expect(200);
    assert_eq!(estimate["unpriced"], json!(["llm_input", "tts", "livekit"]));
    platform.stop().await;
}

#[tokio::test]
async fn rates_that_mean_nothing_are_422_with_paths() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let rate = |change: serde_json::Value| {
        let mut rate = json!({"component": "stt", "price": "1", "per": 1, "unit": "second"});
        rate.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"name": "L", "effective_from": "2026-01-01T00:00:00Z", "rates": [rate]})
    };
    for (change, path) in [
        (json!({"price": "-1"}), "rates[0].price"),
        (json!({"price": "cheap"}), "rates[0].price"),
        (json!({"per": 0}), "rates[0].per"),
        (json!({"per": 0.5}), "rates[0].per"),
        (json!({"per": 1_000_003}), "rates[0].per"),
        (json!({"unit": "hour"}), "rates[0].unit"),
        (json!({"unit": "token"}), "rates[0].unit"),
        (json!({"component": "video"}), "rates[0].component"),
        (json!({"model": "nova"}), "rates[0].model"),
    ] {
        assert_eq!(admin.post("/price-lists", &rate(change.clone())).await.problem(422).paths(), [path], "{change}");
    }
    assert_eq!(
        admin.post("/price-lists", &json!({"name": "L", "effective_from": "2026-01-01T00:00:00Z", "rates": []})).await.problem(422).paths(),
        ["rates"]
    );
    platform.stop().await;
}

/// Calls at random times in a week, with a few turns each; then lists in random order for random times. After each list, exactly the turns
/// in its period have another price, and each call's bill has the change and its cause.
#[tokio::test]
async fn a_list_for_the_past_changes_exactly_the_turns_it_covers_and_says_so() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let mut rng = StdRng::seed_from_u64(support::seed());
    let at = |minute: i64| DateTime::<Utc>::from_timestamp(1_770_000_000 + minute * 60, 0).unwrap();
    // For each call: its id, and for each turn the minute and the seconds of speech.
    let mut calls: Vec<(String, Vec<(i64, i64)>)> = Vec::new();
    for _ in 0..25 {
        let begun = rng.random_range(0..10_000);
        let turns: Vec<_> = (0..rng.random_range(1..5)).map(|_| (begun + rng.random_range(0..900), rng.random_range(1..60))).collect();
        let body: Vec<_> = turns
            .iter()
            .enumerate()
            .map(|(i, (minute, seconds))| json!({"turn_index": i, "occurred_at": at(*minute), "stt_duration_sec": seconds}))
            .collect();
        calls.push((call(&admin, &at(begun).to_rfc3339(), json!(body)).await, turns));
    }
    // From the beginning, the company's first list is in force: 0.0043 per second. If two lists are for the same minute, the later one is
    // in force.
    let mut lists = vec![(i64::MIN, Decimal::new(43, 4), String::new())];
    for n in 0..6 {
        let (from, price) = (rng.random_range(0..10_000), Decimal::new(rng.random_range(1..10_000), 4));
        let before = lists.clone();
        let id = admin.post("/price-lists", &list(&format!("List {n}"), &at(from).to_rfc3339(), &price.to_string())).await.expect(201).id();
        lists.push((from, price, id.clone()));
        lists.sort_by_key(|(from, ..)| *from);
        let in_force = |lists: &[(i64, Decimal, String)], minute: i64| lists.iter().rfind(|(from, ..)| *from <= minute).unwrap().clone();
        for (call, turns) in &calls {
            let bill = admin.get(&format!("/analytics/calls/{call}/costs")).await.expect(200);
            let cost: Decimal = turns.iter().map(|(minute, seconds)| in_force(&lists, *minute).1 * Decimal::from(*seconds)).sum();
            assert_eq!(bill["cost_stt"].as_str().unwrap().parse::<Decimal>().unwrap(), cost);
            let is_covered = turns.iter().any(|(minute, _)| in_force(&lists, *minute).2 == id);
            let change = bill["repricings"].as_array().unwrap().iter().find(|repricing| repricing["price_list"]["id"] == json!(id));
            let change = change.and_then(|r| r["changes"].as_array().unwrap().iter().find(|change| change["component"] == "stt"));
            assert_eq!(change.is_some(), is_covered, "{bill:#?}");
            if let Some(change) = change {
                let decimal = |field: &str| change[field].as_str().unwrap().parse::<Decimal>().unwrap();
                let cost_before: Decimal =
                    turns.iter().map(|(minute, seconds)| in_force(&before, *minute).1 * Decimal::from(*seconds)).sum();
                assert_eq!((decimal("cost_before"), decimal("cost_after")), (cost_before, cost));
            }
        }
    }
    admin.get(&format!("/analytics/calls/{}/costs", uuid::Uuid::new_v4())).await.problem(404);
    platform.stop().await;
}

/// The owner's connection to the database of a platform.
async fn owner(url: &str) -> PgConnection {
    let mut owner = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("set search_path = newvoice").execute(&mut owner).await.unwrap();
    owner
}

/// A list for the past is applied by the projector that all companies share: a company has at most one such list that waits.
#[tokio::test]
async fn a_list_for_the_past_waits_until_the_one_before_is_applied() {
    let url = new_database().await;
    let platform = Platform::start_on(&url).await;
    let (admin, other) = (platform.admin().await, platform.admin().await);
    call(&admin, "2026-01-10T00:00:00Z", json!({"turn_index": 0, "occurred_at": "2026-01-10T00:00:01Z", "stt_duration_sec": 10})).await;
    admin.get("/analytics/costs").await.expect(200);
    let mut owner = owner(&url).await;
    // The projector of costs cannot apply the first list while the lock is held.
    sqlx::raw_sql("begin; lock table cost_price_lists in exclusive mode").execute(&mut owner).await.unwrap();
    admin.post("/price-lists", &list("First", "2026-01-01T00:00:00Z", "0.01")).await.expect(201);
    let second = list("Second", "2026-01-02T00:00:00Z", "0.02");
    let refused = admin.post("/price-lists", &second).await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(503);
    admin.post("/price-lists", &list("Future", "2099-01-01T00:00:00Z", "0.02")).await.expect(201);
    other.post("/price-lists", &list("Of another company", "2099-01-01T00:00:00Z", "0.02")).await.expect(201);
    sqlx::raw_sql("commit").execute(&mut owner).await.unwrap();
    admin.post("/price-lists", &second).await.expect(201);
    let names = admin.get("/price-lists").await.expect(200);
    let names: Vec<_> = names["items"].as_array().unwrap().iter().map(|list| list["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["Second", "Future", "First"]);
    platform.stop().await;
}

/// A bill reads the rates of the lists that the call used: reading all lists of a company would make each of its turns expensive.
#[tokio::test]
async fn the_rates_of_a_list_that_a_call_did_not_use_are_not_read() {
    let url = new_database().await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let future = admin.post("/price-lists", &list("Future", "2099-01-01T00:00:00Z", "0.02")).await.expect(201).id();
    admin.get("/analytics/costs").await.expect(200);
    // Rates that cannot be read would stop the projector.
    let unreadable = "update cost_price_lists set rates = '\"unreadable\"' where price_list_id = $1::uuid";
    let changed = sqlx::query(unreadable).bind(&future).execute(&mut owner(&url).await).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
    let turn = json!({"turn_index": 0, "occurred_at": "2026-01-10T00:00:01Z", "stt_duration_sec": 10});
    let id = call(&admin, "2026-01-10T00:00:00Z", turn).await;
    assert_eq!(cost(&admin, &id, "cost_stt").await, "0.043");
    platform.stop().await;
}
