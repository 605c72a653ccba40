//! Accepts connections: at most so many at once, none that takes its time to say what it wants, and all of them ended in good order.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tower::Service as _;

/// How long a client may take for the head of a request, also of the next one on its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HEADERS_MAX: usize = 100;
/// Of a request's head.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Wait after a connection could not be accepted, mostly because there are no more file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Held as long as a connection lives, also by what it was upgraded to.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "it is given back when nobody holds it any more")] Arc<OwnedSemaphorePermit>);

/// Serves until told to stop; then takes no more connections, and returns when the requests under way are answered.
pub async fn serve(listener: TcpListener, router: Router, connections_max: u32, mut shutdown: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(connections_max as usize));
    // HTTP/2 is for the proxy that speaks TLS; with HTTP/1.1 a client has to say what it wants from the first byte on.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX_BYTES);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
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
    let _ = places.acquire_many(connections_max).await;
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, Place)> {
    let place = Place(Arc::new(Arc::clone(places).acquire_owned().await.ok()?));
    match listener.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_AGAIN).await;
            None
        }
    }
}
