//! The contract with clients of NEW-VOICE: its 17 REST endpoints and its WebSocket, on the unversioned paths and with its shapes.

use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Client, Platform};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use uuid::Uuid;

/// The type of a field in an answer of NEW-VOICE.
#[derive(Clone, Copy, Debug)]
enum Is {
    Id,
    Text,
    Flag,
    Count,
    Number,
    Time,
    Day,
    Object,
    Maybe(&'static Is),
    /// A number there, an exact decimal in a text here: the one deliberate difference.
    Money,
}

use Is::{Count, Day, Flag, Id, Maybe, Money, Number, Object, Text, Time};

impl Is {
    fn fits(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Id => text.is_some_and(|text| text.parse::<Uuid>().is_ok()),
            Text => text.is_some(),
            Flag => value.is_boolean(),
            Count => value.is_u64(),
            Number => value.is_number(),
            Time => text.is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok()),
            Day => text.is_some_and(|text| text.parse::<NaiveDate>().is_ok()),
            Object => value.is_object(),
            Money => text.is_some_and(|text| text.parse::<rust_decimal::Decimal>().is_ok()),
            Maybe(is) => value.is_null() || is.fits(value),
        }
    }
}

type Shape = &'static [(&'static str, Is)];

const SKILLBASE: Shape = &[
    ("id", Id),
    ("name", Text),
    ("slug", Text),
    ("description", Maybe(&Text)),
    ("company_id", Id),
    ("config", Object),
    ("version", Count),
    ("knowledge_base_id", Maybe(&Id)),
    ("is_active", Flag),
    ("is_published", Flag),
    ("created_at", Time),
    ("updated_at", Time),
];

const CAMPAIGN: Shape = &[
    ("id", Id),
    ("company_id", Id),
    ("skillbase_id", Id),
    ("name", Text),
    ("description", Maybe(&Text)),
    ("status", Text),
    ("start_time", Maybe(&Time)),
    ("end_time", Maybe(&Time)),
    ("daily_start_time", Text),
    ("daily_end_time", Text),
    ("timezone", Text),
    ("max_concurrent_calls", Count),
    ("calls_per_minute", Count),
    ("max_retries", Count),
    ("retry_delay_minutes", Count),
    ("total_tasks", Count),
    ("completed_tasks", Count),
    ("failed_tasks", Count),
    ("created_at", Time),
    ("updated_at", Time),
];

const CALL: Shape = &[
    ("id", Id),
    ("skillbase_id", Maybe(&Id)),
    ("campaign_id", Maybe(&Id)),
    ("phone_number", Maybe(&Text)),
    ("outcome", Maybe(&Text)),
    ("duration_sec", Number),
    ("turn_count", Count),
    ("status", Text),
    ("started_at", Time),
    ("ended_at", Maybe(&Time)),
    ("avg_eou_latency", Maybe(&Number)),
    ("cost_total", Maybe(&Money)),
];

const CALL_METRICS: Shape = &[
    ("call_id", Id),
    ("avg_ttfb_stt", Maybe(&Number)),
    ("avg_latency_llm", Maybe(&Number)),
    ("avg_ttfb_tts", Maybe(&Number)),
    ("avg_eou_latency", Maybe(&Number)),
    ("min_ttfb_stt", Maybe(&Number)),
    ("max_ttfb_stt", Maybe(&Number)),
    ("min_latency_llm", Maybe(&Number)),
    ("max_latency_llm", Maybe(&Number)),
    ("min_ttfb_tts", Maybe(&Number)),
    ("max_ttfb_tts", Maybe(&Number)),
    ("min_eou_latency", Maybe(&Number)),
    ("max_eou_latency", Maybe(&Number)),
    ("stt_duration_sec", Maybe(&Number)),
    ("llm_input_tokens", Maybe(&Count)),
    ("llm_output_tokens", Maybe(&Count)),
    ("tts_characters", Maybe(&Count)),
    ("livekit_duration_sec", Maybe(&Number)),
    ("cost_stt", Maybe(&Money)),
    ("cost_llm", Maybe(&Money)),
    ("cost_tts", Maybe(&Money)),
    ("cost_livekit", Maybe(&Money)),
    ("cost_total", Maybe(&Money)),
    ("turn_count", Maybe(&Count)),
    ("interruption_count", Maybe(&Count)),
    ("interruption_rate", Maybe(&Number)),
    ("sentiment_score", Maybe(&Number)),
    ("outcome", Maybe(&Text)),
    ("outcome_confidence", Maybe(&Number)),
    ("outcome_reason", Maybe(&Text)),
    ("created_at", Maybe(&Time)),
];

const METRICS: Shape = &[
    ("start_date", Day),
    ("end_date", Day),
    ("total_calls", Count),
    ("completed_calls", Count),
    ("failed_calls", Count),
    ("avg_duration_sec", Maybe(&Number)),
    ("avg_turn_count", Maybe(&Number)),
    ("avg_eou_latency", Maybe(&Number)),
    ("avg_interruption_rate", Maybe(&Number)),
    ("total_cost", Maybe(&Money)),
    ("avg_cost_per_call", Maybe(&Money)),
    ("outcome_distribution", Object),
    ("skillbase_id", Maybe(&Id)),
    ("campaign_id", Maybe(&Id)),
];

#[track_caller]
fn has_shape(value: &Value, shape: Shape) {
    for (field, is) in shape {
        let found = value.get(field).unwrap_or_else(|| panic!("{field} is missing in {value}"));
        assert!(is.fits(found), "{field} is not {is:?}: {found}");
    }
}

/// The example of NEW-VOICE's own schema.
fn config() -> Value {
    json!({
        "context": {"role": "Receptionist at beauty salon 'Glamour'", "style": "Friendly and professional",
                    "safety_rules": ["Never give medical advice"], "facts": ["We work 9am-9pm", "We accept cards and cash"]},
        "flow": {"type": "linear",
                 "states": [{"id": "greeting", "name": "Greeting"}, {"id": "inquiry", "name": "Service Inquiry"}, {"id": "booking", "name": "Booking"}],
                 "transitions": []},
        "agent": {"handoff_criteria": {"complex_request": true}, "crm_field_mapping": {"name": "client_name"}},
        "tools": [{"name": "calendar", "config": {"api_url": "https://api.example.com"}, "enabled": true}],
        "voice": {"tts_provider": "cartesia", "tts_voice_id": "064b17af-d36b-4bfb-b003-be07dba1b649", "stt_provider": "deepgram", "stt_language": "ru"},
        "llm": {"provider": "groq", "model": "llama-3.1-70b-versatile", "temperature": 0.7}
    })
}

/// A client of NEW-VOICE, and the id of its company, which it sends with each request.
async fn client(platform: &Platform) -> (Client, String) {
    let admin = platform.admin().await;
    let company = admin.get("/company").await.expect(200).id();
    (admin.unversioned(), company)
}

async fn campaign(client: &Client, company: &str, skillbase: &str) -> Value {
    let body = json!({"company_id": company, "skillbase_id": skillbase, "name": "Autumn", "description": null, "start_time": null, "end_time": null,
                      "daily_start_time": "00:00", "daily_end_time": "00:00", "timezone": "UTC", "max_concurrent_calls": 5,
                      "calls_per_minute": 100, "max_retries": 0, "retry_delay_minutes": 30});
    client.post("/campaigns", &body).await.expect(201).body
}

#[tokio::test]
async fn the_skillbases_of_new_voice() {
    let platform = Platform::start().await;
    let (client, company) = client(&platform).await;
    let body = json!({"name": "Salon", "slug": "salon", "description": "A salon", "company_id": company, "config": config(),
                      "knowledge_base_id": null, "is_active": true, "is_published": false});
    let created = client.post("/skillbases", &body).await.expect(201);
    has_shape(&created, SKILLBASE);
    let states = |skillbase: &Value| skillbase["config"]["flow"]["states"].clone();
    assert_eq!(states(&created), config()["flow"]["states"]);
    let path = format!("/skillbases/{}", created.id());
    let read = client.get(&path).await.expect(200);
    has_shape(&read, SKILLBASE);
    assert_eq!((states(&read), &read["version"]), (states(&created), &json!(1)));
    // What was read is the same configuration; a change of it makes a version.
    assert_eq!(client.put(&path, &json!({"config": read["config"]})).await.expect(200)["version"], 1);
    let mut changed = config();
    changed["llm"]["max_tokens"] = json!(1024);
    let changed = client.put(&path, &json!({"config": changed, "is_published": true, "company_id": company})).await.expect(200);
    has_shape(&changed, SKILLBASE);
    assert_eq!((&changed["version"], &changed["is_published"]), (&json!(2), &json!(true)));
    let list = client.get(&format!("/skillbases?company_id={company}&is_active=true&is_published=true&skip=0&limit=50")).await.expect(200);
    assert_eq!((&list["total"], list["items"].as_array().unwrap().len()), (&json!(1), 1));
    has_shape(&list["items"][0], SKILLBASE);
    assert_eq!(states(&list["items"][0]), states(&created));
    client.delete(&path).await.expect(204);
    client.get(&path).await.problem(404);
    platform.stop().await;
}

#[tokio::test]
async fn the_campaigns_of_new_voice() {
    let platform = Platform::start().await;
    let (client, company) = client(&platform).await;
    let skillbase = client.skillbase().await;
    let created = campaign(&client, &company, &skillbase).await;
    has_shape(&created, CAMPAIGN);
    assert_eq!((&created["status"], &created["max_retries"]), (&json!("draft"), &json!(1)), "no retry is one attempt");
    let id = created["id"].as_str().unwrap().to_owned();
    let path = format!("/campaigns/{id}");
    has_shape(&client.get(&path).await.expect(200), CAMPAIGN);
    let changed = client.put(&path, &json!({"name": "Winter", "calls_per_minute": 50})).await.expect(200);
    has_shape(&changed, CAMPAIGN);
    let uploaded =
        client.upload(&id, "contacts.csv", b"phone_number,name,city\n+12025550100,Ann,Oslo\nnone,Bob,Oslo\n".to_vec()).await.expect(200);
    assert_eq!((&uploaded["total"], &uploaded["created"], uploaded["errors"].as_array().unwrap().len()), (&json!(2), &json!(1), 1));
    assert!(uploaded["errors"][0].is_string());
    for (action, status) in [("start", "running"), ("pause", "paused"), ("start", "running")] {
        let answer = client.act(&format!("{path}/{action}")).await.expect(200);
        has_shape(&answer, CAMPAIGN);
        assert_eq!(answer["status"], status);
    }
    let list =
        client.get(&format!("/campaigns?company_id={company}&skillbase_id={skillbase}&status=running&skip=0&limit=50")).await.expect(200);
    assert_eq!((&list["total"], list["items"].as_array().unwrap().len()), (&json!(1), 1));
    has_shape(&list["items"][0], CAMPAIGN);
    has_shape(&client.act(&format!("{path}/stop")).await.expect(200), CAMPAIGN);
    let completed = async {
        while client.get(&path).await.expect(200)["status"] != "completed" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), completed).await.expect("the campaign is completed in time");
    client.delete(&path).await.expect(204);
    assert_eq!(client.get("/campaigns").await.expect(200)["total"], 0);
    platform.stop().await;
}

/// A call with two turns that has ended.
async fn call(client: &Client, campaign: Option<&str>, started_at: &str, outcome: &str) -> String {
    let body = json!({"direction": "outbound", "phone_number": "+12025550100", "started_at": started_at, "campaign_id": campaign});
    let call = client.post("/calls", &body).await.expect(201).id();
    let turns = json!([{"turn_index": 0, "user_text": "hi", "eou_latency_ms": 600, "ttfb_stt_ms": 100, "stt_duration_sec": 2, "tts_characters": 40},
                       {"turn_index": 1, "agent_text": "bye", "eou_latency_ms": 800, "interrupted": true}]);
    client.post(&format!("/calls/{call}/turns"), &turns).await.expect(201);
    client.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 60, "outcome": outcome})).await.expect(200);
    call
}

#[tokio::test]
async fn the_analytics_of_new_voice() {
    let platform = Platform::start().await;
    let (client, company) = client(&platform).await;
    let skillbase = client.skillbase().await;
    let autumn = campaign(&client, &company, &skillbase).await["id"].as_str().unwrap().to_owned();
    let first = call(&client, Some(&autumn), "2026-10-01T23:59:59Z", "success").await;
    call(&client, None, "2026-10-02T00:00:00Z", "fail").await;
    call(&client, None, "2026-10-03T10:00:00Z", "voicemail").await;
    let active = json!({"direction": "inbound", "phone_number": "+12025550101", "started_at": "2026-10-04T10:00:00Z"});
    client.post("/calls", &active).await.expect(201);

    let all = client.get("/analytics/calls").await.expect(200);
    all["items"].as_array().unwrap().iter().for_each(|call| has_shape(call, CALL));
    assert_eq!((&all["page"], &all["page_size"], &all["items"][0]["duration_sec"]), (&json!(1), &json!(50), &json!(0)));
    let page = client.get("/analytics/calls?page=2&page_size=2").await.expect(200);
    assert_eq!((&page["total"], &page["page"], &page["page_size"]), (&json!(4), &json!(2), &json!(2)));
    let ended = page["items"].as_array().unwrap();
    assert_eq!(
        ended.iter().map(|call| call["started_at"].as_str().unwrap()).collect::<Vec<_>>(),
        ["2026-10-02T00:00:00Z", "2026-10-01T23:59:59Z"]
    );
    assert_eq!((&ended[1]["avg_eou_latency"], &ended[1]["turn_count"]), (&json!(700.0), &json!(2)));
    for (filter, total) in [
        ("start_date=2026-10-01&end_date=2026-10-01", 1),
        ("start_date=2026-10-02&end_date=2026-10-03", 2),
        ("start_date=2026-10-02&end_date=9999-12-31", 3),
        ("outcome=fail", 1),
        ("status=active", 1),
        ("status=completed", 2),
        ("status=failed", 1),
        ("status=ended&skip=1&limit=1", 3),
        (&format!("campaign_id={autumn}&company_id={company}"), 1),
    ] {
        assert_eq!(client.get(&format!("/analytics/calls?{filter}")).await.expect(200)["total"], total, "{filter}");
    }

    let metrics = client.get(&format!("/analytics/calls/{first}/metrics")).await.expect(200);
    has_shape(&metrics, CALL_METRICS);
    assert_eq!(
        (&metrics["avg_eou_latency"], &metrics["max_eou_latency"], &metrics["livekit_duration_sec"]),
        (&json!(700.0), &json!(800.0), &json!(60.0))
    );
    assert_eq!((&metrics["outcome_confidence"], &metrics["outcome_reason"]), (&json!(1.0), &json!("explicit")));

    let totals = client.get("/analytics/metrics?start_date=2026-10-01&end_date=2026-10-03").await.expect(200);
    has_shape(&totals, METRICS);
    assert_eq!((&totals["start_date"], &totals["end_date"]), (&json!("2026-10-01"), &json!("2026-10-03")));
    assert_eq!((&totals["total_calls"], &totals["completed_calls"], &totals["failed_calls"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!(
        (&totals["avg_duration_sec"], &totals["avg_turn_count"], &totals["avg_eou_latency"]),
        (&json!(60.0), &json!(2.0), &json!(700.0))
    );
    assert_eq!(totals["outcome_distribution"]["voicemail"], 1);
    let all = client.get("/analytics/metrics").await.expect(200);
    has_shape(&all, METRICS);
    assert_eq!((&all["start_date"], &all["total_calls"]), (&json!("2026-10-01"), &json!(4)));
    let of_campaign = client.get(&format!("/analytics/metrics?campaign_id={autumn}")).await.expect(200);
    assert_eq!((&of_campaign["total_calls"], &of_campaign["campaign_id"]), (&json!(1), &json!(autumn)));
    for (query, days) in [
        ("from=2026-10-02T05:00:00Z&to=2026-10-04", ("2026-10-02", "2026-10-03")),
        ("end_date=2020-01-02", ("2020-01-02", "2020-01-02")),
        ("start_date=2030-01-02", ("2030-01-02", "2030-01-02")),
    ] {
        let answer = client.get(&format!("/analytics/metrics?{query}")).await.expect(200);
        assert_eq!((&answer["start_date"], &answer["end_date"]), (&json!(days.0), &json!(days.1)), "{query}");
    }
    // The platform's own fields are there as well, and groups are as ever.
    assert_eq!(all["totals"]["call_count"], 4);
    let groups = client.get("/analytics/metrics?group_by=day&start_date=2026-10-01&end_date=2026-10-02").await.expect(200);
    assert_eq!((groups["groups"].as_array().unwrap().len(), groups.get("total_calls")), (2, None));
    platform.stop().await;
}

/// The text messages of a call's WebSocket.
struct Messages(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Messages {
    async fn of(client: &Client, call: &str) -> Self {
        let url = format!("{}/api/analytics/ws/calls/{call}", client.base.replace("http", "ws"));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", client.token.clone().unwrap()).parse().unwrap());
        Self(connect_async(request).await.unwrap().0)
    }

    async fn text(&mut self) -> String {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(30), self.0.next()).await.expect("a message in time");
            if let Message::Text(text) = message.unwrap().unwrap() {
                return text.to_string();
            }
        }
    }

    async fn next(&mut self) -> (String, Value) {
        let message: Value = serde_json::from_str(&self.text().await).unwrap();
        (message["type"].as_str().unwrap().to_owned(), message["data"].clone())
    }

    /// The next message of a kind.
    async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let (found, data) = self.next().await;
            if found == kind {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn the_websocket_of_new_voice() {
    let platform = Platform::start().await;
    let (client, _) = client(&platform).await;
    let started = json!({"direction": "inbound", "phone_number": "+12025550100", "started_at": "2026-10-01T10:00:00Z"});
    let call = client.post("/calls", &started).await.expect(201).id();
    let turn =
        json!({"turn_index": 0, "occurred_at": "2026-10-01T10:00:05Z", "user_text": "hi", "eou_latency_ms": 500, "stt_duration_sec": 1.5});
    client.post(&format!("/calls/{call}/turns"), &turn).await.expect(201);
    let mut messages = Messages::of(&client, &call).await;
    let (kind, init) = messages.next().await;
    assert_eq!(
        (kind.as_str(), &init["call_id"], &init["status"], &init["started_at"]),
        ("init", &json!(call), &json!("in_progress"), &started["started_at"])
    );
    let (kind, shown) = messages.next().await;
    assert_eq!((kind.as_str(), &shown["call_id"], &shown["agent_text"]), ("turn", &json!(call), &Value::Null));
    assert_eq!(
        (&shown["turn_index"], &shown["user_text"], &shown["occurred_at"]),
        (&turn["turn_index"], &turn["user_text"], &turn["occurred_at"])
    );
    assert_eq!((&shown["eou_latency_ms"], &shown["stt_duration_sec"]), (&json!(500.0), &json!(1.5)));
    let metrics = messages.next_of("metrics").await;
    has_shape(&metrics, CALL_METRICS);
    assert_eq!(metrics["avg_eou_latency"], 500.0);
    client.post(&format!("/calls/{call}/end"), &json!({"duration_sec": 60, "outcome": "success"})).await.expect(200);
    let ended = messages.next_of("status").await;
    assert_eq!((&ended["status"], &ended["duration_sec"], &ended["outcome"]), (&json!("ended"), &json!(60.0), &Value::Null));
    assert_eq!(messages.next_of("status").await["outcome"], "success");
    assert_eq!(messages.next_of("metrics").await["outcome"], "success");
    // A turn that arrives after the end does not begin the call again.
    client.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 1, "occurred_at": "2026-10-01T10:00:07Z"})).await.expect(201);
    assert_eq!(messages.next().await.0, "turn");
    assert_eq!(messages.next().await.0, "metrics");
    // Texts of the client do not delay the metrics.
    client.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 2, "occurred_at": "2026-10-01T10:00:08Z"})).await.expect(201);
    messages.0.send(Message::text("ping")).await.unwrap();
    messages.0.send(Message::binary(b"ping".to_vec())).await.unwrap();
    messages.0.send(Message::text("hello")).await.unwrap();
    let answers = [messages.text().await, messages.text().await, messages.text().await];
    assert_eq!(answers.iter().filter(|text| *text == "pong").count(), 1, "{answers:?}");
    assert!(answers.iter().any(|text| text.contains("\"metrics\"")), "{answers:?}");
    platform.stop().await;
}

/// A client that connects after the end learns of the end first, and the turns of the past are no news of the call's state.
#[tokio::test]
async fn the_websocket_of_a_call_that_has_ended() {
    let platform = Platform::start().await;
    let (client, _) = client(&platform).await;
    let call = call(&client, None, "2026-10-01T10:00:00Z", "fail").await;
    let mut messages = Messages::of(&client, &call).await;
    let (kind, init) = messages.next().await;
    assert_eq!(
        (kind.as_str(), &init["status"], &init["duration_sec"], &init["outcome"]),
        ("init", &json!("ended"), &json!(60.0), &json!("fail"))
    );
    let kinds = [messages.next().await.0, messages.next().await.0, messages.next().await.0];
    assert_eq!(kinds, ["turn", "turn", "metrics"]);
    platform.stop().await;
}

/// Clients of NEW-VOICE read what they have written without `min_position`.
#[tokio::test]
async fn what_was_written_is_read() {
    let platform = Platform::start().await;
    let (client, _) = client(&platform).await;
    let read = async |path: &str| client.send(client.request(Method::GET, path)).await;
    for n in 0..20 {
        let body = json!({"name": "Salon", "slug": format!("salon-{n}"), "config": config()});
        let id = client.post("/skillbases", &body).await.expect(201).id();
        read(&format!("/skillbases/{id}")).await.expect(200);
        assert_eq!(read("/skillbases?limit=1").await.expect(200)["total"], n + 1);
    }
    // A command that is repeated under its key answers the same, in the same shape.
    let body = json!({"name": "Salon", "slug": "salon", "config": config()});
    let create =
        async || client.send(client.request(Method::POST, "/skillbases").header("idempotency-key", "k").json(&body)).await.expect(201);
    let (first, again) = (create().await, create().await);
    assert_eq!((&first.body, again.header("idempotent-replayed")), (&again.body, Some("true")));
    assert_eq!(first["config"]["flow"]["states"], config()["flow"]["states"]);
    platform.stop().await;
}

#[tokio::test]
async fn lists_are_read_to_their_end_with_skip() {
    let platform = Platform::start().await;
    let (client, _) = client(&platform).await;
    let campaign = client.running_campaign(230, json!({})).await;
    let tasks = async |query: &str| client.get(&format!("/campaigns/{campaign}/tasks?{query}")).await;
    let ids = |page: &Value| page["items"].as_array().unwrap().iter().map(|task| task["id"].clone()).collect::<Vec<_>>();
    let mut all = ids(&tasks("limit=200").await.expect(200));
    let rest = tasks("skip=200&limit=200").await.expect(200);
    assert_eq!((&rest["total"], &rest["next_cursor"]), (&json!(230), &Value::Null));
    all.extend(ids(&rest));
    assert_eq!(all.len(), 230);
    let within = tasks("skip=195&limit=10").await.expect(200);
    assert_eq!(ids(&within), all[195..205]);
    let after = tasks(&format!("limit=5&cursor={}", within["next_cursor"].as_str().unwrap())).await.expect(200);
    assert_eq!(ids(&after), all[205..210]);
    assert!(ids(&tasks("skip=9000").await.expect(200)).is_empty());
    assert!(tasks("skip=9990&limit=11").await.problem(400)["detail"].as_str().unwrap().contains("cursor"));
    // HEAD is answered as GET.
    for path in [format!("/campaigns/{campaign}/tasks?skip=1&limit=5"), "/analytics/calls?page=1&start_date=2026-10-01".to_owned()] {
        let head = client.request(Method::HEAD, &path).send().await.unwrap();
        let get = client.request(Method::GET, &path).send().await.unwrap();
        assert_eq!((head.status().as_u16(), get.status().as_u16()), (200, 200), "{path}");
        assert!(head.text().await.unwrap().is_empty());
    }
    // A table has no parts.
    for part in ["skip=0", "page=2"] {
        let problem = client.get(&format!("/analytics/calls?format=csv&{part}")).await.problem(400);
        assert!(problem["detail"].as_str().unwrap().contains("skip, page"));
    }
    let table = client.request(Method::GET, &format!("/campaigns/{campaign}/tasks?format=csv")).send().await.unwrap();
    assert_eq!(table.text().await.unwrap().lines().count(), 231);
    platform.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let platform = Platform::start().await;
    let (client, company) = client(&platform).await;
    let other = Uuid::new_v4();
    client.get(&format!("/campaigns?company_id={other}")).await.problem(404);
    for (path, named) in [
        ("/campaigns?company_id=mine", "company_id"),
        ("/campaigns?skip=-1", "skip"),
        ("/campaigns?page=1", "page"),
        ("/analytics/calls?page=0", "page"),
        ("/analytics/calls?page=1&skip=3", "skip"),
        ("/analytics/calls?status=done", "status"),
        ("/analytics/calls?start_date=yesterday", "start_date"),
        ("/analytics/metrics?end_date=2026-13-01", "end_date"),
        ("/analytics/costs?start_date=2026-10-01", "start_date"),
    ] {
        let detail = client.get(path).await.problem(400)["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{path}: {detail}");
    }
    for (query, path) in [("page_size=201", "page_size"), ("start_date=2026-10-02&end_date=2026-10-01", "end_date"), ("limit=201", "limit")]
    {
        assert_eq!(client.get(&format!("/analytics/calls?{query}")).await.problem(422).paths(), [path]);
    }
    client.get("/skillbases?limit=2&limit=1").await.problem(400);
    client.get("/skillbases?skip=").await.problem(400);
    client.get("/skillbases?is_active=perhaps").await.problem(400);
    assert_eq!(client.get("/skillbases?is_active=True&is_published=0").await.expect(200)["total"], 0);
    // An unchanged query is not written again, and a changed one may be too long.
    let (long, reader) = ("!".repeat(30_000), platform.admin().await.unversioned());
    let read = async |path: &str| reader.send(reader.request(Method::GET, &format!("{path}={long}"))).await;
    read("/analytics/costs?group_by").await.problem(400);
    read("/campaigns?skip=1&status").await.problem(414);
    client.get("/analytics/calls?page_size=20&limit=10").await.problem(422);
    client.get("/analytics/calls?start_date=2026-10-01&from=2026-10-02").await.problem(422);
    let skillbase = json!({"name": "Salon", "slug": "salon", "config": config()});
    for (field, value) in [("company_id", json!(other)), ("company_id", json!(7)), ("knowledge_base_id", json!(other))] {
        let mut body = skillbase.clone();
        body[field] = value;
        assert_eq!(client.post("/skillbases", &body).await.problem(422).paths(), [field]);
    }
    // Of many faults, the first ones are named.
    let mut body = skillbase.clone();
    body["config"]["flow"]["states"] = (0..900).map(|_| json!("")).collect();
    let problem = client.post("/skillbases", &body).await.problem(422);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
    assert!(problem["detail"].as_str().unwrap().contains(" more") && problem.body.to_string().len() < 40_000);
    // Null leaves a field of a skillbase as it is.
    let mut body = skillbase.clone();
    body["description"] = json!("A salon");
    let id = client.post("/skillbases", &body).await.expect(201).id();
    let kept = client.put(&format!("/skillbases/{id}"), &json!({"description": null, "config": null, "name": "Salon 2"})).await.expect(200);
    assert_eq!((&kept["description"], &kept["name"]), (&json!("A salon"), &json!("Salon 2")));
    let body = json!({"name": "Autumn", "skillbase_id": client.skillbase().await, "company_id": company, "max_retries": -1});
    assert_eq!(client.post("/campaigns", &body).await.problem(422).paths(), ["max_retries"]);
    // The versioned paths have none of this.
    let versioned = Client::new(&client.base, client.token.as_deref());
    versioned.get(&format!("/campaigns?company_id={company}")).await.problem(400);
    versioned.post("/campaigns", &json!({"name": "Autumn", "company_id": company})).await.problem(422);
    versioned.act(&format!("/campaigns/{other}/stop")).await.problem(404);
    // Without a credential or the role, it is refused as ever.
    let stranger = Client::new(&client.base, None).unversioned();
    stranger.get(&format!("/campaigns?company_id={company}")).await.problem(401);
    stranger.post("/skillbases", &skillbase).await.problem(401);
    let key = versioned.post("/api-keys", &json!({"name": "viewer", "role": "viewer"})).await.expect(201);
    let viewer = client.with_token(key["key"].as_str().unwrap()).unversioned();
    viewer.post("/skillbases", &skillbase).await.problem(403);
    viewer.act(&format!("/campaigns/{other}/stop")).await.problem(403);
    viewer.get("/analytics/metrics").await.expect(200);
    platform.stop().await;
}
