//! The task that gathers commands into batches and answers them.

use std::{collections::VecDeque, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    batch::{APPEND_BATCH_MAX, Batch},
    pending::Pending,
    write::{Writer, Written},
};
use crate::head::Head;

/// A batch that takes longer is given up; its connection is closed, and its commands get the answer that the result is unknown. PostgreSQL
/// may still commit the batch, but not later than this after its commands were answered.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(10);
/// The fraction of the last batch's time that may be spent on gathering the next one, because larger batches are more efficient; and the
/// maximum of that time.
const GATHER_FRACTION: u32 = 4;
const GATHER_MAX: Duration = Duration::from_millis(2);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a batch with a lost connection is retried before its commands get the answer that the result is unknown.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(3);
const RECONNECT_EVERY: Duration = Duration::from_millis(100);

/// Settings of the connection that appends. PostgreSQL's timeout for a statement is shorter than this process waits, so that a batch that
/// was given up is not committed later. The few statements look up rows by key, whatever statistics the planner has about tables that grow
/// quickly.
const SESSION: [(&str, &str); 12] = [
    ("statement_timeout", "8s"),
    ("idle_in_transaction_session_timeout", "8s"),
    // A client that disappears in the middle of a COPY would hold the lock on the log until the server notices.
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
    ("default_transaction_isolation", "read committed"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

pub(super) struct Worker {
    options: PgConnectOptions,
    head: Head,
    connection: Option<PgConnection>,
    writer: Writer,
    pending: mpsc::Receiver<Pending>,
    /// Commands that could not win together with the previous batch.
    deferred: VecDeque<Pending>,
    /// Number of commands in the previous batch, and how long it took.
    last_commands: usize,
    last_write: Duration,
}

impl Worker {
    pub fn new(options: PgConnectOptions, may_copy: bool, head: Head, pending: mpsc::Receiver<Pending>) -> Self {
        Self {
            options: options.options(SESSION),
            writer: Writer::new(may_copy, head.clock().clone()),
            head,
            connection: None,
            pending,
            deferred: VecDeque::new(),
            last_commands: 0,
            last_write: Duration::ZERO,
        }
    }

    /// Runs until no caller can append any more.
    #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 commands")]
    pub async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            // All commands of the batch may have been answered while it was gathered.
            if batch.commands.is_empty() {
                continue;
            }
            let begun = Instant::now();
            self.last_commands = batch.commands.len();
            metrics::histogram!("newvoice_append_batch_commands").record(self.last_commands as f64);
            self.flush(batch).await;
            self.last_write = begun.elapsed();
            metrics::histogram!("newvoice_append_duration_seconds").record(self.last_write.as_secs_f64());
        }
    }

    /// The next batch: all waiting commands, within the limits. Clients that were just answered are likely to send their next command at
    /// once: as long as there are fewer commands than last time, the worker waits for them for a fraction of the time that the last write
    /// took.
    async fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        if self.deferred.is_empty() {
            let first = self.pending.recv().await?;
            self.take(&mut batch, first);
        }
        for waiting in std::mem::take(&mut self.deferred) {
            self.deferred.extend(batch.take(waiting));
        }
        let (begun, wait_max) = (Instant::now(), GATHER_MAX.min(self.last_write / GATHER_FRACTION));
        while !batch.is_full() && self.deferred.len() < APPEND_BATCH_MAX {
            match self.pending.try_recv() {
                Ok(next) => self.take(&mut batch, next),
                Err(_) if batch.commands.len() < self.last_commands && begun.elapsed() < wait_max => {
                    tokio::task::yield_now().await;
                }
                Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Moves a command from the queue into the batch, or into the deferred commands.
    fn take(&mut self, batch: &mut Batch, next: Pending) {
        self.deferred.extend(batch.take(next));
    }

    async fn flush(&mut self, batch: Batch) {
        let Err((batch, error)) = self.write(batch, false).await else { return };
        self.last_commands = 0;
        let spoilt = self.connection.is_some() && is_of_content(&error);
        if !spoilt || batch.commands.len() == 1 && !is_duplicate(&error) {
            tracing::warn!(%error, commands = batch.commands.len(), "an append batch failed");
            return batch.failed(&error.to_string());
        }
        // The content of one command may have made the whole batch fail.
        tracing::warn!(%error, commands = batch.commands.len(), "an append batch failed; its commands are tried one by one");
        for pending in batch.commands {
            if let Err((alone, error)) = self.write(Batch::of(pending), true).await {
                tracing::warn!(%error, "an append failed");
                alone.failed(&error.to_string());
            }
        }
    }

    /// Writes and answers a batch, or returns it with the error. Commands that lose are removed from it. A batch with a lost connection is
    /// retried for a while: the database is asked whether it already has the events, because `again` means that it may have them.
    async fn write(&mut self, batch: Batch, again: bool) -> Result<(), (Batch, sqlx::Error)> {
        let (mut batch, mut again) = (batch, again);
        let begun = Instant::now();
        loop {
            match self.try_write(&batch, again).await {
                Ok(Written::At { position, recorded_at }) => {
                    // A command that expects an older version has lost, and does not have to wait for the next batch.
                    let deferred = std::mem::take(&mut self.deferred);
                    self.deferred.extend(deferred.into_iter().filter_map(|pending| batch.reject_stale(pending)));
                    self.head.advance(batch.won(position, recorded_at));
                    return Ok(());
                }
                Ok(Written::Not(found)) => {
                    let before = batch.commands.len();
                    let rest = batch.resolve(&found);
                    let lost = before - rest.len();
                    batch = Batch::default();
                    for pending in rest {
                        self.deferred.extend(batch.take(pending));
                    }
                    if batch.commands.is_empty() {
                        return Ok(());
                    }
                    if lost == 0 {
                        return Err((batch, sqlx::Error::Protocol("nothing was written, and nobody lost".to_owned())));
                    }
                }
                Err(error) if self.connection.is_none() && begun.elapsed() < RECONNECT_PATIENCE => {
                    tracing::warn!(%error, commands = batch.commands.len(), "the connection of an append batch was lost; it is tried again");
                    again = true;
                    tokio::time::sleep(RECONNECT_EVERY).await;
                }
                Err(error) => return Err((batch, error)),
            }
        }
    }

    /// A connection that failed or did not answer in time is not used again.
    async fn try_write(&mut self, batch: &Batch, again: bool) -> Result<Written, sqlx::Error> {
        let timed_out = |_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => timeout(CONNECT_DEADLINE, PgConnection::connect_with(&self.options)).await.unwrap_or_else(timed_out)?,
        };
        let result = timeout(APPEND_DEADLINE, self.writer.write(&mut connection, batch, again)).await;
        let result = result.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        let usable = match &result {
            Ok(_) => true,
            Err(sqlx::Error::Database(error)) => !is_fatal(error.as_ref()),
            Err(_) => false,
        };
        if usable {
            self.connection = Some(connection);
        }
        result
    }
}

fn is_fatal(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Whether the database refused the content of a command: data (22), a constraint (23), a limit of the program (54).
fn is_of_content(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
