//! Server-sent events: the company's events, resumed at the client's last position.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{By, Viewer},
    events::{EventFilter, require_in_log},
    extract::QueryOf,
    live::{Watch, follower::Follower},
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

const WAIT_MAX: Duration = Duration::from_secs(10);

/// The company's events as they are appended: `id` is the position, `event` the type.
///
/// The stream resumes after `Last-Event-ID`, or after `?after=`; it answers 409 if that position is beyond the end of the log, for example
/// after a restore from a backup. The first frame has only an `id`: the position at which the stream begins.
#[utoipa::path(get, path = "/events/stream", operation_id = "stream_events", tag = "events", security(("bearer" = ["viewer"])), params(EventFilter, ("ticket" = Option<String>, Query, description = "A ticket from `POST /auth/ticket`, instead of the header `Authorization`")), responses((status = 200, content_type = "text/event-stream", body = String), (status = 409, body = Problem), (status = 429, body = Problem)))]
async fn events(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(params): QueryOf<EventFilter>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let filter = params.parse(by.identity.role)?;
    let after = match last_event_id(&headers)?.or(params.after) {
        Some(after) => require_in_log(&app, after, "begin again without Last-Event-ID and after").await?,
        None => app.store.last_position().await?,
    };
    // A client that loses the connection before the first event resumes at this position.
    let begin = stream::once(std::future::ready(Ok(Event::default().id(after.to_string()))));
    let events = Follower::new(app.clone(), by.company_id(), filter, after)?;
    let follow = Follow { shutdown: app.shutdown.clone(), app, watch: Watch::new(by.identity), events };
    Ok(Sse::new(begin.chain(stream::unfold(follow, Follow::next))).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// The last position that the client received. An empty id is ignored: a browser sends it when it has received no id yet.
fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").trim()).filter(|id| !id.is_empty());
    let position = |id: &str| id.parse().ok().filter(|position| *position >= 0);
    id.map(|id| position(id).ok_or_else(|| Problem::bad_request("Last-Event-ID must be a position"))).transpose()
}

struct Follow {
    shutdown: watch::Receiver<bool>,
    app: App,
    watch: Watch,
    events: Follower,
}

impl Follow {
    /// The next event; waits without a limit. `None` when the process shuts down, or when the caller may no longer see the events.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if *self.shutdown.borrow() || !self.watch.may_go_on(&self.app).await {
                return None;
            }
            let event = tokio::select! {
                event = self.events.next() => event,
                // Time to check the caller's rights.
                () = tokio::time::sleep(WAIT_MAX) => continue,
                _ = self.shutdown.wait_for(|stop| *stop) => continue,
            };
            let frame = Event::default().id(event.position.to_string()).event(event.event_type.as_str()).data(event.json.as_str());
            return Some((Ok(frame), self));
        }
    }
}
