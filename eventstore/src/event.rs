//! Events as they are appended and as they are read.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use domain::{Decider, DomainEvent, ERASED, Fact, fact};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    canonical::{self, NotStorable},
    clock::DatabaseClock,
    error::StoreError,
    persons::{self, Cipher, Envelope, HoldsPersonal, PersonalFields, PersonalValues},
};

/// `<category>-<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    category: String,
    id: Uuid,
}

impl StreamName {
    pub fn of<D: Decider>(id: Uuid) -> Self {
        Self { category: D::CATEGORY.to_owned(), id }
    }

    pub fn category(&self) -> &str {
        &self.category
    }

    pub const fn id(&self) -> Uuid {
        self.id
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.category, self.id)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no stream name: <category>-<uuid> is")]
pub struct NoStreamName(String);

impl FromStr for StreamName {
    type Err = NoStreamName;

    fn from_str(text: &str) -> Result<Self, NoStreamName> {
        let parts = text.split_once('-').and_then(|(category, id)| Some((category.to_owned(), Uuid::try_parse(id).ok()?)));
        match parts {
            Some((category, id)) if !category.is_empty() => Ok(Self { category, id }),
            _ => Err(NoStreamName(text.to_owned())),
        }
    }
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub kind: ActorKind,
    pub id: Option<Uuid>,
    /// Name for display: of a key, a provider or a part of the system; an e-mail address is no name.
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    User,
    ApiKey,
    Dialer,
    System,
}

impl Actor {
    pub fn system(name: &str) -> Self {
        Self { kind: ActorKind::System, id: None, name: Some(name.to_owned()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub actor: Actor,
    /// Connects everything that one request or one call caused.
    pub correlation_id: Uuid,
    /// The event that caused this one.
    pub causation_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// On whose behalf and when a command runs.
#[derive(Clone, Debug)]
pub struct CommandContext {
    pub company_id: Uuid,
    pub metadata: Metadata,
    /// Set for a command that may be repeated, because its answer was lost.
    pub identity: Option<CommandIdentity>,
    pub now: DateTime<Utc>,
}

/// What a repeated command has in common with its first run. The ids of its events are derived from it, so that the log recognises them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandIdentity {
    pub id: Uuid,
    /// When the command was run for the first time.
    pub begun_at: DateTime<Utc>,
    /// The command was run before, and the result of that run is not known.
    pub comes_again: bool,
}

impl CommandIdentity {
    /// A `UUIDv7` with the time at which the command began: ids that ascend with time keep the index of ids compact.
    #[expect(clippy::expect_used, reason = "the clock of a running server is past 1970")]
    fn event_id(&self, stream: &str, version: i64) -> Uuid {
        let name = Uuid::new_v5(&self.id, format!("{stream} {version}").as_bytes());
        let [random @ .., _, _, _, _, _, _] = name.as_bytes();
        let millis = u64::try_from(self.begun_at.timestamp_millis()).expect("a command began after 1970");
        uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid()
    }
}

impl CommandContext {
    pub fn system(company_id: Uuid, name: &str, now: DateTime<Utc>) -> Self {
        let metadata = Metadata { actor: Actor::system(name), correlation_id: Uuid::now_v7(), causation_id: None, idempotency_key: None };
        Self { company_id, metadata, identity: None, now }
    }
}

impl Metadata {
    /// The form in which the log stores it: canonical JSON.
    fn stored(&self) -> Result<Arc<str>, NotStorable> {
        let metadata = serde_json::to_value(self).map_err(|e| NotStorable::Json(e.to_string()))?;
        Ok(canonical::to_text(&metadata)?.into())
    }
}

/// The metadata of one command's events, as it is stored. Events of another type than the command's first event have the first event as
/// their cause; the first event itself, and others of its type, have the cause of the command.
pub(crate) struct Provenance<'a> {
    context: &'a CommandContext,
    /// When events happened that name no time: not after they are recorded, even if this process's clock is ahead of the database's.
    made_at: DateTime<Utc>,
    own: Option<Arc<str>>,
    /// The command's first event: id and type.
    first: Option<(Uuid, String)>,
    of_followers: Option<Arc<str>>,
}

impl<'a> Provenance<'a> {
    pub fn new(context: &'a CommandContext, database_clock: &DatabaseClock) -> Self {
        let made_at = database_clock.now().map_or(context.now, |now| now.min(context.now));
        Self { context, made_at, own: None, first: None, of_followers: None }
    }

    /// The metadata for the next event, which has this id and type.
    fn of(&mut self, event_id: Uuid, event_type: &str) -> Result<Arc<str>, NotStorable> {
        let (first_id, first_type) = self.first.get_or_insert_with(|| (event_id, event_type.to_owned()));
        let (kept, causation_id) = if first_type == event_type {
            (&mut self.own, self.context.metadata.causation_id)
        } else {
            (&mut self.of_followers, Some(*first_id))
        };
        match kept {
            Some(stored) => Ok(Arc::clone(stored)),
            None => Ok(Arc::clone(kept.insert(Metadata { causation_id, ..self.context.metadata.clone() }.stored()?))),
        }
    }
}

/// An event that is to be appended, with the digest of its content.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub event_id: Uuid,
    pub event_type: String,
    pub schema_version: i16,
    /// Canonical JSON.
    pub payload: String,
    /// Canonical JSON, the same for all events of a command.
    pub metadata: Arc<str>,
    pub occurred_at: DateTime<Utc>,
    pub digest: [u8; 32],
}

/// The content of an event, as JSON.
pub(crate) struct Encoded {
    event_type: String,
    payload: Value,
    schema_version: i16,
    occurred_at: Option<DateTime<Utc>>,
    fields: PersonalFields,
}

impl Encoded {
    pub fn of<E: DomainEvent>(event: &E) -> Result<Self, NotStorable> {
        let (event_type, payload) = fact::encode(event).map_err(|e| NotStorable::Json(e.to_string()))?;
        Ok(Self {
            schema_version: E::schema_version(&event_type),
            fields: PersonalFields { personal: E::personal_fields(&event_type), bound: E::bound_fields(&event_type) },
            occurred_at: event.occurred_at(),
            event_type,
            payload,
        })
    }

    pub fn holds_personal(&self) -> bool {
        !self.fields.personal.is_empty()
    }
}

/// The person that the personal data of events is about. Without a key the person has been erased.
#[derive(Clone)]
pub(crate) struct Subject {
    pub person_id: Uuid,
    pub key: Option<Arc<Cipher>>,
}

impl NewEvent {
    /// Prepares an event for `stream`, for the given version if it is known; refuses content that could not be read back.
    pub(crate) fn prepare(
        stream: &str,
        version: Option<i64>,
        event: Encoded,
        subject: &Subject,
        provenance: &mut Provenance<'_>,
    ) -> Result<Self, NotStorable> {
        let context = provenance.context;
        let Encoded { event_type, mut payload, schema_version, occurred_at, fields } = event;
        if !fields.personal.is_empty() {
            persons::conceal(&mut payload, fields, subject.person_id, subject.key.as_deref(), context.company_id, stream);
        }
        let payload = canonical::to_text(&payload)?;
        let event_id = match (&context.identity, version) {
            (Some(identity), Some(version)) => identity.event_id(stream, version),
            _ => Uuid::now_v7(),
        };
        let metadata = provenance.of(event_id, &event_type)?;
        // The command's own time is one that the platform made.
        let occurred_at = whole_micros(occurred_at.filter(|at| *at != context.now).unwrap_or(provenance.made_at));
        let content = canonical::Content {
            company_id: context.company_id,
            event_id,
            event_type: &event_type,
            metadata: &metadata,
            occurred_at,
            payload: &payload,
            schema_version,
            stream,
        };
        let digest = content.digest();
        Ok(Self { event_id, event_type, schema_version, payload, metadata, occurred_at, digest })
    }
}

/// The current time in microseconds, the precision of PostgreSQL.
pub fn now() -> DateTime<Utc> {
    whole_micros(Utc::now())
}

/// PostgreSQL stores microseconds; finer digits are cut off before the time is hashed.
fn whole_micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// An event as the log stores it. Payload and metadata are JSON texts; most readers need only one of them decoded.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    pub position: i64,
    pub stream: StreamName,
    pub version: i64,
    pub event_id: Uuid,
    pub event_type: String,
    pub schema_version: i16,
    pub company_id: Uuid,
    pub payload: String,
    pub metadata: String,
    pub occurred_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
}

impl StoredEvent {
    /// The payload as it was stored, in the shape of its schema version.
    pub fn payload(&self) -> Result<Value, StoreError> {
        serde_json::from_str(&self.payload).map_err(|e| self.unreadable(&format!("payload: {e}")))
    }

    pub fn metadata(&self) -> Result<Metadata, StoreError> {
        serde_json::from_str(&self.metadata).map_err(|e| self.unreadable(&format!("metadata: {e}")))
    }

    /// The fact that the event states.
    pub fn decode<E: DomainEvent>(&self) -> Result<E, StoreError> {
        let decoded = fact::decode(self.stream.category(), &self.event_type, self.schema_version, &self.payload);
        decoded.map_err(|e| self.unreadable(&e.to_string()))
    }

    /// The person that the event's personal data is about and the envelope that holds the data, if the event has any.
    pub fn envelope(&self) -> Option<Envelope> {
        Envelope::of(&self.payload, Fact::bound_fields(self.stream.category(), &self.event_type))
    }

    /// Replaces the placeholders of personal texts that are encrypted: the reader has no key, and their person is not erased.
    pub fn mark_encrypted(&mut self) {
        if self.envelope().is_some()
            && let Ok(mut payload) = self.payload()
        {
            for field in Fact::personal_fields(self.stream.category(), &self.event_type) {
                if let Some(text) = payload.pointer_mut(field).filter(|value| value.as_str() == Some(ERASED)) {
                    *text = Value::from("encrypted");
                }
            }
            self.payload = payload.to_string();
        }
    }

    /// The payload for display: without the envelope.
    pub fn payload_to_show(&self) -> Result<Value, StoreError> {
        let mut payload = self.payload()?;
        persons::without_envelope(&mut payload);
        Ok(payload)
    }

    fn unreadable(&self, reason: &str) -> StoreError {
        StoreError::Unreadable { position: self.position, reason: reason.to_owned() }
    }
}

impl HoldsPersonal for StoredEvent {
    fn stream(&self) -> String {
        self.stream.to_string()
    }

    fn envelopes(&self) -> Vec<Envelope> {
        self.envelope().into_iter().collect()
    }

    fn reveal(&mut self, values: PersonalValues) {
        if let Ok(mut payload) = self.payload() {
            persons::fill_in(&mut payload, values);
            self.payload = payload.to_string();
        }
    }
}
