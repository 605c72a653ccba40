//! Each company's share of the concurrent reads. A read beyond the share waits for the company's own reads and is refused after a timeout;
//! reads of other companies are not delayed.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::{IntoResponse as _, Response},
};
use hyper::body::{Frame, SizeHint};
use tokio::{
    runtime::Runtime,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use uuid::Uuid;

use super::company_places::{CompanyPlaces, take_in_time};
use crate::problem::Problem;

/// Routes of reads that may cost more than a page of rows: they aggregate, search, or have long answers. Entries for POST name the method.
const EXPENSIVE: &[&str] = &[
    "/analytics/calls",
    "/analytics/calls/{id}/turns",
    "/analytics/costs",
    "/analytics/metrics",
    "/analytics/overview",
    "/audit",
    "/calls",
    "/calls/{id}/history",
    "/campaigns/{id}/history",
    "/campaigns/{id}/tasks",
    "/campaigns/{id}/turns",
    "/events",
    "/price-lists",
    "/skillbases",
    "/skillbases/{id}/versions",
    "/tasks/{id}/history",
    "POST /price-lists/what-if",
];
/// Parameters that make any read expensive.
const EXPENSIVE_WITH: &[&str] = &["as_of", "skip"];
/// Streams hold no share while they are open; each page that they read from the log takes one.
const STREAMS: &[&str] = &["/analytics/ws/calls/{id}", "/events/stream"];
/// Expensive reads and requests with long bodies run on separate threads, so that writing and parsing megabytes of JSON does not delay other
/// requests.
#[expect(clippy::expect_used, reason = "without threads nothing works")]
static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.worker_threads(expensive_at_once()).thread_name("long-requests").enable_all().build().expect("the system has threads left")
});

/// Number of concurrent expensive reads of all companies: at least two, so that one company cannot hold all places.
fn expensive_at_once() -> usize {
    (std::thread::available_parallelism().map_or(2, std::num::NonZero::get) / 2).max(2)
}

/// How long a read waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The `Retry-After` of a refused read, in seconds.
const RETRY_AFTER_SEC: u32 = 2;
/// Maximum number of concurrent expensive reads of one company, but never all places.
const EXPENSIVE_OF_COMPANY: usize = 2;
/// Requests under idempotency keys without a credential, which register companies, at once.
const STRANGERS: usize = 2;
/// Maximum number of pages that the streams of one company read from the log at once.
const PAGES_OF_COMPANY: usize = 2;

/// Maximum number of tables that one company downloads at once.
const DOWNLOADS_OF_COMPANY: usize = 4;

/// A place among the reads of a company, held until the answer is sent.
pub struct Share {
    /// The place of the company, and the place among all companies.
    places: [Option<OwnedSemaphorePermit>; 2],
}

pub struct Shares {
    cheap: CompanyPlaces,
    expensive: CompanyPlaces,
    pages: CompanyPlaces,
    streams: CompanyPlaces,
    downloads: CompanyPlaces,
    user_changes: CompanyPlaces,
    price_lists: CompanyPlaces,
    /// Keyed requests without a credential.
    strangers: Arc<Semaphore>,
    /// Shared by all companies.
    all_expensive: Arc<Semaphore>,
}

fn too_many_reads() -> Problem {
    Problem::too_many("too many reads of this company at once", RETRY_AFTER_SEC)
}

impl Shares {
    /// Creates the shares for a pool of `connections` for reads, of which one company gets half, and for `streams` of each company.
    pub fn new(connections: usize, streams: usize) -> Self {
        Self {
            cheap: CompanyPlaces::new((connections / 2).max(1)),
            expensive: CompanyPlaces::new(EXPENSIVE_OF_COMPANY.min(expensive_at_once() - 1)),
            pages: CompanyPlaces::new(PAGES_OF_COMPANY),
            streams: CompanyPlaces::new(streams),
            downloads: CompanyPlaces::new(DOWNLOADS_OF_COMPANY),
            user_changes: CompanyPlaces::new(1),
            price_lists: CompanyPlaces::new(1),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            all_expensive: Arc::new(Semaphore::new(expensive_at_once())),
        }
    }

    /// Acquires a share for a request if it is a read. Answers 429 if the company's own reads release no place in time, and 503 if the
    /// reads of all companies do not. A read as of a given time (`?as_of=`) is also expensive, because the stream is folded, and so is a list
    /// with `?skip=`, because the entries before are read, too.
    pub async fn of_request(&self, company_id: Uuid, action: &str, query: Option<&str>) -> Result<Option<Share>, Problem> {
        // HEAD is answered as GET, without the body.
        let read = action.strip_prefix("HEAD ").or_else(|| action.strip_prefix("GET "));
        let has = |name: Cow<str>| EXPENSIVE_WITH.contains(&name.as_ref());
        let is_long = || form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(|(name, _)| has(name));
        if EXPENSIVE.contains(&read.unwrap_or(action)) || read.is_some_and(|_| is_long()) {
            return self.of_expensive(company_id).await.map(Some);
        }
        if read.is_none_or(|path| STREAMS.contains(&path)) {
            return Ok(None);
        }
        let own = self.cheap.take(company_id, WAIT_MAX).await.ok_or_else(too_many_reads)?;
        Ok(Some(Share { places: [Some(own), None] }))
    }

    /// Acquires a share for an expensive read.
    pub async fn of_expensive(&self, company_id: Uuid) -> Result<Share, Problem> {
        let own = self.expensive.take(company_id, WAIT_MAX).await.ok_or_else(too_many_reads)?;
        let among_all = take_in_time(Arc::clone(&self.all_expensive), 1, WAIT_MAX).await;
        let among_all = among_all.ok_or_else(|| Problem::unavailable("too many expensive reads at once"))?;
        Ok(Share { places: [Some(own), Some(among_all)] })
    }

    /// Acquires a share for a page that a stream reads from the log; 429 if the company's other streams release no place in time.
    pub async fn of_page(&self, company_id: Uuid) -> Result<Share, Problem> {
        let own = self.pages.take(company_id, WAIT_MAX).await.ok_or_else(too_many_reads)?;
        Ok(Share { places: [Some(own), None] })
    }

    /// Acquires a place for an event stream or WebSocket, held while it is open; 429 if the company has too many open.
    pub fn of_stream(&self, company_id: Uuid) -> Result<OwnedSemaphorePermit, Problem> {
        let too_many = || Problem::too_many("too many streams of this company are open", RETRY_AFTER_SEC);
        self.streams.try_take(company_id).ok_or_else(too_many)
    }

    /// Acquires a place for a table that is downloaded, held until its last byte is sent; 429 if the company downloads too many.
    pub fn of_download(&self, company_id: Uuid) -> Result<OwnedSemaphorePermit, Problem> {
        let too_many = || Problem::too_many("too many tables of this company are downloaded at once", RETRY_AFTER_SEC);
        self.downloads.try_take(company_id).ok_or_else(too_many)
    }

    /// Acquires a place for a request under an idempotency key without a credential: its key is locked and stored over the connections for
    /// reads.
    pub async fn of_stranger(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let too_many = || Problem::unavailable("too many registrations at once");
        take_in_time(Arc::clone(&self.strangers), 1, WAIT_MAX).await.ok_or_else(too_many)
    }

    /// Acquires the turn for a change to a company's users. The database allows one such change at a time: the others wait here, without a
    /// connection.
    pub async fn of_user_change(&self, company_id: Uuid) -> Result<OwnedSemaphorePermit, Problem> {
        let too_many = || Problem::too_many("too many changes to users of this company at once", RETRY_AFTER_SEC);
        self.user_changes.take(company_id, WAIT_MAX).await.ok_or_else(too_many)
    }

    /// Acquires the turn for publishing a price list.
    pub async fn of_price_list(&self, company_id: Uuid) -> Result<OwnedSemaphorePermit, Problem> {
        let too_many = || Problem::too_many("too many price lists of this company at once", RETRY_AFTER_SEC);
        self.price_lists.take(company_id, WAIT_MAX).await.ok_or_else(too_many)
    }
}

/// Answers a request on the separate threads. If the client cancels the request, its work is aborted.
pub async fn answer_apart(answer: impl Future<Output = Response> + Send + 'static) -> Response {
    spawn_apart(answer).await.unwrap_or_else(|error| Problem::internal(&error).into_response())
}

/// Starts work on the separate threads. Dropping the handle aborts it.
pub fn spawn_apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(THREADS.spawn(work.in_current_span()))
}

impl Share {
    /// Answers a request within its share; an expensive request runs on separate threads.
    pub async fn answer(self, answer: impl Future<Output = Response> + Send + 'static) -> Response {
        if self.places[1].is_none() {
            return self.until_sent(answer.await);
        }
        self.until_sent(answer_apart(answer).await)
    }

    /// Releases the place among all companies, since the answer is computed. The company's own place is released after the client has
    /// received the answer, so that slow clients of one company do not fill the memory.
    fn until_sent(mut self, response: Response) -> Response {
        self.places[1] = None;
        response.map(|body| Body::new(Guarded { body, _share: self }))
    }
}

struct Guarded {
    body: Body,
    _share: Share,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);
    /// Reads of a few rows by key, or of a page of short rows.
    const CHEAP: &[&str] = &[
        "GET /analytics/calls/{id}/costs",
        "GET /analytics/calls/{id}/metrics",
        "GET /api-keys",
        "GET /auth/me",
        "GET /calls/{id}",
        "GET /campaigns",
        "GET /campaigns/{id}",
        "GET /campaigns/{id}/imports",
        "GET /campaigns/{id}/stats",
        "GET /company",
        "GET /price-lists/estimate",
        "GET /price-lists/presets",
        "GET /price-lists/{id}",
        "GET /projections",
        "GET /skillbases/{id}",
        "GET /skillbases/{id}/for-call",
        "GET /skillbases/{id}/prompt",
        "GET /skillbases/{id}/scenario",
        "GET /skillbases/{id}/tools",
        "GET /skillbases/{id}/versions/{n}",
        "GET /tasks/{id}",
        "GET /users",
        "GET /users/{id}",
        "GET /workers",
        "GET /workers/{name}/failures",
    ];

    /// Whether an operation can wait for a position of the log, as only reads do.
    fn waits(operation: &Value) -> bool {
        operation["parameters"].as_array().is_some_and(|all| all.iter().any(|parameter| parameter["name"] == "min_position"))
    }

    /// The reads in the OpenAPI document: every GET, and the queries with a body.
    fn reads() -> Vec<String> {
        let document = serde_json::to_value(crate::router::openapi()).unwrap();
        let mut found = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            let reads = operations.as_object().unwrap().iter().filter(|(method, operation)| *method == "get" || waits(operation));
            found.extend(reads.map(|(method, _)| format!("{} {path}", method.to_uppercase())));
        }
        found.sort();
        found
    }

    /// A new read fails this test until it is on one of the lists.
    #[tokio::test]
    async fn every_read_is_either_cheap_or_expensive_or_a_stream() {
        let shares = Shares::new(4, 2);
        let (mut cheap, mut without_share) = (Vec::new(), Vec::new());
        for action in reads() {
            let share = shares.of_request(ONE, &action, None).await.unwrap();
            match share {
                Some(share) if share.places[1].is_some() => {}
                Some(_) => cheap.push(action),
                None => without_share.push(action),
            }
        }
        assert_eq!(cheap, CHEAP);
        assert_eq!(without_share, ["GET /analytics/ws/calls/{id}", "GET /events/stream"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_more_waits_for_the_own_reads_only() {
        let shares = Shares::new(4, 2);
        let read = async |company| shares.of_request(company, "GET /campaigns", None).await;
        let held = (read(ONE).await.unwrap(), read(ONE).await.unwrap());
        assert_eq!(read(ONE).await.err().unwrap().status, 429);
        assert!(read(OTHER).await.is_ok());
        drop(held);
        assert!(read(ONE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn commands_and_streams_have_no_share_and_expensive_reads_one_of_all() {
        let shares = Shares::new(4, 2);
        for action in ["POST /calls", "GET /events/stream"] {
            assert!(shares.of_request(ONE, action, None).await.unwrap().is_none(), "{action}");
        }
        let most = shares.all_expensive.available_permits();
        let mut held = Vec::new();
        for company in 0..64 {
            match shares.of_request(Uuid::from_u128(company), "GET /events", None).await {
                Ok(share) => held.push(share),
                Err(refused) => assert_eq!(refused.status, 503),
            }
        }
        assert_eq!(held.len(), most);
        assert!(shares.of_request(ONE, "GET /campaigns", None).await.is_ok(), "cheap reads go on");
        for (action, query) in [("HEAD /events", None), ("GET /calls/{id}", Some("x=1&%61s_of=2026-01-01"))] {
            let refused = shares.of_request(Uuid::from_u128(99), action, query).await.err().unwrap();
            assert_eq!(refused.status, 503, "{action}");
        }
        assert!(shares.of_request(ONE, "POST /calls", Some("as_of=x")).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_held_until_the_answer_was_received() {
        let shares = Shares::new(2, 2);
        let read = async || shares.of_request(ONE, "GET /campaigns", None).await;
        let response = read().await.unwrap().unwrap().until_sent(Response::new(Body::from("answer")));
        assert!(read().await.is_err());
        drop(response);
        assert!(read().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_company_cannot_have_all_places_for_expensive_reads() {
        let shares = Shares::new(4, 2);
        let read = async |company| shares.of_request(company, "GET /events", None).await;
        let mut held = Vec::new();
        while let Ok(share) = read(ONE).await {
            held.push(share);
        }
        assert!(!held.is_empty() && read(OTHER).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn lists_with_long_rows_wait_for_the_expensive_reads() {
        let shares = Shares::new(4, 2);
        let mut held = Vec::new();
        while let Ok(share) = shares.of_request(ONE, "GET /events", None).await {
            held.push(share);
        }
        for action in ["GET /skillbases", "GET /skillbases/{id}/versions", "GET /price-lists"] {
            assert_eq!(shares.of_request(ONE, action, None).await.err().unwrap().status, 429, "{action}");
            assert!(shares.of_request(OTHER, action, None).await.is_ok(), "{action}");
        }
        assert!(shares.of_request(ONE, "GET /skillbases/{id}", None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn streams_of_a_company_read_two_pages_at_once_and_delay_nothing_else() {
        let shares = Shares::new(4, 2);
        let page = async |company| shares.of_page(company).await;
        let held = (page(ONE).await.unwrap(), page(ONE).await.unwrap());
        assert_eq!(page(ONE).await.err().unwrap().status, 429);
        assert!(page(OTHER).await.is_ok());
        for action in ["GET /campaigns", "GET /events"] {
            assert!(shares.of_request(ONE, action, None).await.is_ok(), "{action}");
        }
        drop(held);
        assert!(page(ONE).await.is_ok());
    }

    #[test]
    fn a_company_has_so_many_streams_open() {
        let shares = Shares::new(4, 2);
        let _open = (shares.of_stream(ONE).unwrap(), shares.of_stream(ONE).unwrap());
        assert_eq!(shares.of_stream(ONE).unwrap_err().status, 429);
        assert!(shares.of_stream(OTHER).is_ok());
    }

    #[test]
    fn the_lists_name_operations_of_the_api() {
        let document = crate::router::openapi();
        for action in EXPENSIVE.iter().chain(STREAMS) {
            let (method, path) = action.split_once(' ').unwrap_or(("GET", action));
            let item = document.paths.paths.get(path).unwrap_or_else(|| panic!("{action}"));
            let operation = if method == "GET" { &item.get } else { &item.post };
            assert!(operation.is_some(), "{action}");
        }
    }
}
