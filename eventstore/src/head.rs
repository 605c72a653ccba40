//! Where the log ends, as far as this process knows: told by its own appends at once, by others' through NOTIFY, and by
//! looking every [`POLL_MS`] whatever else fails.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::watch;

/// How often the head is looked up when nobody tells, in milliseconds.
const POLL_MS: u64 = 200;
/// Other processes are told at most this often, in milliseconds; NOTIFY inside the append would serialise all commits.
const NOTIFY_EVERY_MS: u64 = 5;

#[derive(Clone)]
pub struct Head {
    position: watch::Sender<i64>,
    appended: watch::Sender<i64>,
}

impl Head {
    /// Starts the tasks that watch the head and tell others of it; they end when the pool is closed.
    pub(crate) fn watch(pool: PgPool, channel: String) -> Self {
        let head = Self { position: watch::Sender::new(0), appended: watch::Sender::new(0) };
        tokio::spawn(follow(pool.clone(), channel.clone(), head.position.clone()));
        tokio::spawn(tell(pool, channel, head.appended.subscribe()));
        head
    }

    /// The last position this process knows of.
    pub fn position(&self) -> i64 {
        *self.position.borrow()
    }

    /// Notes an own append.
    pub(crate) fn advance(&self, position: i64) {
        raise(&self.position, position);
        raise(&self.appended, position);
    }

    /// Returns once the log is known to go beyond `position`, or after `patience` at the latest.
    pub async fn beyond(&self, position: i64, patience: Duration) {
        let mut receiver = self.position.subscribe();
        let _ = tokio::time::timeout(patience, receiver.wait_for(|head| *head > position)).await;
    }
}

fn raise(sender: &watch::Sender<i64>, position: i64) {
    sender.send_if_modified(|known| {
        let higher = position > *known;
        *known = position.max(*known);
        higher
    });
}

async fn follow(pool: PgPool, channel: String, head: watch::Sender<i64>) {
    while !pool.is_closed() {
        let listener = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(&channel).await?;
            loop {
                let position = sqlx::query_scalar!("select position from log_head").fetch_one(&pool).await?;
                raise(&head, position);
                if let Ok(received) = tokio::time::timeout(Duration::from_millis(POLL_MS), listener.try_recv()).await {
                    received?;
                }
            }
        };
        let result: Result<std::convert::Infallible, sqlx::Error> = listener.await;
        let Err(error) = result;
        tracing::debug!(%error, "watching the log's head was interrupted");
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
    }
}

async fn tell(pool: PgPool, channel: String, mut appended: watch::Receiver<i64>) {
    while appended.changed().await.is_ok() && !pool.is_closed() {
        appended.mark_unchanged();
        if let Err(error) = sqlx::query!("select pg_notify($1, '')", channel).execute(&pool).await {
            tracing::debug!(%error, "other processes could not be told of new events; they will look themselves");
        }
        tokio::time::sleep(Duration::from_millis(NOTIFY_EVERY_MS)).await;
    }
}
