//! Accepts connections: at most so many at once, none that takes its time to say what it wants, and all of them ended in good order.

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

use super::{head::HEAD_MAX_BYTES, places::Places};
use crate::problem::Problem;

/// How long a client may take for the head of a request, also of the next one on its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HEADERS_MAX: usize = 100;
/// What is buffered of a head that is not complete: more than a head may have, with its spare blanks.
const HEAD_BUFFER_BYTES: usize = HEAD_MAX_BYTES + (4 << 10);
/// Wait after a connection could not be accepted, mostly because there are no more file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long to say to a client that it has too many connections, and to how many at once; others are just closed.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const REFUSALS_MAX: usize = 64;
/// What was sent and is not taken for so long will not be: its connection ends (RFC 5482).
const UNTAKEN_MAX: Duration = Duration::from_secs(60);
/// A connection on which nothing was sent for so long is asked whether it is still there (RFC 1122, 4.2.3.6).
const QUIET_MAX: Duration = Duration::from_secs(60);

/// Serves until told to stop; then takes no more connections, and returns when the requests under way are answered.
pub async fn serve(listener: TcpListener, router: Router, places: Places, mut shutdown: watch::Receiver<bool>) {
    // HTTP/2 is for the proxy that speaks TLS; with HTTP/1.1 a client has to say what it wants from the first byte on.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(HEADERS_MAX).max_buf_size(HEAD_BUFFER_BYTES);
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        // Nobody is let in before there is a place.
        let next = async { (places.any().await, accept(&listener).await) };
        let (permit, (stream, peer)) = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => break,
            next = next => next,
        };
        let place = match places.take(permit, peer.ip()) {
            Ok(place) => place,
            Err(_) => {
                metrics::counter!("newvoice_connections_refused_total").increment(1);
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(refuse(stream, permit));
                }
                continue;
            }
        };
        let (router, held) = (router.clone(), place.clone());
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
            drop(place);
        });
    }
    drop(listener);
    places.all_given_back().await;
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

/// Nobody keeps a place who has gone without a word, or takes no answers.
fn notice_who_is_gone(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(QUIET_MAX).with_interval(QUIET_MAX / 4))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNTAKEN_MAX))?;
    Ok(())
}

/// Answers one request, if it comes soon, and closes the connection.
async fn refuse(stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let problem = || Problem::too_many("too many connections of one client", 1).into_response();
    let service = hyper::service::service_fn(|_| async move { Ok::<_, Infallible>(problem()) });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, connection).await;
}
