//! The audit: every change over the API and every refusal, with caller, address, time and reason. The log has the content of a change,
//! under the same request id.
//!
//! A separate task writes the entries in batches: a flood of refusals does not delay requests. A crash loses at most the entries of some
//! milliseconds; the changes among them are in the log. Repeated refusals are counted in one entry.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use eventstore::{Actor, ActorKind, Pool, now};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    Origin,
    repeats::{Counted, Refused, Repeats},
};
use services::{UserRef, identity::Identity};

/// Maximum number of waiting entries; further ones are only counted.
const WAITING_MAX: usize = 20_000;
const BATCH_MAX: usize = 1_000;
/// Maximum length of a stored path, in characters.
const PATH_MAX_CHARS: usize = 300;
/// Maximum number of refusals without a valid credential that are stored per minute, of all clients and of one client; further ones are
/// only counted.
const STRANGERS_MAX: u32 = 600;
const OF_ONE_STRANGER_MAX: u32 = 60;
/// Maximum number of entries that are deleted in one step.
const PURGE_MAX: i64 = 10_000;
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Number of attempts to write a batch before it is dropped.
const TRIES: usize = 20;

/// The user or API key that an entry is about, if the handler has more information than the credential.
#[derive(Clone, Debug)]
pub struct AuditSubject {
    pub company_id: Uuid,
    pub actor: Actor,
}

impl AuditSubject {
    pub fn user(company_id: Uuid, user_id: Uuid) -> Self {
        Self { company_id, actor: Actor { kind: ActorKind::User, id: Some(user_id), name: None } }
    }
}

impl From<UserRef> for AuditSubject {
    fn from(user: UserRef) -> Self {
        Self::user(user.company_id, user.user_id)
    }
}

impl From<Identity> for AuditSubject {
    fn from(identity: Identity) -> Self {
        Self { company_id: identity.company_id, actor: identity.actor }
    }
}

/// Marks the answer to a command that changed nothing, such as a dry run: the audit does not record it.
#[derive(Clone, Copy)]
pub struct Unchanged;

pub struct AuditEntry {
    id: Uuid,
    subject: Option<AuditSubject>,
    at: DateTime<Utc>,
    action: String,
    path: String,
    status: StatusCode,
    reason: Option<String>,
    request_id: Uuid,
    client: Option<String>,
    /// The client's address or network, as rate limits use it.
    network: String,
    user_agent: Option<String>,
}

impl AuditEntry {
    pub fn new(
        subject: Option<AuditSubject>,
        action: String,
        path: String,
        status: StatusCode,
        reason: Option<String>,
        origin: Option<&Origin>,
    ) -> Self {
        Self {
            id: Uuid::now_v7(),
            subject,
            at: now(),
            action,
            path: path.chars().take(PATH_MAX_CHARS).collect(),
            status,
            reason,
            request_id: origin.map_or_else(Uuid::now_v7, |origin| origin.request_id),
            client: origin.map(Origin::client),
            network: origin.map(Origin::network).unwrap_or_default(),
            user_agent: origin.and_then(|origin| origin.user_agent.clone()),
        }
    }

    /// Nil if the caller was not authenticated.
    fn company_id(&self) -> Uuid {
        self.subject.as_ref().map_or_else(Uuid::nil, |subject| subject.company_id)
    }

    /// The properties that a refusal shares with its repeats. `None` for a change, which always has its own entry.
    fn refused(&self) -> Option<Refused> {
        (!self.status.is_success()).then(|| Refused {
            company_id: self.company_id(),
            actor: self.subject.as_ref().map(|AuditSubject { actor, .. }| format!("{:?} {:?}", actor.kind, actor.id)),
            action: self.action.clone(),
            status: self.status,
            reason: self.reason.clone(),
            client: self.client.clone(),
        })
    }
}

enum Order {
    Note(Box<AuditEntry>),
    /// Answered when all earlier entries are written.
    Flush(oneshot::Sender<()>),
}

/// The refusals without a valid credential within one minute.
struct Strangers {
    since: Instant,
    kept: u32,
    kept_by_network: HashMap<String, u32>,
}

impl Strangers {
    fn new() -> Self {
        Self { since: Instant::now(), kept: 0, kept_by_network: HashMap::new() }
    }

    /// Whether one more refusal of a client is stored: a flood must neither fill the disk nor displace the entries of other clients.
    fn keeps(&mut self, network: &str) -> bool {
        if self.since.elapsed() >= Duration::from_secs(60) {
            *self = Self::new();
        }
        if self.kept >= STRANGERS_MAX {
            return false;
        }
        let of_network = self.kept_by_network.entry(network.to_owned()).or_default();
        let keeps = *of_network < OF_ONE_STRANGER_MAX;
        if keeps {
            *of_network += 1;
            self.kept += 1;
        }
        keeps
    }
}

/// A handle that accepts entries. Clones share it.
#[derive(Clone)]
pub struct Audit {
    orders: mpsc::Sender<Order>,
    strangers: Arc<Mutex<Strangers>>,
}

impl Audit {
    /// Starts the task that writes; the task ends when the last clone is dropped.
    pub fn start(pool: Pool) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(pool, receiver));
        Self { orders: sender, strangers: Arc::new(Mutex::new(Strangers::new())) }
    }

    pub fn note(&self, entry: AuditEntry) {
        if entry.subject.is_none() && !self.strangers.lock().unwrap_or_else(PoisonError::into_inner).keeps(&entry.network) {
            metrics::counter!("newvoice_audit_strangers_total").increment(1);
            return;
        }
        if self.orders.try_send(Order::Note(Box::new(entry))).is_err() {
            metrics::counter!("newvoice_audit_entries_lost_total").increment(1);
        }
    }

    /// Returns when all earlier entries are written, or dropped.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.orders.send(Order::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

async fn write(pool: Pool, mut orders: mpsc::Receiver<Order>) {
    let (mut batch, mut repeats) = (Vec::with_capacity(BATCH_MAX), Repeats::default());
    loop {
        let received = receive(&mut orders, &mut batch, repeats.write_at()).await;
        let (mut entries, mut waiting) = (Vec::new(), Vec::new());
        for order in batch.drain(..) {
            match order {
                Order::Note(entry) => {
                    let is_repeat = entry.refused().is_some_and(|refused| repeats.count(refused, entry.id, Instant::now()));
                    if !is_repeat {
                        entries.push(*entry);
                    }
                }
                Order::Flush(done) => waiting.push(done),
            }
        }
        let is_last = received == Some(0);
        let are_counts_due = is_last || !waiting.is_empty() || repeats.write_at().is_some_and(|at| at <= Instant::now());
        let counts = if are_counts_due { repeats.take_counts() } else { Vec::new() };
        write_batch(&pool, &entries, &counts).await;
        for done in waiting {
            let _ = done.send(());
        }
        if is_last {
            return;
        }
    }
}

/// Receives orders as soon as there are some, and returns their number: 0 when the channel is closed, and `None` if none arrived until
/// `deadline`.
async fn receive(orders: &mut mpsc::Receiver<Order>, batch: &mut Vec<Order>, deadline: Option<Instant>) -> Option<usize> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), orders.recv_many(batch, BATCH_MAX)).await.ok(),
        None => Some(orders.recv_many(batch, BATCH_MAX).await),
    }
}

/// Writes new entries and the counts of existing ones; retries while the database does not accept them.
async fn write_batch(pool: &Pool, entries: &[AuditEntry], counts: &[Counted]) {
    for _ in 0..TRIES {
        let written = match insert(pool, entries).await {
            Ok(()) => update_counts(pool, counts).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(%error, "the audit waits for the database");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
    let lost = entries.len() + counts.len();
    metrics::counter!("newvoice_audit_entries_lost_total").increment(lost as u64);
    tracing::error!(entries = lost, "audit entries could not be written and are lost");
}

/// Updates the counts of repeated refusals.
async fn update_counts(pool: &Pool, counts: &[Counted]) -> Result<(), sqlx::Error> {
    if counts.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update audit_log a set count = n.count from unnest($1::uuid[], $2::uuid[], $3::int[]) n(company_id, audit_id, count)
          where a.company_id = n.company_id and a.audit_id = n.audit_id",
        &counts.iter().map(|counted| counted.company_id).collect::<Vec<_>>(),
        &counts.iter().map(|counted| counted.audit_id).collect::<Vec<_>>(),
        &counts.iter().map(|counted| counted.count).collect::<Vec<_>>()
    )
    .execute(pool)
    .await?;
    Ok(())
}

#[expect(clippy::expect_used, reason = "see the message")]
async fn insert(pool: &Pool, entries: &[AuditEntry]) -> Result<(), sqlx::Error> {
    if entries.is_empty() {
        return Ok(());
    }
    fn column<T>(entries: &[AuditEntry], of: impl Fn(&AuditEntry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    // PostgreSQL cannot store NUL, and control characters are not useful to readers.
    let clean = |text: &str| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    let actor = |entry: &AuditEntry| entry.subject.as_ref().map(|subject| json!(subject.actor));
    sqlx::query!(
        "insert into audit_log (company_id, audit_id, at, actor, action, path, status, reason, request_id, client, user_agent)
         select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::jsonb[], $5::text[], $6::text[], $7::smallint[], $8::text[],
                $9::uuid[], $10::text[], $11::text[])
         on conflict do nothing",
        &column(entries, AuditEntry::company_id),
        &column(entries, |e| e.id),
        &column(entries, |e| e.at),
        &column(entries, actor) as &[Option<Value>],
        &column(entries, |e| e.action.clone()),
        &column(entries, |e| clean(&e.path)),
        &column(entries, |e| i16::try_from(e.status.as_u16()).expect("an HTTP status has three digits")),
        &column(entries, |e| e.reason.as_deref().map(clean)) as &[Option<String>],
        &column(entries, |e| e.request_id),
        &column(entries, |e| e.client.clone()) as &[Option<String>],
        &column(entries, |e| e.user_agent.as_deref().map(clean)) as &[Option<String>]
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes entries that are older than `days`, in small steps.
pub async fn purge(pool: &Pool, days: u32) -> Result<(), sqlx::Error> {
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    loop {
        let purged = sqlx::query!(
            "delete from audit_log where ctid = any (array(select ctid from audit_log where at < now() - make_interval(days => $1) limit $2))",
            days,
            PURGE_MAX
        );
        if purged.execute(pool).await?.rows_affected() == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_displace_the_refusals_of_others() {
        let mut strangers = Strangers::new();
        let kept = |strangers: &mut Strangers, network: &str, count: u32| (0..count).filter(|_| strangers.keeps(network)).count();
        assert_eq!(kept(&mut strangers, "203.0.113.7", 1_000), 60);
        assert_eq!(kept(&mut strangers, "203.0.113.8", 10), 10);
        let all: usize = (0..100).map(|n| kept(&mut strangers, &format!("198.51.100.{n}"), 60)).sum();
        assert_eq!(all, 600 - 70);
    }
}
