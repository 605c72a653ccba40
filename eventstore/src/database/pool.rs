//! A pool that closes connections whose network has failed.

use std::{fmt, sync::Arc, time::Duration};

use futures::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    Connection as _, Describe, Either, Execute, Executor, PgPool, Postgres, SqlSafeStr, SqlStr, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{sync::watch, time::Instant};

use super::DatabaseHealth;

/// Longest wait for a free connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was used this recently is taken without a check that it is alive, unless another one was found broken since.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);
/// A connection that does not answer in time is dead.
const PING_DEADLINE: Duration = Duration::from_secs(1);
/// A connection whose user left in the middle of a statement waits for the end of the statement; if that takes longer, the connection is
/// closed, and the server then cancels the statement.
const RELEASE_DEADLINE: Duration = Duration::from_millis(500);

/// A pool of connections; clones share it.
///
/// Its connections never carry an open transaction from one user to the next: sqlx 0.9.0 can return one that was cancelled inside
/// `begin` (<https://github.com/launchbadge/sqlx/issues/4385>). sqlx sets no TCP keepalive: a connection that does not answer at once
/// when it is taken or given back is closed.
///
/// After the database fell silent, the pool replaces all connections and also sqlx's pool: sqlx 0.9.0 waits without a timeout for the last
/// answer of a connection that is given back, and the connection occupies its place meanwhile
/// (<https://github.com/launchbadge/sqlx/issues/4349>).
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    connections: u32,
    health: DatabaseHealth,
    current: watch::Sender<Generation>,
}

struct Generation {
    pool: PgPool,
    begun: Instant,
}

impl Pool {
    /// A pool of at most `connections` connections, none of which is open yet.
    pub fn new(options: PgConnectOptions, connections: u32, health: DatabaseHealth) -> Self {
        let current = watch::Sender::new(Generation::begin(&options, connections, &health));
        Self(Arc::new(Inner { options, connections, health, current }))
    }

    /// The same, once one connection is open.
    pub(super) async fn connect(options: PgConnectOptions, connections: u32, health: DatabaseHealth) -> Result<Self, sqlx::Error> {
        let pool = Self::new(options, connections, health);
        pool.acquire().await?;
        Ok(pool)
    }

    /// The connections that were made since the database last fell silent.
    fn current(&self) -> PgPool {
        let Inner { options, connections, health, current } = &*self.0;
        let outdated = |generation: &Generation| health.silent_since(generation.begun) && !generation.pool.is_closed();
        if outdated(&current.borrow()) {
            current.send_if_modified(|generation| {
                let renewed = outdated(generation);
                if renewed {
                    let before = std::mem::replace(generation, Generation::begin(options, *connections, health));
                    tokio::spawn(async move { before.pool.close().await });
                }
                renewed
            });
        }
        current.borrow().pool.clone()
    }

    /// A connection; [`sqlx::Error::PoolTimedOut`] if none is available within 5 s.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.current().acquire().await
    }

    /// A transaction; errors as those of [`Self::acquire`].
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.current().begin().await
    }

    /// The same, begun with `statement`.
    pub async fn begin_with(&self, statement: impl SqlSafeStr) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.current().begin_with(statement).await
    }

    /// Connections that may be open.
    pub fn max_size(&self) -> u32 {
        self.0.connections
    }

    /// Connections that are open.
    pub fn size(&self) -> u32 {
        self.current().size()
    }

    /// Connections that are open and idle.
    pub fn num_idle(&self) -> usize {
        self.current().num_idle()
    }

    /// Closes all connections, waiting for those that are in use.
    pub async fn close(&self) {
        self.current().close().await;
    }

    pub fn is_closed(&self) -> bool {
        self.current().is_closed()
    }
}

impl Generation {
    fn begin(options: &PgConnectOptions, connections: u32, health: &DatabaseHealth) -> Self {
        let taken = health.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // A transaction whose client is gone without the server's knowledge holds its locks no longer than these timeouts. A
                    // statement whose connection was closed ends within `client_connection_check_interval`. Compiling a statement takes 200
                    // ms if its tables have not been analyzed yet and its cost is overestimated; it is worth the time for none of the
                    // platform's statements.
                    connection
                        .execute(
                            "set statement_timeout = '30s'; set idle_in_transaction_session_timeout = '10s';
                             set client_connection_check_interval = '250ms'; set jit = off",
                        )
                        .await?;
                    Ok(())
                })
            })
            .test_before_acquire(false)
            .before_acquire(move |connection, metadata| {
                let health = taken.clone();
                Box::pin(async move {
                    if metadata.idle_for > TRUSTED_IDLE || health.broken_within(metadata.idle_for) {
                        answered(&health, connection.ping()).await?;
                    }
                    Ok(true)
                })
            })
            .after_release(|connection, _| {
                // A slow statement is no sign of a broken network.
                Box::pin(async move {
                    let rolled_back = tokio::time::timeout(RELEASE_DEADLINE, connection.execute("begin; rollback")).await;
                    Ok(matches!(rolled_back, Ok(Ok(_))))
                })
            })
            .connect_lazy_with(options.clone());
        Self { pool, begun: Instant::now() }
    }
}

async fn answered<T>(health: &DatabaseHealth, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let answer = tokio::time::timeout(PING_DEADLINE, answer).await;
    answer.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))).inspect_err(|_| health.report_broken())
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        self.current().fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        self.current().fetch_optional(query)
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        self.current().prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        self.current().describe(sql)
    }
}
