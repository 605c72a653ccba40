//! A WebSocket per call: every event of the call, first the existing ones, then the new ones.

use std::{future, time::Duration};

use axum::{
    body::Bytes,
    extract::{
        Extension, State,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use domain::call::Call;
use eventstore::{Filter, StreamName};
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{By, Viewer},
    edge::connection_limiter::ConnectionPermit,
    extract::{Id, IsUnversioned},
    freshness::Fresh,
    live::{Watch, follower::Follower},
    originals::frames::Frames,
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(call))
}

/// Maximum size of a message from the client, which only needs to send control frames.
const MESSAGE_MAX_BYTES: usize = 1 << 16;
/// How long the end of a closed connection is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Number of unanswered pings after which the connection is closed.
const UNANSWERED_MAX: u32 = 6;

/// Every event of the call as JSON text messages. The connection stays open after the call's end until the client closes it.
#[utoipa::path(get, path = "/analytics/ws/calls/{id}", operation_id = "watch_call", tag = "analytics", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), ("ticket" = Option<String>, Query, description = "A ticket from `POST /auth/ticket`, instead of the header `Authorization`")),
    responses((status = 101, description = "WebSocket"), (status = 404, body = Problem), (status = 429, body = Problem)))]
async fn call(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    form: (IsUnversioned, Fresh),
    headers: HeaderMap,
    Extension(permit): Extension<ConnectionPermit>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    require_origin(&app, &headers)?;
    let upgrade = upgrade.map_err(|r| Problem::new(r.status(), r.body_text()))?;
    let first = app.store.read_history(by.company_id(), &[StreamName::of::<Call>(id)], 0, 1).await?;
    if first.rows.is_empty() {
        return Err(Problem::not_found("call"));
    }
    let (IsUnversioned(is_unversioned), fresh) = form;
    let position = fresh.min_position.unwrap_or(first.rows[0].position);
    let frames = if is_unversioned { Some(Frames::begin(app.clone(), by.company_id(), id, position).await?) } else { None };
    let filter = Filter { stream: Some(StreamName::of::<Call>(id)), ..Filter::default() };
    let events = Follower::new(app.clone(), by.company_id(), filter, 0)?;
    let watch = Watch::new(by.identity);
    // The size of a frame is checked before it is received, that of a message afterwards.
    let upgrade = upgrade.max_frame_size(MESSAGE_MAX_BYTES).max_message_size(MESSAGE_MAX_BYTES);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        if let Some(frames) = &frames
            && socket.send(Message::text(frames.init())).await.is_err()
        {
            return;
        }
        follow(app, watch, events, frames, socket).await;
        drop(permit);
    }))
}

/// A browser sends the origin of the page: only our own pages and those of allowed origins get a socket (RFC 6455, 10.2).
fn require_origin(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let own = text(header::HOST).is_some_and(|host| origin.split_once("://").is_some_and(|(_, rest)| rest == host));
    if own || app.settings.http.cors_origins.iter().any(|allowed| allowed == origin) {
        Ok(())
    } else {
        Err(Problem::forbidden("pages of this origin may not call"))
    }
}

/// Sends the events as the log has them, or as `frames`.
async fn follow(app: App, mut watch: Watch, mut events: Follower, mut frames: Option<Frames>, mut socket: WebSocket) {
    let mut shutdown = app.shutdown.clone();
    let (mut pinged_at, mut unanswered) = (Instant::now(), 0);
    loop {
        if !watch.may_go_on(&app).await {
            close(&mut socket, close_code::POLICY, "the credential is no longer valid").await;
            return;
        }
        tokio::select! {
            // Received messages are handled before the next ping; their number does not delay shutdown.
            biased;
            () = async { drop(shutdown.wait_for(|stop| *stop).await) } => {
                close(&mut socket, close_code::AWAY, "the platform is shutting down").await;
                return;
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_))) => {
                    // The next read sends the answer to the client's close frame.
                    let _ = tokio::time::timeout(CLOSE_MAX, socket.recv()).await;
                    return;
                }
                Some(Err(_)) | None => return,
                Some(Ok(message)) => {
                    unanswered = 0;
                    let answer = match &message {
                        Message::Text(text) => Frames::answer(text).filter(|_| frames.is_some()),
                        _ => None,
                    };
                    if !send(&mut socket, answer).await {
                        return;
                    }
                }
            },
            event = events.next() => {
                let messages = match &mut frames {
                    Some(frames) => frames.of(&event),
                    None => Ok(vec![event.json.clone()]),
                };
                let Ok(messages) = messages else {
                    close(&mut socket, close_code::ERROR, "an event of the call cannot be read").await;
                    return;
                };
                if !send(&mut socket, messages).await {
                    return;
                }
            }
            metrics = metrics(&mut frames) => {
                if !send(&mut socket, Some(metrics)).await {
                    return;
                }
            }
            // Time for the next ping, and for a check of the caller's rights.
            () = tokio::time::sleep(WAIT_MAX) => {}
        }
        if pinged_at.elapsed() >= WAIT_MAX {
            if unanswered >= UNANSWERED_MAX || socket.send(Message::Ping(Bytes::new())).await.is_err() {
                return;
            }
            (pinged_at, unanswered) = (Instant::now(), unanswered + 1);
        }
    }
}

/// Sends texts; false if the client is gone.
async fn send(socket: &mut WebSocket, texts: impl IntoIterator<Item = impl Into<Utf8Bytes>>) -> bool {
    for text in texts {
        if socket.send(Message::text(text)).await.is_err() {
            return false;
        }
    }
    true
}

/// The next message with metrics, if there are such messages.
async fn metrics(frames: &mut Option<Frames>) -> String {
    match frames {
        Some(frames) => frames.metrics().await,
        None => future::pending().await,
    }
}

async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    // An error means that the client is gone.
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}
