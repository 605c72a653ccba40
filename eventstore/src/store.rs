//! The public interface of the log.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use domain::Decider;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::{
    ahead::Ahead,
    append::Appender,
    bounded_page::BoundedPage,
    contention::Contended,
    database::{Database, Pool, process_name},
    error::{ExecuteError, StoreError},
    event::{CommandContext, StoredEvent, StreamName},
    head::Head,
    persons::Persons,
    read::{self, Filter},
    states::StateCache,
    subscribe::Subscription,
};

/// The log of one installation. Clones share everything.
#[derive(Clone)]
pub struct EventStore {
    /// Connections for commands and subscriptions.
    pub(crate) pool: Pool,
    /// Connections for queries on the log: commands never wait behind them.
    pub(crate) history: Pool,
    /// Connections as the owner: for changes to the log's tables.
    owner: Pool,
    options: Arc<PgConnectOptions>,
    pub(crate) appender: Appender,
    head: Head,
    pub(crate) states: StateCache,
    pub(crate) ahead: Arc<Ahead>,
    pub(crate) contended: Arc<Contended>,
    persons: Persons,
}

impl EventStore {
    /// Opens the log of a migrated database.
    pub fn open(database: &Database) -> Self {
        let access = &database.access;
        let notifying = access.log_options.clone().application_name(&format!("{} notify", process_name()));
        let head = Head::watch(access.commands.clone(), notifying, database.channel(), database.health.clone());
        let appending = access.log_options.clone().application_name(&format!("{} append", process_name()));
        let appender = Appender::start(appending, access.log_may_copy, head.clone());
        let states = StateCache::new();
        let persons = Persons::new(access.commands.clone(), database.master_key.clone());
        tokio::spawn(forget_the_erased(head.clone(), persons.clone(), states.clone()));
        Self {
            pool: access.commands.clone(),
            history: access.history.clone(),
            owner: database.pool.clone(),
            persons,
            options: Arc::new(database.options.clone()),
            appender,
            head,
            states,
            ahead: Arc::default(),
            contended: Arc::default(),
        }
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Commands that wait to be appended.
    pub fn waiting_commands(&self) -> usize {
        self.appender.waiting()
    }

    /// The persons that the log's personal data is about.
    pub fn persons(&self) -> &Persons {
        &self.persons
    }

    /// Destroys the key to everything that was recorded about a person. The log records the erasure, the actor and the time.
    pub async fn erase_person<D: Decider>(
        &self,
        context: &CommandContext,
        person_id: Uuid,
        erase: D::Command,
    ) -> Result<i64, ExecuteError<D::Refusal>> {
        // The fact is stored first: if the process is killed after it, the key is destroyed when the platform starts.
        let committed = self.execute::<D>(context, person_id, erase).await?;
        self.persons.destroy(context.company_id, person_id).await?;
        self.persons.outdate(context.company_id);
        Ok(committed.position)
    }

    /// The position of the last event, read from the database.
    pub async fn last_position(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar!("select position from log_head").fetch_one(&self.history).await?)
    }

    /// The next events after `after`, in log order; empty at the end of the log. Limited in events and bytes.
    pub async fn read_page(&self, after: i64, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
        self.head.health().or_unavailable(read::page(&self.pool, after, limit)).await?
    }

    /// The next events after `after`; waits up to `wait_max` for one to arrive. A reader that continues reading should subscribe instead.
    pub async fn next_page(&self, after: i64, limit: i64, wait_max: Duration) -> Result<Vec<StoredEvent>, StoreError> {
        let page = self.read_page(after, limit).await?;
        if !page.is_empty() {
            return Ok(page);
        }
        self.head.beyond(after, wait_max).await;
        self.read_page(after, limit).await
    }

    /// All events after `after`, then every new event.
    pub fn subscribe(&self, after: i64) -> Subscription {
        Subscription::new(self.pool.clone(), self.head.clone(), after)
    }

    /// A company's events after `after` that pass the filter, in log order, with personal data. At most `limit`, fewer if they are long.
    pub async fn read_company_page(
        &self,
        company_id: Uuid,
        after: i64,
        filter: &Filter,
        limit: usize,
    ) -> Result<BoundedPage<StoredEvent>, StoreError> {
        let mut page = read::company_page(&self.history, company_id, after, filter, limit).await?;
        self.persons.reveal(company_id, &mut page.rows).await?;
        Ok(page)
    }

    /// The events of a company's streams after a position, with personal data; none if the streams are another company's. At most `limit`,
    /// and fewer if they are long.
    pub async fn read_history(
        &self,
        company_id: Uuid,
        streams: &[StreamName],
        after: i64,
        limit: usize,
    ) -> Result<BoundedPage<StoredEvent>, StoreError> {
        let mut page = read::history_page(&self.history, company_id, streams, after, limit).await?;
        self.persons.reveal(company_id, &mut page.rows).await?;
        Ok(page)
    }

    /// All of a stream's events that were recorded until `until`, oldest first, in stored form. For tools: a stream may be long.
    pub async fn read_stream(&self, stream: &StreamName, until: Option<DateTime<Utc>>) -> Result<Vec<StoredEvent>, StoreError> {
        let mut events = read::stream(&self.history, stream, 0, i64::MAX).await?;
        events.retain(|event| until.is_none_or(|until| event.recorded_at <= until));
        Ok(events)
    }

    /// The position before the first event recorded at or after `moment`: the events after it were recorded since then.
    pub async fn position_before(&self, moment: DateTime<Utc>) -> Result<i64, StoreError> {
        read::position_before(&self.history, moment).await
    }

    /// Position of the last event that was recorded until `moment`.
    pub async fn position_as_of(&self, moment: DateTime<Utc>) -> Result<i64, StoreError> {
        // Times of the log have microseconds.
        read::position_before(&self.history, moment.trunc_subsecs(6) + TimeDelta::microseconds(1)).await
    }

    /// The events with these ids, at any position.
    pub async fn read_events(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>, StoreError> {
        read::by_ids(&self.pool, ids).await
    }

    /// How many of a company's streams were in a state at `until`: the state begins with an event of one type and ends with one of another
    /// type. The cost depends on these streams, not on the length of the log.
    pub async fn count_streams_in<D: Decider>(
        &self,
        company_id: Uuid,
        ids: &[Uuid],
        [begins, ends]: [&str; 2],
        until: DateTime<Utc>,
    ) -> Result<i64, StoreError> {
        let names: Vec<_> = ids.iter().map(|id| StreamName::of::<D>(*id).to_string()).collect();
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from (
                   select max(version) filter (where event_type = $3) as begun, max(version) filter (where event_type = $4) as ended
                     from events where stream = any($1) and company_id = $2 and event_type in ($3, $4) and recorded_at <= $5
                    group by stream) last
                where begun > coalesce(ended, 0)"#,
            &names,
            company_id,
            begins,
            ends,
            until
        );
        Ok(count.fetch_one(&self.history).await?)
    }

    /// Which of the streams have events.
    pub async fn existing<D: Decider>(&self, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let names: Vec<_> = ids.iter().map(|id| StreamName::of::<D>(*id).to_string()).collect();
        let found = sqlx::query_scalar!("select stream from streams where stream = any($1)", &names).fetch_all(&self.pool).await?;
        Ok(found.iter().filter_map(|name| name.parse::<StreamName>().ok()).map(|stream| stream.id()).collect())
    }

    /// Makes sure that the log has room ahead; returns how many partitions were created.
    pub async fn ensure_partitions(&self) -> Result<i32, StoreError> {
        crate::database::ensure_partitions(&self.owner).await.map_err(StoreError::from)
    }

    /// The partitions of the log, in order, including the detached ones.
    pub async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        let partitions = sqlx::query_as!(
            Partition,
            r#"select name as "name!", first as "first!", beyond - 1 as "last!", true as "attached!" from event_partitions
                union all select name, first, beyond - 1, false from detached_partitions order by 2"#
        );
        Ok(partitions.fetch_all(&self.pool).await?)
    }

    /// Detaches the oldest partition from the log; refused while the partition is being filled, is not sealed, or a projection has not read
    /// it. Returns the name of its table.
    pub async fn detach_oldest_partition(&self) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar!(r#"select detach_oldest_partition() as "name!""#).fetch_one(&mut self.unhurried().await?).await?)
    }

    /// Attaches the newest of the detached partitions again. Returns the name of its table.
    pub async fn attach_newest_partition(&self) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar!(r#"select attach_newest_detached_partition() as "name!""#).fetch_one(&mut self.unhurried().await?).await?)
    }

    /// A connection for statements that may take minutes: PostgreSQL reads a whole partition before it attaches it.
    async fn unhurried(&self) -> Result<PgConnection, StoreError> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }
}

/// How soon outdated keys and states are removed from memory; they are not used meanwhile.
const DROP_AFTER: Duration = Duration::from_secs(1);

/// Outdates what this process has cached about the persons of a company, whenever any process erases one of them. Other companies keep what
/// they have cached.
async fn forget_the_erased(head: Head, persons: Persons, states: StateCache) {
    let mut erasures = head.erasures();
    let mut seen = erasures.borrow().count;
    let mut drop_at = None;
    loop {
        let due = async {
            match drop_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = erasures.changed() => {
                if changed.is_err() {
                    return;
                }
                let found = erasures.borrow_and_update().clone();
                match found.companies_since(seen) {
                    Some(companies) => companies.into_iter().for_each(|company_id| persons.outdate(company_id)),
                    None => persons.outdate_all(),
                }
                seen = found.count;
                drop_at.get_or_insert_with(|| tokio::time::Instant::now() + DROP_AFTER);
            }
            () = due => {
                persons.drop_outdated();
                states.drop_outdated(|company_id| persons.epoch(company_id));
                drop_at = None;
            }
        }
    }
}

/// A part of the log: positions from `first` to `last`.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    /// Name of its table.
    pub name: String,
    pub first: i64,
    pub last: i64,
    pub attached: bool,
}
