//! An HTTP client that stores the position of its last command and requires its queries to include it.

use std::{
    ops::Deref,
    sync::atomic::{AtomicI64, Ordering},
};

use reqwest::{Method, RequestBuilder, header::HeaderMap, multipart};
use serde_json::{Value, json};

pub struct Client {
    http: reqwest::Client,
    pub base: String,
    pub token: Option<String>,
    /// The beginning of all paths: `/api/v1` or `/api`.
    root: &'static str,
    position: AtomicI64,
}

/// An answer; the body is a JSON value if it is JSON.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Deref for Answer {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.body
    }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// Checks the form of a refusal: problem+json with this status.
    #[track_caller]
    pub fn problem(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.body["status"], status);
        self
    }

    /// Paths of the fields in a 422.
    pub fn paths(&self) -> Vec<&str> {
        self.body["errors"].as_array().map(|errors| errors.iter().filter_map(|e| e["path"].as_str()).collect()).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    pub fn position(&self) -> i64 {
        self.header("event-position").and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    #[track_caller]
    pub fn id(&self) -> String {
        self.body["id"].as_str().expect("an id").to_owned()
    }
}

impl Client {
    pub fn new(base: &str, token: Option<&str>) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, base: base.to_owned(), token: token.map(str::to_owned), root: "/api/v1", position: AtomicI64::new(0) }
    }

    /// The same company with other credentials.
    pub fn with_token(&self, token: &str) -> Self {
        let client = Self::new(&self.base, Some(token));
        client.position.store(self.position.load(Ordering::Relaxed), Ordering::Relaxed);
        client
    }

    /// The same caller at another process: its queries, too, include the effects of all commands of this client.
    pub fn at(&self, base: &str) -> Self {
        let client = Self::new(base, self.token.as_deref());
        client.position.store(self.position.load(Ordering::Relaxed), Ordering::Relaxed);
        client
    }

    /// The same caller as a client of NEW-VOICE.
    pub fn unversioned(&self) -> Self {
        Self { root: "/api", ..self.at(&self.base) }
    }

    /// A client with the session of a user who has just registered.
    pub fn signed_in(self, registered: &Answer) -> Self {
        self.position.store(registered.position(), Ordering::Relaxed);
        Self { token: registered["token"].as_str().map(str::to_owned), ..self }
    }

    /// A user of the company whom this admin has invited and who has joined.
    pub async fn invited(&self, email: &str, role: &str) -> Self {
        let invited = self.post("/users", &json!({"email": email, "role": role})).await.expect(201);
        let accept = json!({"invitation": invited["invitation"], "password": "correct horse"});
        let joined = self.post("/auth/accept-invitation", &accept).await.expect(200);
        self.with_token(joined["token"].as_str().unwrap())
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{}{path}", self.base, self.root));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        let answer = Answer { status, headers, body };
        self.position.fetch_max(answer.position(), Ordering::Relaxed);
        answer
    }

    /// A query that includes the effects of all commands of this client.
    pub async fn get(&self, path: &str) -> Answer {
        let position = self.position.load(Ordering::Relaxed);
        self.send(self.request(Method::GET, path).query(&[("min_position", position)])).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// A query with a body that includes the effects of all commands of this client.
    pub async fn ask(&self, path: &str, body: &Value) -> Answer {
        let position = self.position.load(Ordering::Relaxed);
        self.send(self.request(Method::POST, path).query(&[("min_position", position)]).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// A command without a body.
    pub async fn act(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    pub async fn upload(&self, campaign_id: &str, file_name: &str, bytes: Vec<u8>) -> Answer {
        let part = multipart::Part::bytes(bytes).file_name(file_name.to_owned());
        let form = multipart::Form::new().part("file", part);
        self.send(self.request(Method::POST, &format!("/campaigns/{campaign_id}/call-list")).multipart(form)).await
    }

    pub async fn skillbase(&self) -> String {
        let body = json!({"name": "Bot", "slug": format!("bot-{}", uuid::Uuid::new_v4().simple()), "config": crate::skillbase_config()});
        self.post("/skillbases", &body).await.expect(201).id()
    }

    /// A draft campaign with the given settings in addition to its name and skillbase.
    pub async fn campaign(&self, settings: Value) -> String {
        let mut body = json!({"name": "Campaign", "skillbase_id": self.skillbase().await, "default_region": "US"});
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        self.post("/campaigns", &body).await.expect(201).id()
    }

    /// A running campaign with `contacts` tasks.
    pub async fn running_campaign(&self, contacts: usize, settings: Value) -> String {
        let id = self.campaign(settings).await;
        let rows = (0..contacts).map(|i| format!("+1202555{:04},Contact {i}\n", 1000 + i)).collect::<String>();
        let answer = self.upload(&id, "list.csv", format!("phone_number,name\n{rows}").into_bytes()).await.expect(200);
        assert_eq!(answer["created"], contacts);
        self.act(&format!("/campaigns/{id}/start")).await.expect(200);
        id
    }
}
