//! A WebSocket per call: every event of the call, first what has happened so far, then as it happens.

use std::{pin::pin, time::Duration};

use axum::{
    body::Bytes,
    extract::{
        Extension, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use domain::call::Call;
use eventstore::{StoreError, StreamName};
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    app::App,
    auth::{By, Viewer},
    edge::places::Place,
    extract::Id,
    live::{LOOK_GAP, Watch},
    problem::Problem,
    views::EventView,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(call))
}

/// What a client may send: nothing but control frames.
const MESSAGE_MAX_BYTES: usize = 1 << 16;
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A client that has not answered so many pings is gone.
const UNANSWERED_MAX: u32 = 6;

/// Every event of the call as JSON text messages. Stays open after the call's end until the client closes it.
#[utoipa::path(get, path = "/analytics/ws/calls/{id}", tag = "analytics", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path)),
    responses((status = 101, description = "WebSocket"), (status = 404, body = Problem)))]
async fn call(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    headers: HeaderMap,
    Extension(place): Extension<Place>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    require_origin(&app, &headers)?;
    let upgrade = upgrade.map_err(|r| Problem::new(r.status(), r.body_text()))?;
    let loaded = app.store.load_fresh::<Call>(by.company_id(), id).await?;
    if loaded.version == 0 {
        return Err(Problem::not_found("call"));
    }
    let watch = Watch::new(by.identity);
    Ok(upgrade.max_message_size(MESSAGE_MAX_BYTES).on_upgrade(async move |socket| {
        follow(app, watch, id, socket).await;
        drop(place);
    }))
}

/// A browser sends the page's origin along: only pages of ours, or of those that may call, get a socket (RFC 6455, 10.2).
fn require_origin(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let own = text(header::HOST).is_some_and(|host| origin.split_once("://").is_some_and(|(_, rest)| rest == host));
    if own || app.settings.cors_origins.iter().any(|allowed| allowed == origin) {
        Ok(())
    } else {
        Err(Problem::forbidden("pages of this origin may not call"))
    }
}

async fn follow(app: App, mut watch: Watch, id: Uuid, mut socket: WebSocket) {
    let stream = StreamName::of::<Call>(id);
    let mut shutdown = app.shutdown.clone();
    let mut version = 0;
    let (mut pinged_at, mut unanswered) = (Instant::now(), 0);
    loop {
        let looked_at = Instant::now();
        let head = app.store.head().position();
        if !watch.may_go_on(&app).await {
            let frame = CloseFrame { code: close_code::POLICY, reason: "the credential counts no longer".into() };
            let _ = socket.send(Message::Close(Some(frame))).await;
            return;
        }
        match send_new(&app, watch.company_id(), &stream, &mut version, &mut socket).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::debug!(%error, "a WebSocket waits for the database");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        let mut grown = pin!(async {
            app.store.head().beyond(head, PATIENCE).await;
            tokio::time::sleep_until(looked_at + LOOK_GAP).await;
        });
        let stopping = loop {
            tokio::select! {
                // What has come is heard before the next ping; however much it is, it holds nothing up.
                biased;
                stop = shutdown.wait_for(|stop| *stop) => break stop.is_ok(),
                message = socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {
                        unanswered = 0;
                        if looked_at.elapsed() >= PATIENCE {
                            break false;
                        }
                    }
                },
                () = &mut grown => break false,
            }
        };
        if stopping {
            let frame = CloseFrame { code: close_code::AWAY, reason: "the platform is shutting down".into() };
            let _ = socket.send(Message::Close(Some(frame))).await;
            return;
        }
        if pinged_at.elapsed() >= PATIENCE {
            if unanswered >= UNANSWERED_MAX || socket.send(Message::Ping(Bytes::new())).await.is_err() {
                return;
            }
            (pinged_at, unanswered) = (Instant::now(), unanswered + 1);
        }
    }
}

/// Sends the events after `version`; false when the client is gone.
async fn send_new(app: &App, company_id: Uuid, stream: &StreamName, version: &mut i64, socket: &mut WebSocket) -> Result<bool, StoreError> {
    for event in app.store.read_company_stream(company_id, stream, *version).await? {
        *version = event.version;
        let Ok(text) = serde_json::to_string(&EventView::from(event)) else { continue };
        if socket.send(Message::text(text)).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
