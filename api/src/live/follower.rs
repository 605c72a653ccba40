//! A company's events after a position, for an open stream of a client: first the events in the log, then the newly appended ones.

use std::{sync::Arc, time::Duration};

use eventstore::Filter;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::feed::{Listener, LiveEvent};
use crate::{problem::Problem, state::App};

/// Number of events that are read from the log at once.
const PAGE: usize = 200;
/// Pause after the database did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The position of a stream in the log.
pub struct Follower {
    app: App,
    company_id: Uuid,
    filter: Filter,
    after: i64,
    /// Events that were read from the log and not returned yet.
    page: std::vec::IntoIter<Arc<LiveEvent>>,
    /// Whether the page reached the first event that the feed sends.
    has_caught_up: bool,
    /// `None` until the feed is joined, and after the client was too slow for it.
    listener: Option<Listener>,
    /// The place among the company's streams.
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// 429 if the company has too many streams open.
    pub fn new(app: App, company_id: Uuid, filter: Filter, after: i64) -> Result<Self, Problem> {
        let place = app.shares.of_stream(company_id)?;
        Ok(Self { app, company_id, filter, after, page: Vec::new().into_iter(), has_caught_up: false, listener: None, _place: place })
    }

    /// The next event that passes the filter; waits without a limit. No event is lost if the future is cancelled.
    pub async fn next(&mut self) -> Arc<LiveEvent> {
        loop {
            if let Some(event) = self.page.next() {
                self.after = event.position;
                return event;
            }
            let Some(listener) = self.listener.as_mut().filter(|_| self.has_caught_up) else {
                if let Err(problem) = self.catch_up().await {
                    tracing::debug!(status = %problem.status, "a live stream waits for the database");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                continue;
            };
            match listener.next().await {
                Some(event) if event.position > self.after => {
                    // The position also advances past events that do not pass: they need not be read from the log.
                    self.after = event.position;
                    if self.filter.passes(&event.stream, &event.event_type) {
                        return event;
                    }
                }
                Some(_) => {}
                None => self.listener = None,
            }
        }
    }

    /// Joins the live feed if it is not joined, and reads the next page of earlier events.
    async fn catch_up(&mut self) -> Result<(), Problem> {
        if self.listener.is_none() {
            (self.listener, self.has_caught_up) = (Some(self.app.feed.listen(self.company_id).await), false);
        }
        let _share = self.app.shares.of_page(self.company_id).await?;
        let page = self.app.store.read_company_page(self.company_id, self.after, &self.filter, PAGE).await?;
        self.has_caught_up = !page.has_more;
        self.page = page.rows.into_iter().map(|event| Arc::new(event.into())).collect::<Vec<_>>().into_iter();
        Ok(())
    }
}
