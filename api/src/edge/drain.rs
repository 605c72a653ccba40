//! If a request is refused before its body has arrived, the rest of the body is read and discarded, within limits, so that the client
//! receives the answer. If a connection is closed while it has unread data, the answer is lost (RFC 9112, 9.6).

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use hyper::body::{Frame, SizeHint};

/// How much of a refused request is read, in bytes, and for how long.
const DRAIN_MAX_BYTES: usize = 1 << 30;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A body that can be read to its end after its first reader was dropped.
#[derive(Clone)]
struct DrainableBody(Arc<Mutex<Body>>);

impl HttpBody for DrainableBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// Reads the rest of the body of a refused request. A client with `Expect: 100-continue` sends no body after a refusal.
pub async fn drain_refused_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() || parts.headers.contains_key(header::EXPECT) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let mut drainable = DrainableBody(Arc::new(Mutex::new(body)));
    let response = next.run(Request::from_parts(parts, Body::new(drainable.clone()))).await;
    // If the body already timed out, the server does not wait for it a second time.
    let refused = response.status().is_client_error() && response.status() != StatusCode::REQUEST_TIMEOUT;
    if refused && !drainable.is_end_stream() {
        let drain = async {
            let mut read = 0;
            while read < DRAIN_MAX_BYTES {
                match std::future::poll_fn(|context| Pin::new(&mut drainable).poll_frame(context)).await {
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain).await;
    }
    response
}
