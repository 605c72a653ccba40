//! The end of the log, as far as this process has seen it: the process's own appends report it at once, other processes report it through
//! NOTIFY, and the process reads it every [`POLL_MS`], whatever else fails.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

use crate::{
    clock::DatabaseClock,
    database::{DatabaseHealth, Pool},
};

/// How often the head is read without a notification, in milliseconds.
const POLL_MS: u64 = 200;
/// Other processes are notified at most this often, in milliseconds; NOTIFY inside the append would serialise all commits.
const NOTIFY_EVERY_MS: u64 = 5;

#[derive(Clone)]
pub struct Head {
    position: watch::Sender<i64>,
    appended: watch::Sender<i64>,
    erasures: watch::Sender<Erasures>,
    health: DatabaseHealth,
    clock: DatabaseClock,
}

/// The erasures of persons, as far as this process has seen them.
#[derive(Clone, Default)]
pub(crate) struct Erasures {
    /// Number of persons that have been erased.
    pub count: i64,
    /// The companies of the last erasures, the newest last.
    recent: Vec<Uuid>,
}

impl Erasures {
    /// The companies that have erased persons since the number of erasures was `count`; `None` if that is too long ago.
    pub fn companies_since(&self, count: i64) -> Option<HashSet<Uuid>> {
        let first = self.recent.len().checked_sub(usize::try_from(self.count - count).ok()?)?;
        Some(self.recent[first..].iter().copied().collect())
    }
}

impl Head {
    /// Starts the tasks that watch the head and notify other processes; they end when the pool is closed.
    pub(crate) fn watch(pool: Pool, options: PgConnectOptions, channel: String, health: DatabaseHealth) -> Self {
        let head = Self {
            position: watch::Sender::new(0),
            appended: watch::Sender::new(0),
            erasures: watch::Sender::default(),
            health,
            clock: DatabaseClock::default(),
        };
        let own_backend = Arc::new(AtomicU32::new(0));
        tokio::spawn(follow(pool.clone(), options.clone(), channel.clone(), head.clone(), Arc::clone(&own_backend)));
        tokio::spawn(tell(pool, options, channel, head.appended.subscribe(), own_backend));
        head
    }

    /// The last position that this process has seen.
    pub fn position(&self) -> i64 {
        *self.position.borrow()
    }

    pub(crate) fn clock(&self) -> &DatabaseClock {
        &self.clock
    }

    /// Whether the database answers.
    pub fn health(&self) -> &DatabaseHealth {
        &self.health
    }

    /// Changes whenever a person is erased.
    pub(crate) fn erasures(&self) -> watch::Receiver<Erasures> {
        self.erasures.subscribe()
    }

    /// Records an append of this process.
    pub(crate) fn advance(&self, position: i64) {
        raise(&self.position, position);
        raise(&self.appended, position);
    }

    /// Returns once the log is known to have a position after `position`, or after `wait_max` at the latest.
    pub async fn beyond(&self, position: i64, wait_max: Duration) {
        let mut receiver = self.position.subscribe();
        let _ = tokio::time::timeout(wait_max, receiver.wait_for(|head| *head > position)).await;
    }
}

fn raise(sender: &watch::Sender<i64>, position: i64) {
    sender.send_if_modified(|known| {
        let higher = position > *known;
        *known = position.max(*known);
        higher
    });
}

/// If reading the head takes longer, its connection is treated as dead.
const LOOK_DEADLINE: Duration = Duration::from_secs(4);

async fn follow(pool: Pool, options: PgConnectOptions, channel: String, head: Head, own_backend: Arc<AtomicU32>) {
    while !pool.is_closed() {
        let result: Result<std::convert::Infallible, sqlx::Error> = listen(&options, &channel, &head, &own_backend).await;
        let Err(error) = result;
        match &error {
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => head.health.report_silent(),
            _ => head.health.report_broken(),
        }
        tracing::debug!(%error, "watching the log's head was interrupted");
        tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
    }
}

/// Reads the head whenever another process reports new events, and every [`POLL_MS`] without a report.
async fn listen(
    options: &PgConnectOptions,
    channel: &str,
    head: &Head,
    own_backend: &AtomicU32,
) -> Result<std::convert::Infallible, sqlx::Error> {
    let timed_out = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    // A separate connection: busy connections are no sign that the database has failed.
    let own = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None).connect_lazy_with(options.clone());
    let mut listener = timeout(LOOK_DEADLINE, PgListener::connect_with(&own)).await.map_err(timed_out)??;
    // A lost connection is reported at once; the next read connects again.
    listener.eager_reconnect(false);
    timeout(LOOK_DEADLINE, listener.listen(channel)).await.map_err(timed_out)??;
    loop {
        let look = sqlx::query!("select h.position, e.count, e.recent from log_head h, erasures e").fetch_one(&mut listener);
        let found = timeout(LOOK_DEADLINE, look).await.map_err(timed_out)??;
        raise(&head.position, found.position);
        head.erasures.send_if_modified(|known| {
            let has_more = found.count > known.count;
            if has_more {
                *known = Erasures { count: found.count, recent: found.recent };
            }
            has_more
        });
        let others = async {
            loop {
                match listener.try_recv().await? {
                    // This process already has the positions of its own appends.
                    Some(notification) if notification.process_id() == own_backend.load(Ordering::Relaxed) => {}
                    Some(_) => return Ok::<_, sqlx::Error>(()),
                    // The connection was lost, and perhaps a notification with it.
                    None => {
                        head.health.report_broken();
                        return Ok(());
                    }
                }
            }
        };
        if let Ok(told) = timeout(Duration::from_millis(POLL_MS), others).await {
            told?;
        }
    }
}

/// Notifies other processes, over a separate connection, so that receivers can identify the sender.
async fn tell(pool: Pool, options: PgConnectOptions, channel: String, mut appended: watch::Receiver<i64>, own_backend: Arc<AtomicU32>) {
    let mut connection: Option<PgConnection> = None;
    while appended.changed().await.is_ok() && !pool.is_closed() {
        appended.mark_unchanged();
        let told = timeout(LOOK_DEADLINE, notify(connection.take(), &options, &channel, &own_backend)).await;
        match told.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))) {
            Ok(usable) => connection = Some(usable),
            Err(error) => tracing::debug!(%error, "other processes could not be told of new events; they will look themselves"),
        }
        tokio::time::sleep(Duration::from_millis(NOTIFY_EVERY_MS)).await;
    }
}

async fn notify(
    connection: Option<PgConnection>,
    options: &PgConnectOptions,
    channel: &str,
    own_backend: &AtomicU32,
) -> Result<PgConnection, sqlx::Error> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => {
            let mut connection = PgConnection::connect_with(options).await?;
            let pid = sqlx::query_scalar!(r#"select pg_backend_pid() as "pid!""#).fetch_one(&mut connection).await?;
            own_backend.store(pid.cast_unsigned(), Ordering::Relaxed);
            connection
        }
    };
    sqlx::query!("select pg_notify($1, '')", channel).execute(&mut connection).await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erasures_name_their_companies_unless_too_many_came_at_once() {
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        let erasures = Erasures { count: 10, recent: vec![a, b, b, c] };
        let since = |count| erasures.companies_since(count);
        assert_eq!(since(10), Some(HashSet::new()));
        assert_eq!(since(9), Some(HashSet::from([c])));
        assert_eq!(since(6), Some(HashSet::from([a, b, c])));
        assert_eq!(since(5), None);
    }
}
