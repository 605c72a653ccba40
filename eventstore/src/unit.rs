//! Commands that write several streams at once.

use std::sync::Arc;

use domain::{Decider, DomainEvent, count};
use uuid::Uuid;

use crate::{
    ahead::{Decided, OnItsWay, Remember},
    append::{Appended, ExpectedVersion, Outcome, StreamWrite},
    error::{ExecuteError, StoreError},
    event::{CommandContext, Encoded, NewEvent, Provenance, StreamName, Subject},
    execute::{Committed, Loaded, require},
    store::EventStore,
};

impl EventStore {
    /// Begins a command that writes several streams at once.
    pub fn unit<'a>(&'a self, context: &'a CommandContext) -> Unit<'a> {
        Unit {
            store: self,
            context,
            writes: Vec::new(),
            remembered: Vec::new(),
            required: Vec::new(),
            provenance: Provenance::new(context),
            position: 0,
        }
    }
}

/// Decisions on several streams that are appended together or not at all.
pub struct Unit<'a> {
    store: &'a EventStore,
    context: &'a CommandContext,
    writes: Vec<StreamWrite>,
    remembered: Vec<Box<dyn Remember>>,
    /// Versions that streams must have, whatever is decided on them.
    required: Vec<(StreamName, i64)>,
    provenance: Provenance<'a>,
    /// Highest known position of the streams decided on.
    position: i64,
}

impl<'a> Unit<'a> {
    /// Decides `command` on a stream. A refusal, or a decision that nothing is to do, is checked against the log first.
    pub async fn decide<D: Decider>(&mut self, id: Uuid, command: D::Command) -> Result<Committed<D>, ExecuteError<D::Refusal>> {
        let company_id = self.context.company_id;
        // A version that was asked for must be in the log, and not only on its way.
        let (mut loaded, mut rests_on) = if self.required_version(&StreamName::of::<D>(id)).is_some() {
            (self.store.load::<D>(company_id, id).await?, None)
        } else {
            self.store.load_ahead::<D>(company_id, id).await?
        };
        let mut decision = D::decide(&loaded.state, command.clone());
        if loaded.cached && !matches!(&decision, Ok(events) if !events.is_empty()) {
            loaded = self.store.load_fresh::<D>(company_id, id).await?;
            rests_on = None;
            decision = D::decide(&loaded.state, command);
        }
        self.check_required::<D>(id, loaded.version)?;
        let events = decision.map_err(ExecuteError::Refused)?;
        self.write(id, loaded, rests_on, events).await.map_err(ExecuteError::Store)
    }

    async fn write<D: Decider>(
        &mut self,
        id: Uuid,
        loaded: Loaded<D>,
        rests_on: Option<Outcome>,
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
            self.writes.push(StreamWrite { stream, expected, events: prepared, rests_on: rests_on.clone() });
            self.remembered.push(Box::new(Decided { id, is_new: loaded.version == 0, after, rests_on }));
        }
        Ok(Committed { state, version, position, events, event_id })
    }

    /// Appends events that follow from no state: to a stream that must not be there yet, or to any. Their personal data is
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
        self.writes.push(StreamWrite { stream, expected, events, rests_on: None });
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

    /// Fails unless the stream has the version, if one is given. What is decided on the stream afterwards rests on that version.
    pub async fn require<D: Decider>(&mut self, id: Uuid, if_version: Option<i64>) -> Result<(), StoreError> {
        let Some(expected) = if_version else { return Ok(()) };
        self.required.push((StreamName::of::<D>(id), expected));
        let actual = self.store.load_fresh::<D>(self.context.company_id, id).await?.version;
        self.check_required::<D>(id, actual)
    }

    fn required_version(&self, stream: &StreamName) -> Option<i64> {
        self.required.iter().find(|(name, _)| name == stream).map(|(_, version)| *version)
    }

    fn check_required<D: Decider>(&self, id: Uuid, actual: i64) -> Result<(), StoreError> {
        require(self.required_version(&StreamName::of::<D>(id)), actual)
    }

    /// Makes the whole fail if the stream has gone on since `loaded`.
    pub fn hold<D: Decider>(&mut self, id: Uuid, loaded: &Loaded<D>) {
        let expected = ExpectedVersion::Exact(loaded.version);
        self.writes.push(StreamWrite { stream: StreamName::of::<D>(id), expected, events: Vec::new(), rests_on: None });
    }

    /// Appends everything. The position of the last event, or of the latest one the decisions rest on when there is none.
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
            // Nobody may decide on what is not in the queue yet.
            let mut states = store.ahead.states();
            let (answer, outcome) = store.appender.enqueue(context.company_id, writes)?;
            remembered.iter().for_each(|decided| decided.ahead(&mut states, &outcome));
            (answer, outcome)
        };
        let mut on_its_way = OnItsWay { store, streams, outcome, succeeded: false };
        let appended = answer.get().await?;
        // What was appended the first time may differ from what was decided now.
        if !appended.repeated {
            remembered.into_iter().for_each(|decided| decided.committed(store, appended));
            on_its_way.succeeded = true;
        }
        Ok(Some(appended))
    }
}
