//! Commands that write several streams at once.

use std::sync::Arc;

use domain::{Decider, DomainEvent, count};
use uuid::Uuid;

use crate::{
    ahead::{Decided, InFlight, Remember},
    append::{Appended, ExpectedVersion, Outcome, StreamWrite},
    contention::retry_conflicts,
    error::{CommandError, ExecuteError, StoreError},
    event::{CommandContext, Encoded, NewEvent, Provenance, StreamName, Subject},
    execute::Committed,
    loaded::{Loaded, require},
    store::EventStore,
};

impl EventStore {
    /// Runs `decide` on a unit and appends its decisions: all of them or none. If another command was first, `decide` runs again from the
    /// start. Returns the result of `decide` and the position of the last event; without events, the latest position that the decisions
    /// depend on.
    pub async fn transact<'a, T, E, F>(&'a self, context: &'a CommandContext, decide: impl Fn(Unit<'a>) -> F) -> Result<(T, i64), E>
    where
        E: CommandError,
        F: Future<Output = Result<(Unit<'a>, T), E>>,
    {
        let attempt = || async {
            let (unit, decided) = decide(self.unit(context)).await?;
            let position = unit.commit().await.map_err(|error| match error {
                // Another company created the stream meanwhile: the decision meets it when it loads the stream.
                StoreError::OtherCompany(_) => StoreError::Overtaken,
                error => error,
            })?;
            Ok((decided, position))
        };
        retry_conflicts(attempt).await
    }

    /// Begins a command that writes several streams at once.
    pub fn unit<'a>(&'a self, context: &'a CommandContext) -> Unit<'a> {
        Unit {
            store: self,
            context,
            writes: Vec::new(),
            remembered: Vec::new(),
            required: Vec::new(),
            loaded: Vec::new(),
            provenance: Provenance::new(context, self.head().clock()),
            position: 0,
        }
    }
}

fn version_of(versions: &[(StreamName, i64)], stream: &StreamName) -> Option<i64> {
    versions.iter().find(|(name, _)| name == stream).map(|(_, version)| *version)
}

/// Decisions on several streams that are appended together or not at all.
pub struct Unit<'a> {
    store: &'a EventStore,
    context: &'a CommandContext,
    writes: Vec<StreamWrite>,
    remembered: Vec<Box<dyn Remember>>,
    /// Versions that the caller demands of streams.
    required: Vec<(StreamName, i64)>,
    /// Versions at which streams were loaded for the decisions.
    loaded: Vec<(StreamName, i64)>,
    provenance: Provenance<'a>,
    /// Highest known position of the streams that were decided on.
    position: i64,
}

impl<'a> Unit<'a> {
    /// Decides `command` on a stream. A refusal, or a decision without events, is checked against the log first.
    pub async fn decide<D: Decider>(&mut self, id: Uuid, command: D::Command) -> Result<Committed<D>, ExecuteError<D::Refusal>> {
        let company_id = self.context.company_id;
        // A version that was read or demanded must be in the log; a pending append is not enough.
        let (mut loaded, mut depends_on) = if self.names_version(&StreamName::of::<D>(id)) {
            (self.store.load::<D>(company_id, id).await?, None)
        } else {
            self.store.load_ahead::<D>(company_id, id).await?
        };
        let mut decision = D::decide(&loaded.state, command.clone());
        if loaded.cached && !matches!(&decision, Ok(events) if !events.is_empty()) {
            loaded = self.store.load_fresh::<D>(company_id, id).await?;
            depends_on = None;
            decision = D::decide(&loaded.state, command);
        }
        self.check_versions::<D>(id, loaded.version)?;
        let events = decision.map_err(ExecuteError::Refused)?;
        self.write(id, loaded, depends_on, events).await.map_err(ExecuteError::Store)
    }

    async fn write<D: Decider>(
        &mut self,
        id: Uuid,
        loaded: Loaded<D>,
        depends_on: Option<Outcome>,
        events: Vec<D::Event>,
    ) -> Result<Committed<D>, StoreError> {
        let stream = StreamName::of::<D>(id);
        self.position = self.position.max(loaded.position);
        let mut after = loaded.clone();
        events.iter().for_each(|event| D::evolve(Arc::make_mut(&mut after.state), event));
        let prepared = self.prepare(&stream, Some(loaded.version), &events, D::person(id, &after.state)).await?;
        after.version += count::to_i64(events.len());
        let (state, version) = (Arc::clone(&after.state), after.version);
        let (position, event_id) = (loaded.position, prepared.first().map(|event| event.event_id));
        if !events.is_empty() {
            let expected = ExpectedVersion::Exact(loaded.version);
            self.writes.push(StreamWrite { stream, expected, events: prepared, depends_on: depends_on.clone() });
            self.remembered.push(Box::new(Decided { id, is_new: loaded.version == 0, after, depends_on }));
        }
        Ok(Committed { state, version, position, events, event_id })
    }

    /// Appends events that follow from no state: to a stream that must not exist yet, or to any stream. Their personal data is
    /// `person_id`'s.
    pub async fn push<D: Decider>(
        &mut self,
        id: Uuid,
        person_id: Uuid,
        expected: ExpectedVersion,
        events: &[D::Event],
    ) -> Result<(), StoreError> {
        let stream = StreamName::of::<D>(id);
        let events = self.prepare(&stream, expected.version(), events, person_id).await?;
        self.writes.push(StreamWrite { stream, expected, events, depends_on: None });
        Ok(())
    }

    async fn prepare<E: DomainEvent>(
        &mut self,
        stream: &StreamName,
        before: Option<i64>,
        events: &[E],
        person_id: Uuid,
    ) -> Result<Vec<NewEvent>, StoreError> {
        let name = stream.to_string();
        let encoded = events.iter().map(Encoded::of).collect::<Result<Vec<_>, _>>()?;
        let key = match encoded.iter().any(Encoded::holds_personal) {
            true => self.store.persons().key(self.context.company_id, person_id).await?,
            false => None,
        };
        let subject = Subject { person_id, key };
        let prepared = (1..).zip(encoded).map(|(n, event)| {
            let version = before.map(|before| before + n);
            NewEvent::prepare(&name, version, event, &subject, &mut self.provenance)
        });
        Ok(prepared.collect::<Result<_, _>>()?)
    }

    /// Fails if a version is given and the stream does not have it. Later decisions on the stream depend on that version.
    pub async fn require<D: Decider>(&mut self, id: Uuid, if_version: Option<i64>) -> Result<(), StoreError> {
        let Some(expected) = if_version else { return Ok(()) };
        self.required.push((StreamName::of::<D>(id), expected));
        let actual = self.store.load_fresh::<D>(self.context.company_id, id).await?.version;
        self.check_versions::<D>(id, actual)
    }

    /// The current state of a stream. Later decisions on the stream depend on its version: if another command has changed the stream
    /// meanwhile, the unit fails and can be decided again. A stream on which nothing is decided is not checked: [`hold`](Self::hold) it.
    pub async fn load<D: Decider>(&mut self, id: Uuid) -> Result<Loaded<D>, StoreError> {
        let loaded = self.store.load_fresh::<D>(self.context.company_id, id).await?;
        self.loaded.push((StreamName::of::<D>(id), loaded.version));
        Ok(loaded)
    }

    fn names_version(&self, stream: &StreamName) -> bool {
        version_of(&self.required, stream).or(version_of(&self.loaded, stream)).is_some()
    }

    fn check_versions<D: Decider>(&self, id: Uuid, actual: i64) -> Result<(), StoreError> {
        let stream = StreamName::of::<D>(id);
        require(version_of(&self.required, &stream), actual)?;
        match version_of(&self.loaded, &stream) {
            Some(version) if version != actual => Err(StoreError::Overtaken),
            _ => Ok(()),
        }
    }

    /// Makes the whole unit fail if the stream has changed since `loaded`.
    pub fn hold<D: Decider>(&mut self, id: Uuid, loaded: &Loaded<D>) {
        let expected = ExpectedVersion::Exact(loaded.version);
        self.writes.push(StreamWrite { stream: StreamName::of::<D>(id), expected, events: Vec::new(), depends_on: None });
    }

    /// Appends everything. Returns the position of the last event; without events, the latest position that the decisions depend on.
    pub async fn commit(self) -> Result<i64, StoreError> {
        let position = self.position;
        Ok(self.append().await?.map_or(position, |appended| appended.position))
    }

    /// Appends everything, if there is anything.
    pub(crate) async fn append(self) -> Result<Option<Appended>, StoreError> {
        if self.writes.iter().all(|write| write.events.is_empty()) {
            return Ok(None);
        }
        let Self { store, context, writes, remembered, .. } = self;
        let streams = writes.iter().map(|write| write.stream.clone()).collect();
        let (answer, outcome) = {
            // No command may be decided on these states before this append is in the queue.
            let mut states = store.ahead.states();
            let (answer, outcome) = store.appender.enqueue(context.company_id, writes)?;
            remembered.iter().for_each(|decided| decided.ahead(&mut states, &outcome));
            (answer, outcome)
        };
        let mut in_flight = InFlight { store, streams, outcome, succeeded: false };
        let appended = answer.get().await?;
        // The events of the first run may differ from the events that were decided now.
        if !appended.repeated {
            remembered.into_iter().for_each(|decided| decided.committed(store, appended));
            in_flight.succeeded = true;
        }
        Ok(Some(appended))
    }
}
