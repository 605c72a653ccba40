//! The task that gathers commands into batches and answers them.

use std::{collections::VecDeque, time::Duration};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Pending,
    batch::{APPEND_BATCH_MAX, Batch},
    write::{Writer, Written},
};
use crate::head::Head;

/// A batch that takes longer is given up; its connection is closed, its commands hear that nothing is known. PostgreSQL may still commit
/// it, but not later than this after its commands were answered.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(10);
/// What part of the time that the last batch took may be spent on gathering the next one, as larger batches are worth more; and how
/// much at most.
const GATHER_FRACTION: u32 = 4;
const GATHER_MAX: Duration = Duration::from_millis(2);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For so long a batch whose connection was lost is tried again before its commands hear that nothing is known.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(3);
const RECONNECT_EVERY: Duration = Duration::from_millis(100);

/// Of the connection that appends. What PostgreSQL gives a statement is less than we wait, so that a batch we gave up does
/// not come in later. Its few statements look up rows by key, whatever the planner knows of tables that grow quickly.
const SESSION: [(&str, &str); 12] = [
    ("statement_timeout", "8s"),
    ("idle_in_transaction_session_timeout", "8s"),
    // A client that is gone in the middle of a COPY would hold the log still until the server notices.
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
    /// Commands that could not win together with the batch before.
    deferred: VecDeque<Pending>,
    /// Of the batch before, and how long it took.
    last_commands: usize,
    last_write: Duration,
}

impl Worker {
    pub fn new(options: PgConnectOptions, may_copy: bool, head: Head, pending: mpsc::Receiver<Pending>) -> Self {
        Self {
            options: options.options(SESSION),
            head,
            connection: None,
            writer: Writer::new(may_copy),
            pending,
            deferred: VecDeque::new(),
            last_commands: 0,
            last_write: Duration::ZERO,
        }
    }

    /// Until nobody can append any more.
    #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 commands")]
    pub async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            // Everybody in it may have been answered when it was gathered.
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

    /// The next batch: whatever waits, within the limits. Those who were answered just now are likely to come again at once: as
    /// long as there are fewer commands than last time, a part of the time that writing them took is given to them.
    async fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        if self.deferred.is_empty() {
            let first = self.pending.recv().await?;
            self.take(&mut batch, first);
        }
        for waiting in std::mem::take(&mut self.deferred) {
            self.deferred.extend(batch.take(waiting));
        }
        let (begun, patience) = (Instant::now(), GATHER_MAX.min(self.last_write / GATHER_FRACTION));
        while !batch.is_full() && self.deferred.len() < APPEND_BATCH_MAX {
            match self.pending.try_recv() {
                Ok(next) => self.take(&mut batch, next),
                Err(_) if batch.commands.len() < self.last_commands && begun.elapsed() < patience => {
                    tokio::task::yield_now().await;
                }
                Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Takes a command out of the queue, into the batch or behind it.
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
        // One command's content may have spoilt the batch for all.
        tracing::warn!(%error, commands = batch.commands.len(), "an append batch failed; its commands are tried one by one");
        for pending in batch.commands {
            if let Err((alone, error)) = self.write(Batch::of(pending), true).await {
                tracing::warn!(%error, "an append failed");
                alone.failed(&error.to_string());
            }
        }
    }

    /// Writes and answers a batch, or gives it back with what went wrong. Commands that lose drop out. A batch whose connection
    /// was lost is tried again for a while: the database is asked whether it has the events already, as `again` says they may be.
    async fn write(&mut self, batch: Batch, again: bool) -> Result<(), (Batch, sqlx::Error)> {
        let (mut batch, mut again) = (batch, again);
        let begun = Instant::now();
        loop {
            match self.try_write(&batch, again).await {
                Ok(Written::At { position, recorded_at }) => {
                    // Who expected an older version has lost, and need not wait for a batch to find it out.
                    let deferred = std::mem::take(&mut self.deferred);
                    self.deferred.extend(deferred.into_iter().filter_map(|pending| batch.outran(pending)));
                    self.head.advance(batch.won(position, recorded_at));
                    return Ok(());
                }
                Ok(Written::Not(found)) => {
                    let before = batch.commands.len();
                    let rest = batch.judge(&found);
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

/// Whether what a command holds was refused: data (22), a constraint (23), a limit of the program (54).
fn is_of_content(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
