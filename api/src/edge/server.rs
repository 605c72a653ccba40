//! Accepts connections: a limited number at once, with timeouts for slow clients, and closes all of them in an orderly way.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, response::IntoResponse as _};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tower::Service as _;

use super::{connection_limiter::ConnectionLimiter, head::HEAD_MAX_BYTES};
use crate::problem::Problem;

/// Timeout for the head of a request, also of the next request on the same connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HEADERS_MAX: usize = 100;
/// Size of the buffer for an incomplete head: the maximum size of a head, plus extra blanks.
const HEAD_BUFFER_BYTES: usize = HEAD_MAX_BYTES + (4 << 10);
/// Wait after a connection could not be accepted, mostly because no file descriptor is free.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Timeout for telling a client that it has too many connections, and the maximum number of such refusals at once; further connections are
/// closed without an answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSALS_MAX: usize = 64;
/// If sent data is not acknowledged within this time, the connection is closed (RFC 5482).
const UNTAKEN_MAX: Duration = Duration::from_secs(60);
/// After this time without data, the server sends a keep-alive probe on the connection (RFC 1122, 4.2.3.6).
const QUIET_MAX: Duration = Duration::from_secs(60);

/// Serves until shutdown; then accepts no more connections, and returns when the requests in progress are answered.
pub async fn serve(listener: TcpListener, router: Router, connections: ConnectionLimiter, mut shutdown: watch::Receiver<bool>) {
    // HTTP/2 is for the proxy that terminates TLS; with HTTP/1.1 a client has to send its request from the first byte on.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(HEADERS_MAX).max_buf_size(HEAD_BUFFER_BYTES);
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        // A connection is accepted only after a place is free.
        let next = async { (connections.acquire().await, accept(&listener).await) };
        let (permit, (stream, peer)) = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => break,
            next = next => next,
        };
        let permit = match connections.take(permit, peer.ip()) {
            Ok(permit) => permit,
            Err(_) => {
                metrics::counter!("newvoice_connections_refused_total").increment(1);
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(refuse(stream, permit));
                }
                continue;
            }
        };
        let (router, held) = (router.clone(), permit.clone());
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(held.clone());
            // A router is always ready, and never fails.
            router.clone().call(request)
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut shutdown = shutdown.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let stopping = async { shutdown.wait_for(|stop| *stop).await.is_ok() };
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stopping => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.all_released().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = notice_who_is_gone(&stream) {
                    tracing::debug!(%error, "a connection could not be set up");
                }
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Detects clients that have gone without closing the connection, or that do not receive answers, so that they do not hold a place.
fn notice_who_is_gone(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(QUIET_MAX).with_interval(QUIET_MAX / 4))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNTAKEN_MAX))?;
    Ok(())
}

/// Answers one request, if it arrives soon, and closes the connection.
async fn refuse(stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let problem = || Problem::too_many("too many connections of one client", 1).into_response();
    let service = hyper::service::service_fn(|_| async move { Ok::<_, Infallible>(problem()) });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, connection).await;
}
