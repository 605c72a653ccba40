//! Server-sent events: the company's events, resumed where the client left off.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use domain::count;
use eventstore::{Filter, StoredEvent};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    auth::{By, Viewer},
    extract::QueryOf,
    live::{LOOK_GAP, Watch},
    problem::Problem,
    queries::EventFilter,
    views::EventView,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Events that are read in one go.
const PAGE: i64 = 200;
const PATIENCE: Duration = Duration::from_secs(10);
/// Wait after the database did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The company's events as they are appended: `id` is the position, `event` the type. Resumes after `Last-Event-ID`, or after `?after=`; 409
/// if that is beyond the log, as after a restore from a backup. The first frame has an `id` only: where the stream begins.
#[utoipa::path(get, path = "/events/stream", tag = "events", security(("bearer" = ["viewer"])), params(EventFilter), responses((status = 200, content_type = "text/event-stream", body = String), (status = 409, body = Problem)))]
async fn events(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(params): QueryOf<EventFilter>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let filter = params.parse(by.identity.role)?;
    let after = match last_event_id(&headers)?.or(params.after) {
        Some(after) => require_in_log(&app, after).await?,
        None => app.store.last_position().await?,
    };
    // A client that loses the connection before the first event resumes at this position.
    let begin = stream::once(std::future::ready(Ok(Event::default().id(after.to_string()))));
    let follow = Follow { app, watch: Watch::new(by.identity), filter, after, page: Vec::new().into_iter(), look_at: Instant::now() };
    Ok(Sse::new(begin.chain(stream::unfold(follow, Follow::next))).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// Where the client left off. An empty id is none: a browser sends it when it has received no id yet.
fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").trim()).filter(|id| !id.is_empty());
    let position = |id: &str| id.parse().ok().filter(|position| *position >= 0);
    id.map(|id| position(id).ok_or_else(|| Problem::bad_request("Last-Event-ID must be a position"))).transpose()
}

/// A position that is not in the log yet may come to mean another event than the client has seen.
async fn require_in_log(app: &App, after: i64) -> Result<i64, Problem> {
    let last = app.store.last_position().await?;
    if after <= last {
        return Ok(after);
    }
    Err(Problem::conflict(format!("position {after} is beyond the log, which ends at {last}; begin again without Last-Event-ID and after")))
}

struct Follow {
    app: App,
    watch: Watch,
    filter: Filter,
    after: i64,
    page: std::vec::IntoIter<StoredEvent>,
    /// Not before then.
    look_at: Instant,
}

impl Follow {
    /// The next event, however long it takes; `None` once the process is to stop, or the caller may no longer see them.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let mut shutdown = self.app.shutdown.clone();
        loop {
            if let Some(stored) = self.page.next() {
                self.after = stored.position;
                let event = Event::default().id(stored.position.to_string()).event(stored.event_type.clone());
                let event = event.json_data(EventView::from(stored)).unwrap_or_else(|_| Event::default().comment("unreadable"));
                return Some((Ok(event), self));
            }
            if *shutdown.borrow() || !self.watch.may_go_on(&self.app).await {
                return None;
            }
            tokio::time::sleep_until(self.look_at).await;
            let looked_at = Instant::now();
            let head = self.app.store.head().position();
            match self.app.store.read_company_page(self.watch.company_id(), self.after, &self.filter, PAGE).await {
                Ok(page) if page.is_empty() => {
                    self.look_at = looked_at + LOOK_GAP;
                    // Nothing for us up to the head: go on from there, so that others' events are not read again.
                    self.after = self.after.max(head);
                    tokio::select! {
                        () = self.app.store.head().beyond(self.after, PATIENCE) => {}
                        _ = shutdown.wait_for(|stop| *stop) => {}
                    }
                }
                Ok(page) => {
                    // A full page has more behind it.
                    if count::to_i64(page.len()) < PAGE {
                        self.look_at = looked_at + LOOK_GAP;
                    }
                    self.page = page.into_iter();
                }
                Err(error) => {
                    tracing::debug!(%error, "an event stream waits for the database");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }
}
