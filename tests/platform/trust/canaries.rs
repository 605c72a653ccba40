//! Two companies full of strings that must never reach the other company.

use std::collections::BTreeSet;

use eventstore::Pool;
use futures::StreamExt as _;
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use support::{Answer, Client, Platform};
use uuid::Uuid;

/// The ids of a company's objects.
struct Ids {
    company: String,
    campaign: String,
    task: String,
    call: String,
    skillbase: String,
    price_list: String,
    api_key: String,
    user: String,
    import: String,
    phone_number: String,
    cursor: String,
}

impl Ids {
    fn all(&self) -> [&str; 9] {
        [&self.company, &self.campaign, &self.task, &self.call, &self.skillbase, &self.price_list, &self.api_key, &self.user, &self.import]
    }
}

/// Fills a company with `canary` in every text field.
async fn fill(client: &Client, canary: &str, phone_number: &str) -> Ids {
    client.put("/company", &json!({"name": canary, "email": format!("{canary}@example.com")})).await.expect(200);
    let config = json!({
        "context": {"role": canary, "style": canary, "safety_rules": [canary], "facts": [canary]},
        "flow": {"type": "linear", "states": [canary]},
        "tools": [{"name": "check_availability", "parameters": {"note": canary}}],
        "voice": {"tts_provider": "custom", "tts_voice_id": canary, "stt_provider": "custom"},
        "llm": {"provider": "custom", "model": canary}
    });
    let skillbase =
        client.post("/skillbases", &json!({"name": canary, "slug": canary.to_lowercase(), "config": config})).await.expect(201).id();
    let body = json!({"name": canary, "description": canary, "skillbase_id": skillbase});
    let campaign = client.post("/campaigns", &body).await.expect(201).id();
    let list = format!("phone_number,name,note\n{phone_number},{canary},{canary}\n+12025550177,{canary},x\n");
    let import =
        client.upload(&campaign, &format!("{canary}.csv"), list.into_bytes()).await.expect(200)["import_id"].as_str().unwrap().to_owned();
    client.act(&format!("/campaigns/{campaign}/start")).await.expect(200);
    let keyed = client.request(Method::POST, &format!("/campaigns/{campaign}/tasks/claim")).header("idempotency-key", "the same");
    let claim = client.send(keyed).await.expect(200);
    let (task, call) = (claim["task"]["id"].as_str().unwrap().to_owned(), claim["call_id"].as_str().unwrap().to_owned());
    let turn =
        json!({"turn_index": 0, "user_text": canary, "agent_text": canary, "state": canary, "llm_model": canary, "stt_provider": canary});
    client.post(&format!("/calls/{call}/turns"), &turn).await.expect(201);
    client.post(&format!("/calls/{call}/end"), &json!({"final_state": canary, "hangup_by": canary})).await.expect(200);
    client.post(&format!("/tasks/{task}/fail"), &json!({"call_id": call, "error_message": canary})).await.expect(200);
    let rates = json!([{"component": "stt", "provider": canary, "price": "0.05", "per": 1, "unit": "second"}]);
    let list = json!({"name": canary, "effective_from": "2026-01-01T00:00:00Z", "rates": rates});
    let price_list = client.post("/price-lists", &list).await.expect(201).id();
    let api_key = client.post("/api-keys", &json!({"name": canary, "role": "viewer"})).await.expect(201).id();
    let user = client.post("/users", &json!({"email": format!("{canary}-2@example.com"), "role": "viewer"})).await.expect(201).id();
    let company = client.get("/company").await.expect(200).id();
    let cursor = client.get(&format!("/campaigns/{campaign}/tasks?limit=1")).await["next_cursor"].as_str().unwrap().to_owned();
    Ids { company, campaign, task, call, skillbase, price_list, api_key, user, import, phone_number: phone_number.to_owned(), cursor }
}

/// Queries with all possible ids; each is sent once with ids of another company, and once with ids that do not exist.
fn questions(ids: &Ids) -> Vec<(Method, String, Option<Value>)> {
    let Ids { company, campaign, task, call, skillbase, price_list, api_key, user, .. } = ids;
    let get = |path: String| (Method::GET, path, None);
    let post = |path: String, body: Value| (Method::POST, path, Some(body));
    let now = format!("as_of={}", support::present());
    let mut all = vec![
        (Method::PUT, format!("/campaigns/{campaign}"), Some(json!({"name": "x"}))),
        (Method::DELETE, format!("/campaigns/{campaign}"), None),
        (Method::PUT, format!("/skillbases/{skillbase}"), Some(json!({"name": "x"}))),
        (Method::DELETE, format!("/skillbases/{skillbase}"), None),
        (Method::DELETE, format!("/api-keys/{api_key}"), None),
        (Method::PUT, format!("/users/{user}"), Some(json!({"role": "viewer"}))),
        post(format!("/users/{user}/invitation"), json!({})),
        post(format!("/calls/{call}/turns"), json!({"turn_index": 0})),
        post(format!("/calls/{call}/end"), json!({})),
        post(format!("/campaigns/{campaign}/finish"), json!({})),
        post(format!("/campaigns/{campaign}/retry"), json!({})),
        post(format!("/campaigns/{campaign}/tasks"), json!({"contacts": [{"phone_number": "+12025550111"}]})),
        post(format!("/tasks/{task}/cancel"), json!({})),
        post(format!("/tasks/{task}/complete"), json!({"call_id": call, "outcome": "success"})),
        post(format!("/tasks/{task}/fail"), json!({"call_id": call, "error_message": "x"})),
        post("/campaigns".into(), json!({"name": "x", "skillbase_id": skillbase})),
        post("/calls".into(), json!({"campaign_id": campaign, "direction": "outbound", "phone_number": "+12025550111"})),
        post("/calls".into(), json!({"task_id": task, "direction": "outbound", "phone_number": "+12025550111"})),
        post("/calls".into(), json!({"skillbase_id": skillbase, "direction": "outbound", "phone_number": "+12025550111"})),
        post(
            "/price-lists/what-if".into(),
            json!({"price_list_id": price_list, "from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z"}),
        ),
        post(
            "/price-lists/what-if".into(),
            json!({"rates": [], "campaign_id": campaign, "from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z"}),
        ),
    ];
    for action in ["start", "pause", "resume", "clone", "tasks/claim"] {
        all.push(post(format!("/campaigns/{campaign}/{action}"), json!({})));
    }
    for path in [
        format!("/campaigns/{campaign}"),
        format!("/campaigns/{campaign}?{now}"),
        format!("/campaigns/{campaign}/stats"),
        format!("/campaigns/{campaign}/stats?{now}"),
        format!("/campaigns/{campaign}/tasks"),
        format!("/campaigns/{campaign}/imports"),
        format!("/campaigns/{campaign}/history"),
        format!("/campaigns?skillbase_id={skillbase}"),
        format!("/tasks/{task}"),
        format!("/tasks/{task}?{now}"),
        format!("/tasks/{task}/history"),
        format!("/calls/{call}"),
        format!("/calls/{call}?{now}"),
        format!("/calls/{call}/history"),
        format!("/analytics/calls/{call}/metrics"),
        format!("/analytics/calls/{call}/turns"),
        format!("/analytics/calls/{call}/costs"),
        format!("/analytics/calls/{call}/costs?{now}"),
        format!("/analytics/calls?campaign_id={campaign}"),
        format!("/analytics/calls?skillbase_id={skillbase}"),
        format!("/analytics/calls?phone_number=%2B{}", ids.phone_number.trim_start_matches('+')),
        format!("/analytics/metrics?campaign_id={campaign}&group_by=campaign"),
        format!("/analytics/costs?skillbase_id={skillbase}&group_by=skillbase"),
        format!("/analytics/costs?campaign_id={campaign}&group_by=campaign&{now}"),
        format!("/skillbases/{skillbase}"),
        format!("/skillbases/{skillbase}/versions"),
        format!("/skillbases/{skillbase}/versions/1"),
        format!("/skillbases/{skillbase}/for-call"),
        format!("/skillbases/{skillbase}/prompt"),
        format!("/skillbases/{skillbase}/scenario"),
        format!("/skillbases/{skillbase}/tools"),
        format!("/price-lists/{price_list}"),
        format!("/users/{user}"),
        format!("/audit?actor_id={user}"),
        format!("/audit?actor_id={api_key}"),
        format!("/events?stream=call-{call}"),
        format!("/events?stream=company-{company}"),
        format!("/events?stream=user-{user}"),
    ] {
        all.push(get(path));
    }
    all
}

async fn ask(client: &Client, (method, path, body): &(Method, String, Option<Value>)) -> Answer {
    let request = client.request(method.clone(), path);
    client.send(if let Some(body) = body { request.json(body) } else { request }).await
}

fn seen(answer: &Answer) -> String {
    format!("{:?} {}", answer.headers, answer.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_companys_ids_are_ids_of_nothing() {
    let platform = Platform::start().await;
    let (a, b) = (platform.admin().await, platform.admin().await);
    let theirs = fill(&a, "Canary-of-A", "+12025550101").await;
    fill(&b, "Canary-of-B", "+12025550102").await;
    for client in [&a, &b] {
        client.get("/analytics/overview").await.expect(200);
    }
    let id = || Uuid::new_v4().to_string();
    let nobodys = Ids {
        company: id(),
        campaign: id(),
        task: id(),
        call: id(),
        skillbase: id(),
        price_list: id(),
        api_key: id(),
        user: id(),
        import: id(),
        phone_number: "+12025550103".into(),
        cursor: String::new(),
    };
    let mut asked = 0;
    for (of_them, of_nobody) in questions(&theirs).iter().zip(&questions(&nobodys)) {
        let (found, nothing) = (ask(&b, of_them).await, ask(&b, of_nobody).await);
        assert!(found.status < 500 && found.status != 400, "{of_them:?}: {}", found.status);
        let mut said = found.body.to_string();
        // An answer may repeat ids of the request.
        for (their, nobody) in theirs.all().iter().zip(nobodys.all()) {
            said = said.replace(their, nobody);
        }
        assert_eq!((found.status, said), (nothing.status, nothing.body.to_string()), "{of_them:?} tells that it is there");
        assert!(!seen(&found).contains("anary-of-A"), "{of_them:?}: {}", seen(&found));
        asked += 1;
    }
    assert!(asked > 50);
    // An id of an existing call cannot be used; the answer has no details.
    let taken =
        b.post("/calls", &json!({"call_id": theirs.call, "direction": "outbound", "phone_number": "+12025550111"})).await.problem(409);
    assert!(!seen(&taken).contains("anary-of-A"));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_list_cursor_stream_or_key_leads_to_another_company() {
    let platform = Platform::start().await;
    let (a, b) = (platform.admin().await, platform.admin().await);
    let theirs = fill(&a, "Canary-of-A", "+12025550101").await;
    let ours = fill(&b, "Canary-of-B", "+12025550102").await;
    let mut collected = String::new();
    for path in [
        "/auth/me",
        "/company",
        "/api-keys",
        "/users",
        "/audit",
        "/skillbases",
        "/campaigns",
        "/analytics/calls",
        "/analytics/overview",
        "/price-lists",
        "/price-lists/estimate",
        "/events?limit=200",
        "/analytics/metrics?group_by=campaign",
        "/analytics/costs?group_by=provider",
        "/analytics/costs?group_by=campaign",
        "/projections",
        "/skillbases?name=Canary-of-A",
        "/skillbases?slug=canary-of-a",
        "/events?after=0&category=call",
    ] {
        collected += &seen(&b.get(path).await.expect(200));
    }
    // A cursor of their list works in ours as a place in our list.
    let cursor = b.get(&format!("/campaigns/{}/tasks?cursor={}", ours.campaign, theirs.cursor)).await;
    collected += &seen(&cursor);
    // Their key with their body: it is our own request and acts on our company.
    let keyed = b.request(Method::POST, &format!("/campaigns/{}/tasks/claim", theirs.campaign)).header("idempotency-key", "the same");
    collected += &seen(&b.send(keyed).await.problem(404));
    let form = multipart::Form::new().part("file", multipart::Part::bytes(b"phone_number\n+12025550144\n".to_vec()).file_name("x.csv"));
    collected +=
        &seen(&b.send(b.request(Method::POST, &format!("/campaigns/{}/call-list", theirs.campaign)).multipart(form)).await.problem(404));
    collected += &seen(&b.post("/persons/erase", &json!({"phone_number": theirs.phone_number})).await.problem(404));
    // Server-sent events from the beginning, and the WebSocket of their call.
    let mut stream = b.request(Method::GET, "/events/stream?after=0").send().await.unwrap().bytes_stream();
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(std::time::Duration::from_millis(800), stream.next()).await {
        collected += &String::from_utf8_lossy(&chunk);
    }
    let socket = b.request(Method::GET, &format!("/analytics/ws/calls/{}", theirs.call));
    let socket = socket.header("connection", "upgrade").header("upgrade", "websocket").header("sec-websocket-version", "13");
    collected += &seen(&b.send(socket.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")).await.problem(404));
    assert!(collected.contains("anary-of-B"), "there was something to see");
    assert!(!collected.contains("anary-of-A"), "{}", &collected[collected.find("anary-of-A").unwrap().saturating_sub(300)..][..600]);
    for id in theirs.all() {
        assert!(!collected.contains(id), "{id}");
    }
    // All objects still belong to the other company.
    assert_eq!(a.get(&format!("/campaigns/{}/tasks", theirs.campaign)).await["items"].as_array().unwrap().len(), 2);
    platform.stop().await;
}

/// Puts a view before the log, which can make single events unreadable.
const VIEW_OF_LOG: &str = "alter table events rename to all_events;
    create function unless_unreadable(is_unreadable boolean, payload jsonb) returns jsonb language plpgsql immutable as
    $$ begin if is_unreadable then raise exception 'this event is unreadable'; end if; return payload; end $$";

/// From now on, a statement fails when it reads an event of this call with a version above `version`.
async fn make_unreadable_above(owner: &Pool, call: &str, version: i64) {
    let view = format!(
        "create or replace view events as
         select position, stream, version, event_id, event_type, schema_version, company_id, metadata, occurred_at, recorded_at, hash,
                unless_unreadable(stream = 'call-{call}' and version > {version}, payload) as payload
           from all_events;
         grant select on events to public"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(view)).execute(owner).await.unwrap();
}

/// A request that reads another company's events, and finds out afterwards whose they are, takes the time and the memory of their length.
#[tokio::test]
async fn another_companys_events_are_not_read() {
    let platform = Platform::start().await;
    let (a, b) = (platform.admin().await, platform.admin().await);
    let call = a.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let turns: Vec<_> = (0..150).map(|index| json!({"turn_index": index})).collect();
    a.post(&format!("/calls/{call}/turns"), &json!(turns)).await.expect(201);
    let (history, events) = (format!("/calls/{call}/history"), format!("/events?stream=call-{call}"));
    let as_of = format!("/calls/{call}?as_of={}", support::present());
    let owner = &platform.app().owner;
    sqlx::raw_sql(VIEW_OF_LOG).execute(owner).await.unwrap();
    // A past state, and the state for a command, are folded from a hundred events at a time: the first ones show the company.
    make_unreadable_above(owner, &call, 100).await;
    a.get(&as_of).await.problem(500);
    b.get(&as_of).await.problem(404);
    b.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0})).await.problem(404);
    make_unreadable_above(owner, &call, 0).await;
    for path in [&history, &events] {
        a.get(path).await.problem(500);
    }
    b.get(&history).await.problem(404);
    assert_eq!(b.get(&events).await.expect(200)["items"], json!([]));
    platform.stop().await;
}

/// An answer's fields, each with the kind of its value.
fn form(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), form(value))).collect(),
        Value::Array(items) => items.iter().map(form).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}

/// An answer without the values that differ from user to user.
fn outline(answer: &Answer) -> (u16, BTreeSet<String>, Value, Value) {
    let headers = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    (answer.status, headers, form(&answer.body), answer["status"].clone())
}

#[tokio::test]
async fn an_invitation_does_not_tell_who_is_registered_with_another_company() {
    let platform = Platform::start().await;
    let (a, b) = (platform.admin().await, platform.admin().await);
    let registered = a.get("/auth/me").await.expect(200)["user"]["email"].clone();
    let invite = async |email: Value| b.post("/users", &json!({"email": email, "role": "viewer"})).await.expect(201);
    let (known, unknown) = (invite(registered).await, invite(json!("unknown@example.com")).await);
    assert_eq!(outline(&known), outline(&unknown));
    // The later answers about the two users do not differ, either.
    let paths = [known.id(), unknown.id()].map(|id| format!("/users/{id}"));
    let [known, unknown] = [b.get(&paths[0]).await.expect(200), b.get(&paths[1]).await.expect(200)];
    assert_eq!(outline(&known), outline(&unknown));
    let again = async |path: &str| b.act(&format!("{path}/invitation")).await.expect(201);
    assert_eq!(outline(&again(&paths[0]).await), outline(&again(&paths[1]).await));
    platform.stop().await;
}
