//! Timeouts for bodies: a client that stops sending, or that takes too long for the whole body, is refused.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::REQUEST_TIMEOUT;

/// Maximum pause within a body.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Maximum time for the whole body; it leaves time for an answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(100);
const _: () = assert!(BODY_TIMEOUT.as_secs() < REQUEST_TIMEOUT.as_secs());

/// A body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body took too long to come")]
pub struct BodyTimeout;

/// Applies the timeouts to a request's body.
pub async fn limit_body_time(request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(TimedBody::new(body, PAUSE_MAX, BODY_TIMEOUT)))).await
}

struct TimedBody {
    body: Body,
    pause_max: Duration,
    timeout: Duration,
    /// Set when the body is first read: an upload may wait for its turn before.
    until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl TimedBody {
    fn new(body: Body, pause_max: Duration, timeout: Duration) -> Self {
        Self { body, pause_max, timeout, until: None, timer: Box::pin(sleep_until(Instant::now() + pause_max)) }
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let now = Instant::now();
        let is_first = self.until.is_none();
        let timeout = self.timeout;
        let until = *self.until.get_or_insert_with(|| now + timeout);
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if is_first || frame.is_ready() {
            let next = until.min(now + self.pause_max);
            self.timer.as_mut().reset(next);
        }
        if frame.is_ready() {
            return frame;
        }
        self.timer.as_mut().poll(context).map(|()| Some(Err(axum::Error::new(BodyTimeout))))
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
    use futures::{StreamExt as _, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_body_begins_when_it_is_read() {
        let chunk = stream::once(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let body = Body::new(TimedBody::new(Body::from_stream(chunk), PAUSE_MAX, BODY_TIMEOUT));
        tokio::time::sleep(BODY_TIMEOUT + PAUSE_MAX).await;
        assert_eq!(axum::body::to_bytes(body, 1_000).await.unwrap().len(), 1);
    }

    async fn read(pauses_sec: &[u64]) -> Result<usize, bool> {
        let pauses: Vec<_> = pauses_sec.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
        let chunks = stream::iter(pauses).then(|pause| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let body = Body::new(TimedBody::new(Body::from_stream(chunks), PAUSE_MAX, BODY_TIMEOUT));
        axum::body::to_bytes(body, 1_000).await.map(|bytes| bytes.len()).map_err(|error| crate::extract::comes_from::<BodyTimeout>(&error))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_pause_but_neither_long_nor_for_ever() {
        assert_eq!(read(&[0, 29, 29, 29]).await, Ok(4));
        assert_eq!(read(&[0, 31, 0]).await, Err(true), "one pause is too long");
        assert_eq!(read(&[29, 29, 29, 29]).await, Err(true), "all of it takes too long");
    }
}
