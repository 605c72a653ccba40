//! The HTTP edge: headers, limits, origins, and orderly shutdown.

use std::time::Duration;

use newvoice_api::settings::BehindProxy;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::Connection as _;
use support::{MASTER_KEY, Platform, Process, new_database};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_browsers_from_harm() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    for answer in [admin.get("/campaigns").await, admin.get("/nothing").await, platform.anonymous().get("/campaigns").await] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert!(answer.header("strict-transport-security").is_some() && answer.header("x-request-id").is_some());
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    platform.stop().await;
}

/// The page's scripts are our own files, so that no other source needs to be allowed.
#[tokio::test]
async fn the_documentation_runs_no_inline_script() {
    let platform = Platform::start().await;
    let docs = reqwest::get(format!("{}/docs/", platform.base())).await.unwrap();
    let policy = docs.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert_eq!(policy.split("; ").find(|directive| directive.starts_with("script-src")), Some("script-src 'self'"));
    let page = docs.text().await.unwrap();
    let scripts: Vec<_> = page.split("<script").skip(1).map(|script| script.split("</script").next().unwrap()).collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        let (attributes, content) = script.split_once('>').unwrap();
        assert!(content.trim().is_empty(), "inline: {content}");
        let file = attributes.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let answer = reqwest::get(format!("{}/docs/{file}", platform.base())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{file}");
    }
    for handler in ["onload=", "onclick=", "onerror=", "javascript:"] {
        assert!(!page.contains(handler), "{handler}");
    }
    platform.stop().await;
}

/// A head of 64 KiB is accepted and one with one byte more is refused, regardless of how it arrives.
#[tokio::test]
async fn the_limit_of_a_head_is_exact() {
    let platform = Platform::start().await;
    let address = platform.base().trim_start_matches("http://").to_owned();
    for (bytes, expected) in [(65_536, "HTTP/1.1 200"), (65_537, "HTTP/1.1 431"), (70_000, "HTTP/1.1 431"), (200_000, "HTTP/1.1 431")] {
        for pieces in [1, 7] {
            let (start, end) = ("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: ", "\r\n\r\n");
            let head = format!("{start}{}{end}", "y".repeat(bytes - start.len() - end.len()));
            let mut socket = TcpStream::connect(&address).await.unwrap();
            for piece in head.as_bytes().chunks(bytes.div_ceil(pieces)) {
                let _ = socket.write_all(piece).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let mut answer = [0; 12];
            socket.read_exact(&mut answer).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), expected, "{bytes} bytes in {pieces} pieces");
        }
    }
    platform.stop().await;
}

#[tokio::test]
async fn only_pages_that_may_call_are_answered_to() {
    let platform = Platform::configured(|settings| settings.http.cors_origins = vec!["https://app.example.com".to_owned()]).await;
    let admin = platform.admin().await;
    let preflight = async |origin: &str| {
        let request = admin.request(Method::OPTIONS, "/campaigns").header("origin", origin).header("access-control-request-method", "POST");
        admin.send(request.header("access-control-request-headers", "authorization,content-type")).await
    };
    let allowed = preflight("https://app.example.com").await.expect(200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(allowed.header("access-control-allow-headers"), Some("authorization,content-type"));
    assert!(allowed.header("access-control-allow-credentials").is_none());
    assert!(preflight("https://evil.example.com").await.header("access-control-allow-origin").is_none());
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let socket = async |origin: &str| {
        let request = admin.request(Method::GET, &format!("/analytics/ws/calls/{call}")).header("origin", origin);
        let request = request.header("connection", "upgrade").header("upgrade", "websocket").header("sec-websocket-version", "13");
        request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.unwrap().status()
    };
    assert_eq!(socket("https://app.example.com").await, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(socket(&platform.base()).await, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(socket("https://evil.example.com").await, StatusCode::FORBIDDEN);
    platform.stop().await;
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_come_again() {
    let platform = Platform::configured(|settings| {
        settings.rates.per_caller = 20;
        settings.rates.per_company = 50;
    })
    .await;
    let admin = platform.admin().await;
    let mut statuses = Vec::new();
    for _ in 0..25 {
        let answer = admin.get("/campaigns").await;
        assert!(answer.headers.get_all("ratelimit").iter().any(|value| value.to_str().unwrap().starts_with("\"caller\";r=")));
        assert!(answer.headers.get_all("ratelimit-policy").iter().any(|value| value.to_str().unwrap() == "\"caller\";q=20;w=60"));
        if answer.status == 429 {
            assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        }
        statuses.push(answer.status);
    }
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!((20..=22).contains(&passed) && statuses[..20].iter().all(|status| *status == 200), "{statuses:?}");
    // Another company has a separate limit.
    platform.admin().await.get("/campaigns").await.expect(200);
    // A client that invents credentials is one caller, and every attempt is counted.
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(platform.anonymous().with_token(&Uuid::new_v4().to_string()).get("/campaigns").await.status);
    }
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert!(statuses.starts_with(&[401; 5]) && statuses.contains(&429), "{statuses:?}");
    platform.stop().await;
}

/// The log file has the request id that the client received, so that errors can be found.
#[tokio::test]
async fn lines_of_the_log_name_the_request() {
    let url = new_database().await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let stderr = log.reopen().unwrap();
    let process = Process::start(|command| {
        command.args(["--seal-every-sec", "0"]).env("DATABASE_URL", &url).env("NEWVOICE_MASTER_KEY", MASTER_KEY).env_remove("RUST_LOG");
        command.stderr(stderr);
    });
    let process = process.await;
    let mut owner = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("alter table newvoice.log_head rename to away").execute(&mut owner).await.unwrap();
    let id = Uuid::now_v7().to_string();
    let request = process.client.request(Method::POST, "/calls").header("x-request-id", &id);
    let answer = process.client.send(request.json(&json!({"direction": "inbound", "phone_number": "+12025550100"}))).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (503, Some(id.as_str())));
    let lines = std::fs::read_to_string(log.path()).unwrap();
    assert!(lines.lines().any(|line| line.contains("could not be appended") && line.contains(&id)), "{lines}");
}

#[tokio::test]
async fn who_guesses_api_keys_is_not_looked_up_any_more() {
    let platform = Platform::configured(|settings| settings.rates.of_guesses = 5).await;
    let admin = platform.admin().await;
    let issued = async || {
        let issued = admin.post("/api-keys", &json!({"name": "k", "role": "viewer"})).await.expect(201);
        platform.anonymous().with_token(issued["key"].as_str().unwrap())
    };
    let (in_use, unused) = (issued().await, issued().await);
    in_use.get("/campaigns").await.expect(200);
    for _ in 0..5 {
        platform.anonymous().with_token(&format!("nvk_{}", Uuid::new_v4().simple())).get("/campaigns").await.problem(401);
    }
    let refused = unused.get("/campaigns").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
    // A caller with a cached key, and a caller with a token, can continue.
    in_use.get("/campaigns").await.expect(200);
    admin.get("/campaigns").await.expect(200);
    platform.stop().await;
}

#[tokio::test]
async fn answers_are_compressed_for_who_understands_it_and_streams_are_not() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let document = reqwest::Client::new().get(format!("{}/openapi.json", platform.base()));
    let compressed = document.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(compressed.headers()["content-encoding"], "gzip");
    let stream = admin.request(Method::GET, "/events/stream").header("accept-encoding", "gzip").send().await.unwrap();
    assert!(stream.headers().get("content-encoding").is_none());
    platform.stop().await;
}

#[tokio::test]
async fn the_clients_address_is_what_our_own_proxy_says() {
    for (behind_proxy, expected) in
        [(BehindProxy::No, "127.0.0.1"), (BehindProxy::XForwardedFor, "203.0.113.9"), (BehindProxy::Forwarded, "203.0.113.10")]
    {
        let platform = Platform::configured(|settings| settings.http.behind_proxy = behind_proxy).await;
        let admin = platform.admin().await;
        let request = admin.request(Method::POST, "/auth/ticket").header("x-forwarded-for", "198.51.100.1, 203.0.113.9");
        admin.send(request.header("forwarded", "for=198.51.100.1, for=203.0.113.10")).await.expect(200);
        let entries = admin.get("/audit").await["items"].as_array().unwrap().clone();
        assert_eq!(entries.iter().find(|entry| entry["action"] == "POST /auth/ticket").unwrap()["client"], expected);
        platform.stop().await;
    }
}

/// Every request may have the fault, and a log full of one line hides the others.
#[tokio::test]
async fn a_proxy_without_its_header_is_logged_once() {
    let url = new_database().await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let stderr = log.reopen().unwrap();
    let process = Process::start(|command| {
        command.args(["--behind-proxy", "--seal-every-sec", "0"]).env("DATABASE_URL", &url).env("NEWVOICE_MASTER_KEY", MASTER_KEY);
        command.env_remove("RUST_LOG").stderr(stderr);
    });
    let process = process.await;
    for _ in 0..3 {
        process.client.get("/auth/me").await;
    }
    let lines = std::fs::read_to_string(log.path()).unwrap();
    assert_eq!(lines.matches("came without the proxy's header").count(), 1, "{lines}");
}

/// Heads that are too large, broken or incomplete are refused or dropped, without an effect on other clients.
#[tokio::test]
async fn broken_requests_harm_nobody() {
    let platform = Platform::configured(|settings| settings.http.connections_max = 40).await;
    let address = platform.base().trim_start_matches("http://").to_owned();
    for bytes in [
        format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(200_000)),
        (0..500).fold("GET / HTTP/1.1\r\nhost: x\r\n".to_owned(), |text, n| text + &format!("x{n}: y\r\n")) + "\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!".to_owned(),
        "POST /api/v1/calls HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nzzz\r\n".to_owned(),
        "\0\0\0\0".to_owned(),
        "GET /api/v1/campaigns/%00%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    ] {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let _ = socket.write_all(bytes.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        assert!(line.is_empty() || line.starts_with("HTTP/1.1 4"), "{}: {line}", &bytes[..40]);
    }
    platform.stop().await;
}

/// Clients that send no request, or an incomplete one, hold all places until their timeout.
#[tokio::test]
async fn silent_connections_are_closed() {
    let platform = Platform::configured(|settings| settings.http.connections_max = 40).await;
    let admin = platform.admin().await;
    admin.get("/campaigns").await.expect(200);
    let address = platform.base().trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    let no_body = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    for said in ["", "P", "PRI * HTTP/2.0", "GET / HT", no_body].iter().cycle().take(40) {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        idle.push((socket, *said == no_body));
    }
    platform.anonymous().with_token(admin.token.as_ref().unwrap()).get("/campaigns").await.expect(200);
    for (mut socket, has_head) in idle {
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "a silent connection stays open");
        assert!(!has_head || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    }
    platform.stop().await;
}

/// A WebSocket is a connection as long as it is open.
#[tokio::test]
async fn sockets_count_as_connections() {
    let platform = Platform::configured(|settings| settings.http.connections_max = 6).await;
    let admin = platform.admin().await;
    let call = admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let (address, token) = (platform.base().trim_start_matches("http://").to_owned(), admin.token.clone().unwrap());
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "GET /api/v1/analytics/ws/calls/{call} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        sockets.push(socket);
    }
    // The client's own connection is one more; these are the last places.
    let address = &address;
    let _others = futures::future::join_all((0..3).map(|_| async { TcpStream::connect(address).await.unwrap() })).await;
    let another = reqwest::Client::new().get(format!("{}/healthz", platform.base()));
    let asked = |timeout| another.try_clone().unwrap().timeout(Duration::from_secs(timeout)).send();
    assert!(asked(1).await.unwrap_err().is_timeout());
    drop(sockets.pop());
    assert_eq!(asked(30).await.unwrap().status(), StatusCode::OK);
    platform.stop().await;
}

/// A further connection is refused with a problem, and accepted after one is released.
#[tokio::test]
async fn a_client_does_not_take_all_connections() {
    let platform = Platform::configured(|settings| settings.http.connections_per_client = Some(3)).await;
    let admin = platform.admin().await;
    let stream = || async { admin.request(Method::GET, "/events/stream").send().await.unwrap() };
    let mut streams = vec![stream().await, stream().await, stream().await];
    assert!(streams.iter().all(|stream| stream.status() == StatusCode::OK));
    let refused = admin.get("/campaigns").await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(429);
    streams.clear();
    let mut status = 0;
    for _ in 0..100 {
        status = admin.get("/campaigns").await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status, 200);
    platform.stop().await;
}

/// `/readyz` answers 503 first; requests in progress are answered; streams and sockets end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_stops_answers_what_it_has_begun() {
    let platform = Platform::configured(|settings| settings.http.drain_sec = 5).await;
    let (admin, base) = (platform.admin().await, platform.base());
    let mut stream = admin.request(Method::GET, "/events/stream").send().await.unwrap();
    let load = (0..4).map(|_| {
        let client = admin.with_token(admin.token.as_ref().unwrap());
        tokio::spawn(async move {
            let mut acknowledged = 0;
            loop {
                let body = json!({"direction": "inbound", "phone_number": "+12025550100"});
                match client.request(Method::POST, "/calls").json(&body).send().await {
                    Ok(response) => assert_eq!(response.status(), 201),
                    // The server no longer listens; an accepted request is never aborted.
                    Err(error) => {
                        assert!(error.is_connect() || error.is_request(), "{error:?}");
                        return acknowledged;
                    }
                }
                acknowledged += 1;
            }
        })
    });
    let load: Vec<_> = load.collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (database_url, stopping) = (platform.database_url.clone(), tokio::spawn(platform.stop()));
    let ready = loop {
        let ready = reqwest::get(format!("{base}/readyz")).await.unwrap();
        if ready.status() == 503 {
            break ready;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(ready.text().await.unwrap().contains("shutting down"));
    admin.get("/campaigns").await.expect(200);
    stopping.await.unwrap();
    // The stream sends the existing events and then ends.
    while let Ok(Some(_)) = stream.chunk().await {}
    let mut acknowledged = 0;
    for task in load {
        acknowledged += task.await.unwrap();
    }
    let platform = Platform::start_on(&database_url).await;
    let there: i64 =
        sqlx::query_scalar("select count(*) from events where event_type = 'CallStarted'").fetch_one(&platform.app().owner).await.unwrap();
    assert!(acknowledged > 0 && there >= acknowledged, "{there} of {acknowledged}");
    platform.stop().await;
}
