//! Load, decide, append.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{Decider, count, fact};
use uuid::Uuid;

use crate::{
    append::Appended,
    canonical::NotStorable,
    contention::retry_conflicts,
    error::{ExecuteError, StoreError},
    event::{CommandContext, StoredEvent, StreamName},
    read,
    store::EventStore,
};

/// Folding a stream that takes longer hangs on a dead connection.
const FOLD_DEADLINE: Duration = Duration::from_secs(40);
/// Events of a stream that are read at once: one may have a megabyte.
const CHUNK_EVENTS: i64 = 100;
/// How far the clocks of the key's record and of the log may be apart.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(10);

/// A stream's folded state.
pub struct Loaded<D: Decider> {
    pub state: Arc<D::State>,
    /// Events folded; 0 when there are none.
    pub version: i64,
    /// Of the last event folded, or of the last event of the command that appended it together with other streams'.
    pub position: i64,
    /// Of the first and the last event folded.
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub(crate) company_id: Uuid,
    /// How many erasures were known of when it was folded: it may hold what has been erased since.
    pub(crate) epoch: u64,
    /// Taken from memory without a look at the log: good enough to decide on, because the append checks the version.
    pub(crate) cached: bool,
}

impl<D: Decider> Loaded<D> {
    /// Fails unless the stream has the version, if one is given.
    pub fn require(&self, if_version: Option<i64>) -> Result<(), StoreError> {
        require(if_version, self.version)
    }

    /// Folds the stream's next event.
    fn apply(&mut self, stream: &StreamName, stored: &StoredEvent) -> Result<(), StoreError> {
        if stored.version != self.version + 1 {
            let reason = format!("it is version {} of {stream}, and version {} is not in the log", stored.version, self.version + 1);
            return Err(StoreError::Unreadable { position: stored.position, reason });
        }
        let event = stored.decode::<D::Event>()?;
        D::evolve(Arc::make_mut(&mut self.state), &event);
        if self.version == 0 {
            self.created_at = stored.recorded_at;
        }
        (self.version, self.position, self.updated_at) = (stored.version, stored.position, stored.recorded_at);
        Ok(())
    }
}

/// A stream that is not there has no version to compare: its decider says that it is unknown.
pub(crate) fn require(expected: Option<i64>, actual: i64) -> Result<(), StoreError> {
    match expected {
        Some(expected) if actual > 0 && actual != expected => Err(StoreError::PreconditionFailed { expected, actual }),
        _ => Ok(()),
    }
}

impl<D: Decider> Clone for Loaded<D> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..*self }
    }
}

/// What a command came to.
pub struct Committed<D: Decider> {
    pub state: Arc<D::State>,
    pub version: i64,
    /// Of the command's last event, or of the stream's when it had none.
    pub position: i64,
    /// What the command yielded.
    pub events: Vec<D::Event>,
    /// Of the first of them.
    pub event_id: Option<Uuid>,
}

impl EventStore {
    /// The state of a company's stream, from the cache when it is there. It may be behind the log.
    pub async fn load<D: Decider>(&self, company_id: Uuid, id: Uuid) -> Result<Loaded<D>, StoreError> {
        let cached = self.cached::<D>(id).filter(|known| known.company_id == company_id);
        match cached {
            Some(known) => Ok(Loaded { cached: true, ..known }),
            None => self.load_fresh(company_id, id).await,
        }
    }

    /// The state of a company's stream as of now.
    pub async fn load_fresh<D: Decider>(&self, company_id: Uuid, id: Uuid) -> Result<Loaded<D>, StoreError> {
        let known = self.cached::<D>(id).filter(|known| known.company_id == company_id);
        let loaded = self.fold_after(company_id, id, known, None).await?;
        self.remember(id, &loaded);
        Ok(loaded)
    }

    /// The state of a company's stream as it was recorded at `until`; version 0 when it was not there yet.
    pub async fn load_as_of<D: Decider>(&self, company_id: Uuid, id: Uuid, until: DateTime<Utc>) -> Result<Loaded<D>, StoreError> {
        self.fold_after(company_id, id, None, Some(until)).await
    }

    async fn fold_after<D: Decider>(
        &self,
        company_id: Uuid,
        id: Uuid,
        known: Option<Loaded<D>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<Loaded<D>, StoreError> {
        let none = || Loaded {
            state: Arc::default(),
            version: 0,
            position: 0,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
            company_id,
            epoch: self.persons().epoch(),
            cached: false,
        };
        let known = Loaded { cached: false, ..known.unwrap_or_else(none) };
        let folding = tokio::time::timeout(FOLD_DEADLINE, self.fold(id, known, until));
        match self.head().silence().unless(folding).await? {
            Ok(folded) => folded,
            Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
        }
    }

    /// Folds what the stream has beyond what is known of it, a few events at a time: a stream may be longer than what fits into memory, and
    /// of another company's no more is read than shows that.
    async fn fold<D: Decider>(&self, id: Uuid, known: Loaded<D>, until: Option<DateTime<Utc>>) -> Result<Loaded<D>, StoreError> {
        let stream = StreamName::of::<D>(id);
        // What was is asked for by readers only.
        let pool = if until.is_some() { &self.history } else { &self.pool };
        let mut loaded = known;
        loop {
            let mut events = read::stream(pool, &stream, loaded.version, CHUNK_EVENTS).await?;
            let is_last = count::to_i64(events.len()) < CHUNK_EVENTS;
            // `recorded_at` never goes back: what follows the first event after the moment need not be read.
            let later = until.and_then(|until| events.iter().position(|stored| stored.recorded_at > until));
            events.truncate(later.unwrap_or(events.len()));
            if events.iter().any(|stored| stored.company_id != loaded.company_id) {
                // What another company had at a moment is nothing.
                return if until.is_some() { Ok(loaded) } else { Err(StoreError::OtherCompany(stream.to_string())) };
            }
            self.persons().reveal(loaded.company_id, &mut events).await?;
            for stored in events {
                loaded.apply(&stream, &stored)?;
            }
            if is_last || later.is_some() {
                return Ok(loaded);
            }
        }
    }

    fn cached<D: Decider>(&self, id: Uuid) -> Option<Loaded<D>> {
        // A state from before an erasure may hold what was erased.
        self.states.get(id).filter(|known| known.epoch == self.persons().epoch())
    }

    pub(crate) fn remember<D: Decider>(&self, id: Uuid, loaded: &Loaded<D>) {
        if loaded.version > 0 {
            self.states.put(id, loaded);
        }
    }

    pub(crate) fn forget(&self, stream: &StreamName) {
        self.states.forget(stream);
    }

    /// Decides `command` on one stream and appends what follows; decides anew when somebody else was first.
    pub async fn execute<D: Decider>(
        &self,
        context: &CommandContext,
        id: Uuid,
        command: D::Command,
    ) -> Result<Committed<D>, ExecuteError<D::Refusal>> {
        self.execute_if(context, id, None, command).await
    }

    /// The same, provided that the stream has the given version, if one is given.
    pub async fn execute_if<D: Decider>(
        &self,
        context: &CommandContext,
        id: Uuid,
        if_version: Option<i64>,
        command: D::Command,
    ) -> Result<Committed<D>, ExecuteError<D::Refusal>> {
        if let Some(position) = self.happened_before::<D>(context, id, &command).await? {
            let Loaded { state, version, .. } = self.load_fresh::<D>(context.company_id, id).await?;
            return Ok(Committed { state, version, position, events: Vec::new(), event_id: None });
        }
        match self.execute_once(context, id, if_version, command.clone()).await {
            Err(error) if error.is_conflict() => self.demand_history::<D>(context.company_id, id, &error).await?,
            result => return result,
        }
        // Whoever has lost once queues up, so that the commands of one process do not lose to each other again and again.
        let _turn = self.contended.turn(&StreamName::of::<D>(id)).await;
        retry_conflicts(ExecuteError::is_conflict, || self.execute_once(context, id, if_version, command.clone())).await
    }

    /// Where the log has what a command that comes again would append once more: events of the same types under the same key,
    /// whatever has happened on the stream since.
    async fn happened_before<D: Decider>(
        &self,
        context: &CommandContext,
        id: Uuid,
        command: &D::Command,
    ) -> Result<Option<i64>, StoreError> {
        if !context.identity.is_some_and(|identity| identity.comes_again) {
            return Ok(None);
        }
        let loaded = self.load_fresh::<D>(context.company_id, id).await?;
        let Ok(events) = D::decide(&loaded.state, command.clone()) else { return Ok(None) };
        let types = events.iter().map(|event| fact::encode(event).map(|(event_type, _)| event_type));
        let types = types.collect::<Result<Vec<_>, _>>().map_err(|e| NotStorable::Json(e.to_string()))?;
        self.recorded_before::<D>(context, id, &types).await
    }

    /// Where the log has events of all these types under the key of a command that comes again. For commands that are refused once they
    /// have had their effect, as starting what runs.
    pub async fn recorded_before<D: Decider>(
        &self,
        context: &CommandContext,
        id: Uuid,
        types: &[String],
    ) -> Result<Option<i64>, StoreError> {
        let Some(identity) = context.identity.filter(|identity| identity.comes_again) else { return Ok(None) };
        let before = sqlx::query!(
            r#"select max(position) as position, array_agg(distinct event_type) as types from events
                where stream = $1 and company_id = $2 and recorded_at >= $3 and metadata ->> 'idempotency_key' = $4 and event_type = any($5)"#,
            StreamName::of::<D>(id).to_string(),
            context.company_id,
            identity.begun_at - CLOCKS_DIFFER,
            context.metadata.idempotency_key,
            types
        );
        let before = self.head().silence().unless(before.fetch_one(&self.pool)).await.flatten()?;
        let known = before.types.unwrap_or_default();
        Ok(before.position.filter(|_| types.iter().all(|event_type| known.contains(event_type))))
    }

    /// A stream that has versions but no events begins in a partition that was detached: nothing can be decided on it.
    async fn demand_history<D: Decider>(&self, company_id: Uuid, id: Uuid, error: &ExecuteError<D::Refusal>) -> Result<(), StoreError> {
        match error {
            ExecuteError::Store(StoreError::Conflict(conflict))
                if conflict.expected == 0 && self.load_fresh::<D>(company_id, id).await?.version == 0 =>
            {
                let reason = format!("the events of {} are not in the log; was their partition detached?", StreamName::of::<D>(id));
                Err(StoreError::Unreadable { position: 0, reason })
            }
            _ => Ok(()),
        }
    }

    async fn execute_once<D: Decider>(
        &self,
        context: &CommandContext,
        id: Uuid,
        if_version: Option<i64>,
        command: D::Command,
    ) -> Result<Committed<D>, ExecuteError<D::Refusal>> {
        let mut unit = self.unit(context);
        unit.require::<D>(id, if_version).await?;
        let decided = unit.decide::<D>(id, command).await?;
        match unit.append().await.map_err(ExecuteError::Store)? {
            None => Ok(decided),
            Some(Appended { position, repeated: false, .. }) => Ok(Committed { position, ..decided }),
            Some(Appended { position, repeated: true, .. }) => {
                let Loaded { state, version, .. } = self.load_fresh::<D>(context.company_id, id).await?;
                Ok(Committed { state, version, position, events: decided.events, event_id: decided.event_id })
            }
        }
    }
}
