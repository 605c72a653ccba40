use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use support::{Client, Platform};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use uuid::Uuid;

async fn new_call(client: &Client) -> String {
    client.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id()
}

#[tokio::test]
async fn events_are_listed_in_log_order_and_filtered() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let call = new_call(&admin).await;
    admin.post(&format!("/calls/{call}/turns"), &json!([{"turn_index": 0}, {"turn_index": 1}])).await.expect(201);
    let all = admin.get("/events?limit=200").await.expect(200);
    let positions: Vec<_> = all["items"].as_array().unwrap().iter().map(|e| e["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (1..=7).collect::<Vec<_>>());
    let types = async |query: &str| {
        let answer = admin.get(&format!("/events?{query}")).await.expect(200);
        answer["items"].as_array().unwrap().iter().map(|e| e["event_type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(types("category=call").await, ["CallStarted", "TurnRecorded", "TurnRecorded"]);
    assert_eq!(types("event_type=TurnRecorded&after=6").await, ["TurnRecorded"]);
    assert_eq!(types(&format!("stream=call-{call}")).await.len(), 3);
    assert_eq!(types(&format!("stream=call-{call}&after=5")).await, ["TurnRecorded", "TurnRecorded"]);
    assert_eq!(types(&format!("stream=call-{call}&after=6&event_type=TurnRecorded")).await, ["TurnRecorded"]);
    assert!(types(&format!("stream=call-{call}&after=7")).await.is_empty());
    let other = platform.admin().await.get(&format!("/events?stream=call-{call}")).await.expect(200);
    assert_eq!(other["items"], json!([]));
    let page = admin.get("/events?limit=3").await.expect(200);
    assert_eq!(page["next_cursor"], "3");
    assert_eq!(admin.get("/events?limit=200&cursor=3").await["items"].as_array().unwrap().len(), 4);
    admin.get("/events?stream=nonsense").await.problem(400);
    let end = admin.get("/events?limit=1").await.expect(200).position();
    assert_eq!(admin.get(&format!("/events?after={end}")).await.expect(200)["items"], json!([]));
    admin.get(&format!("/events?after={}", end + 1_000)).await.problem(409);
    for wrong in [
        "category=calls",
        "event_type=TurnAdded",
        "stream=calls-01930000-0000-7000-8000-000000000001",
        "min_position=-1",
        "after=1&cursor=1",
    ] {
        admin.get(&format!("/events?{wrong}")).await.problem(400);
    }
    platform.stop().await;
}

/// Reads server-sent events until there are `n`: (id, event, data).
async fn read_events(response: reqwest::Response, n: usize) -> Vec<(i64, String, Value)> {
    let mut stream = response.bytes_stream();
    let (mut text, mut events) = (String::new(), Vec::new());
    while events.len() < n {
        let chunk = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect("events in time").unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
            if let (Some(id), Some(kind), Some(data)) = (field("id:"), field("event:"), field("data:")) {
                events.push((id.parse().unwrap(), kind, serde_json::from_str(&data).unwrap()));
            }
            text = rest.to_owned();
        }
    }
    events
}

#[tokio::test]
async fn the_stream_goes_on_where_the_client_left_off() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let open = async |last: Option<i64>| {
        let request = admin.request(reqwest::Method::GET, "/events/stream?category=call");
        let request = if let Some(last) = last { request.header("last-event-id", last) } else { request };
        request.send().await.unwrap()
    };
    let first = open(None).await;
    let call = new_call(&admin).await;
    admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0})).await.expect(201);
    let seen = read_events(first, 2).await;
    assert_eq!(seen.iter().map(|(_, kind, _)| kind.as_str()).collect::<Vec<_>>(), ["CallStarted", "TurnRecorded"]);
    assert_eq!((&seen[0].2["stream"], &seen[0].2["position"]), (&json!(format!("call-{call}")), &json!(seen[0].0)));
    // An event is appended while no client is connected; afterwards no event is missing and none is duplicated.
    admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 1})).await.expect(201);
    let resumed = open(Some(seen[0].0)).await;
    admin.act(&format!("/calls/{call}/end")).await.expect(200);
    let more = read_events(resumed, 4).await;
    assert_eq!(
        more.iter().map(|(_, kind, _)| kind.as_str()).collect::<Vec<_>>(),
        ["TurnRecorded", "TurnRecorded", "CallEnded", "CallOutcomeClassified"]
    );
    assert_eq!(more[0].0, seen[1].0);
    platform.stop().await;
}

#[tokio::test]
async fn a_websocket_shows_a_call_from_its_beginning_and_as_it_goes_on() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let call = new_call(&admin).await;
    let ticket = admin.act("/auth/ticket").await.expect(200)["ticket"].as_str().unwrap().to_owned();
    let url = format!("{}/api/v1/analytics/ws/calls/{call}", platform.base().replace("http", "ws"));
    let (mut socket, _) = connect_async(format!("{url}?ticket={ticket}")).await.unwrap();
    assert!(connect_async(format!("{url}?ticket={ticket}")).await.is_err(), "a ticket is good once");
    admin.post(&format!("/calls/{call}/turns"), &json!({"turn_index": 0, "user_text": "hi"})).await.expect(201);
    admin.act(&format!("/calls/{call}/end")).await.expect(200);
    let mut types = Vec::new();
    while types.len() < 4 {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("messages in time").unwrap().unwrap();
        if let Message::Text(text) = message {
            let event: Value = serde_json::from_str(text.as_str()).unwrap();
            types.push(event["event_type"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(types, ["CallStarted", "TurnRecorded", "CallEnded", "CallOutcomeClassified"]);
    // If there is no event for a client, the server pings it.
    let silence = async { while !matches!(socket.next().await.unwrap().unwrap(), Message::Ping(_)) {} };
    tokio::time::timeout(Duration::from_secs(30), silence).await.expect("a ping in time");
    // The server answers the client's close frame.
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    assert!(socket.next().await.is_none());
    // A client of another company gets no information.
    let mut request = url.into_client_request().unwrap();
    let other = platform.admin().await;
    request.headers_mut().insert("authorization", format!("Bearer {}", other.token.unwrap()).parse().unwrap());
    assert!(connect_async(request).await.unwrap_err().to_string().contains("404"));
    // A frame with a too large announced size is refused at once.
    let large = Message::Binary(vec![0; 1 << 20].into());
    let closed = async {
        let _ = socket.send(large).await;
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the socket is closed");
    platform.stop().await;
}

#[tokio::test]
async fn streams_are_refused_beyond_what_a_company_may_have_open() {
    let platform = Platform::configured(|settings| settings.http.connections_max = 10).await;
    let (admin, other) = (platform.admin().await, platform.admin().await);
    let open = async |client: &Client| client.request(reqwest::Method::GET, "/events/stream").send().await.unwrap();
    let held = [open(&admin).await, open(&admin).await];
    assert!(held.iter().all(|stream| stream.status() == 200));
    assert_eq!(open(&admin).await.status(), 429);
    assert_eq!(open(&other).await.status(), 200);
    drop(held);
    let reopened = async {
        while open(&admin).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reopened).await.expect("a closed stream gives its place back");
    platform.stop().await;
}

/// Otherwise many streams that begin at the start of the log would use all connections for histories.
#[tokio::test]
async fn a_stream_reads_the_log_when_its_company_has_a_free_place() {
    let platform = Platform::start().await;
    let (admin, other) = (platform.admin().await, platform.admin().await);
    let company: Uuid = admin.get("/company").await.expect(200).id().parse().unwrap();
    let shares = &platform.app().shares;
    let held = [shares.of_page(company).await.unwrap(), shares.of_page(company).await.unwrap()];
    let open = async |client: &Client| client.request(reqwest::Method::GET, "/events/stream?after=0").send().await.unwrap();
    read_events(open(&other).await, 1).await;
    let early = tokio::time::timeout(Duration::from_millis(500), read_events(open(&admin).await, 1)).await;
    assert!(early.is_err(), "all places of the company are taken");
    drop(held);
    read_events(open(&admin).await, 1).await;
    platform.stop().await;
}

/// Both streams check the rights of their caller every ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_end_after_their_user_is_disabled() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let call = new_call(&admin).await;
    let user = admin.invited("viewer@example.com", "viewer").await;
    let id = user.get("/auth/me").await.expect(200)["user"]["id"].as_str().unwrap().to_owned();
    let mut events = user.request(reqwest::Method::GET, "/events/stream").send().await.unwrap();
    assert_eq!(events.status(), 200);
    let url = format!("{}/api/v1/analytics/ws/calls/{call}", platform.base().replace("http", "ws"));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", user.token.as_ref().unwrap()).parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    admin.put(&format!("/users/{id}"), &json!({"disabled": true})).await.expect(200);
    let ended = async {
        while let Ok(Some(_)) = events.chunk().await {}
        loop {
            if let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() {
                break u16::from(frame.code);
            }
        }
    };
    let code = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("both streams end");
    // Policy violation (RFC 6455, 7.4.1).
    assert_eq!(code, 1008);
    platform.stop().await;
}

#[tokio::test]
async fn a_stream_begins_with_an_id_and_refuses_places_that_are_not_in_the_log() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let open = async |query: &str, last: Option<&str>| {
        let request = admin.request(reqwest::Method::GET, &format!("/events/stream{query}"));
        let request = if let Some(last) = last { request.header("last-event-id", last) } else { request };
        request.send().await.unwrap()
    };
    let end = admin.get("/events?limit=200").await.expect(200)["items"].as_array().unwrap().len();
    // A browser that has received no id yet sends an empty id.
    for (query, last, begins) in [("", None, end), ("", Some(""), end), ("?after=2", None, 2), ("?after=1", Some("2"), 2)] {
        let mut stream = open(query, last).await.bytes_stream();
        let first = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect("a frame at once").unwrap().unwrap();
        assert!(first.starts_with(format!("id: {begins}\n\n").as_bytes()), "{query} {last:?}: {first:?}");
    }
    assert_eq!(open("", Some("999999")).await.status(), 409);
    assert_eq!(open("?after=999999", None).await.status(), 409);
    assert_eq!(open("", Some("x")).await.status(), 400);
    assert_eq!(open("", Some("-1")).await.status(), 400);
    platform.stop().await;
}

/// Events and the audit store the ids of users; answers name them by their addresses, also for callers who may not list the users.
#[tokio::test]
async fn actors_are_named() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let manager = admin.invited("manager@example.com", "manager").await;
    let viewer = admin.invited("viewer@example.com", "viewer").await;
    let key = admin.post("/api-keys", &json!({"name": "dialer 7", "role": "manager"})).await.expect(201);
    let by_key = admin.with_token(key["key"].as_str().unwrap());
    let campaign = manager.campaign(json!({})).await;
    by_key.put(&format!("/campaigns/{campaign}"), &json!({"name": "Renamed"})).await.expect(200);
    let names = |events: &Value, of: &str| {
        let items = events["items"].as_array().unwrap().iter();
        items.map(|event| event.pointer(of).unwrap()["name"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    for (client, name) in [(&viewer, "manager@example.com"), (&admin, "manager@example.com"), (&by_key, "-")] {
        let history = client.get(&format!("/campaigns/{campaign}/history")).await.expect(200);
        assert_eq!(names(&history.body, "/metadata/actor"), [name, "dialer 7"]);
    }
    let events = viewer.get("/events?category=campaign").await.expect(200);
    assert_eq!(names(&events.body, "/metadata/actor"), ["manager@example.com", "dialer 7"]);
    let audit = admin.get(&format!("/audit?path=/campaigns/{campaign}")).await.expect(200);
    assert_eq!(names(&audit.body, "/actor"), ["dialer 7"]);
    // A path finds the paths below it, but none that only begins with the same letters.
    for path in ["/campaigns", "/campaigns/", "/"] {
        let audit = admin.get(&format!("/audit?path={path}&refused=false")).await.expect(200);
        assert!(names(&audit.body, "/actor").starts_with(&["dialer 7".to_owned(), "manager@example.com".to_owned()]), "{path}");
    }
    assert_eq!(admin.get("/audit?path=/camp").await.expect(200)["items"], json!([]));
    for wrong in ["campaigns", "/api/v1/campaigns", "/campaigns?x=1", ""] {
        admin.get(&format!("/audit?path={}", wrong.replace('?', "%3F"))).await.problem(400);
    }
    // The log holds no address.
    let owner = &platform.app().owner;
    let found = "select count(*) from events where metadata::text like '%example.com%' or payload::text like '%manager@example%'";
    assert_eq!(sqlx::query_scalar::<_, i64>(found).fetch_one(owner).await.unwrap(), 0);
    platform.stop().await;
}
