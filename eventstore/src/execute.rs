//! Load, decide, append.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{Decider, count, fact};
use uuid::Uuid;

use crate::{
    append::Appended,
    canonical::NotStorable,
    contention::retry_conflicts,
    error::{CommandError as _, ExecuteError, StoreError},
    event::{CommandContext, StoredEvent, StreamName},
    loaded::Loaded,
    read,
    store::EventStore,
};

/// If folding a stream takes longer, its connection is dead.
const FOLD_DEADLINE: Duration = Duration::from_secs(40);
/// Events of a stream that are read at once, and at least if they are long: one may have a megabyte.
const CHUNK_EVENTS: i64 = 100;
const CHUNK_EVENTS_MIN: i64 = 4;
/// Bytes of payload that a chunk should have at most, judged by the chunk before it.
const CHUNK_BYTES: usize = 1 << 20;
/// Largest difference between the clocks of the key's record and of the log.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(10);

/// The number of events to read after `events`.
fn next_limit(events: &[StoredEvent]) -> i64 {
    let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
    count::to_i64(events.len() * CHUNK_BYTES / bytes.max(1)).clamp(CHUNK_EVENTS_MIN, CHUNK_EVENTS)
}

/// The result of a command.
pub struct Committed<D: Decider> {
    pub state: Arc<D::State>,
    pub version: i64,
    /// Position of the command's last event, or of the stream's last event if the command had none.
    pub position: i64,
    /// The events that the command yielded.
    pub events: Vec<D::Event>,
    /// Id of the first of them.
    pub event_id: Option<Uuid>,
}

impl EventStore {
    /// The state of a company's stream, from the cache if it is there. It may be older than the log.
    pub async fn load<D: Decider>(&self, company_id: Uuid, id: Uuid) -> Result<Loaded<D>, StoreError> {
        let cached = self.cached::<D>(id).filter(|known| known.company_id == company_id);
        match cached {
            Some(known) => Ok(Loaded { cached: true, ..known }),
            None => self.load_fresh(company_id, id).await,
        }
    }

    /// The current state of a company's stream.
    pub async fn load_fresh<D: Decider>(&self, company_id: Uuid, id: Uuid) -> Result<Loaded<D>, StoreError> {
        let known = self.cached::<D>(id).filter(|known| known.company_id == company_id);
        let loaded = self.fold_after(company_id, id, known, None).await?;
        self.remember(id, &loaded);
        Ok(loaded)
    }

    /// The state of a company's stream as it was recorded at `until`; version 0 if the stream did not exist yet.
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
            epoch: self.persons().epoch(company_id),
            cached: false,
        };
        let known = Loaded { cached: false, ..known.unwrap_or_else(none) };
        let folding = tokio::time::timeout(FOLD_DEADLINE, self.fold(id, known, until));
        match self.head().health().or_unavailable(folding).await? {
            Ok(folded) => folded,
            Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
        }
    }

    /// Folds the events of the stream that `known` does not include, a few at a time: a stream may be longer than the memory allows. Of
    /// another company's stream it reads only as much as shows that the company is another one.
    async fn fold<D: Decider>(&self, id: Uuid, known: Loaded<D>, until: Option<DateTime<Utc>>) -> Result<Loaded<D>, StoreError> {
        let stream = StreamName::of::<D>(id);
        // Only readers ask for a past state.
        let pool = if until.is_some() { &self.history } else { &self.pool };
        let mut loaded = known;
        let mut limit = CHUNK_EVENTS;
        loop {
            let mut events = read::stream(pool, &stream, loaded.version, limit).await?;
            let is_last = count::to_i64(events.len()) < limit;
            limit = next_limit(&events);
            // `recorded_at` never decreases: the events after the first one past the moment need not be read.
            let later = until.and_then(|until| events.iter().position(|stored| stored.recorded_at > until));
            events.truncate(later.unwrap_or(events.len()));
            if events.iter().any(|stored| stored.company_id != loaded.company_id) {
                // For a past moment, another company's stream is treated as empty.
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
        self.states.get(id).filter(|known| known.epoch == self.persons().epoch(known.company_id))
    }

    pub(crate) fn remember<D: Decider>(&self, id: Uuid, loaded: &Loaded<D>) {
        if loaded.version > 0 {
            self.states.put(id, loaded);
        }
    }

    pub(crate) fn forget(&self, stream: &StreamName) {
        self.states.forget(stream);
    }

    /// Decides `command` on one stream and appends the resulting events; decides again when another command was first.
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
        // A command that has lost once waits in a queue, so that the commands of one process do not lose to each other repeatedly.
        let _turn = self.contended.turn(&StreamName::of::<D>(id)).await;
        retry_conflicts(|| self.execute_once(context, id, if_version, command.clone())).await
    }

    /// Where the log has the events that a repeated command would append once more: events of the same types under the same key, whatever
    /// has happened on the stream since.
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

    /// Where the log has events of all these types under the key of a repeated command. For commands that are refused once they have had
    /// their effect, such as starting what is already running.
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
        let before = self.head().health().or_unavailable(before.fetch_one(&self.pool)).await.flatten()?;
        let known = before.types.unwrap_or_default();
        Ok(before.position.filter(|_| types.iter().all(|event_type| known.contains(event_type))))
    }

    /// A stream that has versions but no events begins in a partition that was detached: no command can be decided on it.
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
