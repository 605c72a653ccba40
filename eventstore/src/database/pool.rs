//! Connections that do not outlive the network they were made over.

use std::{fmt, sync::Arc, time::Duration};

use futures::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    Connection as _, Describe, Either, Execute, Executor, PgPool, Postgres, SqlSafeStr, SqlStr, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{sync::watch, time::Instant};

use super::Silence;

/// Longest wait for a free connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was used so recently is taken without asking whether it lives, unless another was found broken since.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);
/// A connection that does not answer in time is dead.
const PING_DEADLINE: Duration = Duration::from_secs(1);
/// A connection whose user left in the middle of a statement waits for its end; one that takes longer is closed, and the server then
/// cancels the statement.
const RELEASE_DEADLINE: Duration = Duration::from_millis(500);

/// A pool of connections; clones share it.
///
/// Its connections never carry an open transaction from one user to the next: sqlx 0.9.0 can return one that was cancelled inside
/// `begin` (<https://github.com/launchbadge/sqlx/issues/4385>). sqlx sets no TCP keepalive: a connection that does not answer at once
/// when it is taken or given back is closed.
///
/// After the database fell silent all connections are made anew, in a pool of sqlx's that is new as well: sqlx 0.9.0 waits without a
/// time limit for the last answer of a connection that is given back, and keeps its place meanwhile
/// (<https://github.com/launchbadge/sqlx/issues/4349>).
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    connections: u32,
    silence: Silence,
    current: watch::Sender<Generation>,
}

struct Generation {
    pool: PgPool,
    begun: Instant,
}

impl Pool {
    /// Of at most so many connections, none of which is made yet.
    pub fn new(options: PgConnectOptions, connections: u32, silence: Silence) -> Self {
        let current = watch::Sender::new(Generation::begin(&options, connections, &silence));
        Self(Arc::new(Inner { options, connections, silence, current }))
    }

    /// The same, once one connection is made.
    pub(super) async fn connect(options: PgConnectOptions, connections: u32, silence: Silence) -> Result<Self, sqlx::Error> {
        let pool = Self::new(options, connections, silence);
        pool.acquire().await?;
        Ok(pool)
    }

    /// The connections made since the database fell silent last.
    fn current(&self) -> PgPool {
        let Inner { options, connections, silence, current } = &*self.0;
        let outdated = |generation: &Generation| silence.noticed_since(generation.begun) && !generation.pool.is_closed();
        if outdated(&current.borrow()) {
            current.send_if_modified(|generation| {
                let renewed = outdated(generation);
                if renewed {
                    let before = std::mem::replace(generation, Generation::begin(options, *connections, silence));
                    tokio::spawn(async move { before.pool.close().await });
                }
                renewed
            });
        }
        current.borrow().pool.clone()
    }

    /// A connection; [`sqlx::Error::PoolTimedOut`] if none is to be had within 5 s.
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

    /// Connections that are open and that nobody uses.
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
    fn begin(options: &PgConnectOptions, connections: u32, silence: &Silence) -> Self {
        let taken = silence.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // A transaction whose client is gone, and the server does not know it, holds its locks no longer than that. A statement
                    // whose connection was closed ends within `client_connection_check_interval`. Compiling a statement takes 200 ms where its
                    // tables have not been analyzed yet and its cost is overestimated; it pays for none of ours.
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
                let silence = taken.clone();
                Box::pin(async move {
                    if metadata.idle_for > TRUSTED_IDLE || silence.broken_within(metadata.idle_for) {
                        answered(&silence, connection.ping()).await?;
                    }
                    Ok(true)
                })
            })
            .after_release(|connection, _| {
                // That a statement takes long says nothing about the network.
                Box::pin(async move {
                    let rolled_back = tokio::time::timeout(RELEASE_DEADLINE, connection.execute("begin; rollback")).await;
                    Ok(matches!(rolled_back, Ok(Ok(_))))
                })
            })
            .connect_lazy_with(options.clone());
        Self { pool, begun: Instant::now() }
    }
}

async fn answered<T>(silence: &Silence, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let answer = tokio::time::timeout(PING_DEADLINE, answer).await;
    answer.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))).inspect_err(|_| silence.broken())
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
