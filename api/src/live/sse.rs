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
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    auth::{By, Viewer},
    extract::QueryOf,
    live::{
        Watch,
        feed::{Listener, LiveEvent},
    },
    problem::Problem,
    queries::EventFilter,
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
    let follow =
        Follow { app, watch: Watch::new(by.identity), filter, after, page: Vec::new().into_iter(), listener: None, has_caught_up: false };
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
    /// Read from the log: what came before the live feed.
    page: std::vec::IntoIter<StoredEvent>,
    /// The live feed; none until it is joined, and after the client was too slow for it.
    listener: Option<Listener>,
    /// Whether everything up to where the live feed begins was sent.
    has_caught_up: bool,
}

impl Follow {
    /// The next event, however long it takes; `None` once the process is to stop, or the caller may no longer see them.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let mut shutdown = self.app.shutdown.clone();
        loop {
            if let Some(stored) = self.page.next() {
                return Some((Ok(self.frame(&stored.into())), self));
            }
            if *shutdown.borrow() || !self.watch.may_go_on(&self.app).await {
                return None;
            }
            let Some(listener) = self.listener.as_mut().filter(|_| self.has_caught_up) else {
                if let Err(problem) = self.catch_up().await {
                    tracing::debug!(status = %problem.status, "an event stream waits for the database");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                continue;
            };
            tokio::select! {
                event = tokio::time::timeout(PATIENCE, listener.next()) => match event {
                    Ok(Some(event)) if event.position > self.after && self.filter.passes(&event.stream, &event.event_type) => {
                        return Some((Ok(self.frame(&event)), self));
                    }
                    // Nothing for this client, or nothing for so long that its rights are looked up again.
                    Ok(Some(_)) | Err(_) => {}
                    Ok(None) => self.listener = None,
                },
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        }
    }

    fn frame(&mut self, event: &LiveEvent) -> Event {
        self.after = event.position;
        Event::default().id(event.position.to_string()).event(event.event_type.as_str()).data(event.json.as_str())
    }

    /// Joins the live feed if it is not joined, and reads the next page of what came before.
    async fn catch_up(&mut self) -> Result<(), Problem> {
        let company_id = self.watch.company_id();
        if self.listener.is_none() {
            (self.listener, self.has_caught_up) = (Some(self.app.feed.listen(company_id).await), false);
        }
        let _share = self.app.shares.of_page(company_id).await?;
        let page = self.app.store.read_company_page(company_id, self.after, &self.filter, PAGE).await?;
        self.has_caught_up = count::to_i64(page.len()) < PAGE;
        self.page = page.into_iter();
        Ok(())
    }
}
