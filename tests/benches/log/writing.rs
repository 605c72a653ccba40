//! The appended events and their writers.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::call::{Call, CallEvent, Turn};
use eventstore::{CommandContext, EventStore, ExpectedVersion, StoreError, now};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Number of events of one call.
pub const STREAM_EVENTS: i64 = 20;
/// The person in all calls.
pub const PERSON: Uuid = Uuid::from_u128(8);
/// Number of concurrent writers.
pub const WRITERS: usize = 64;

pub fn context() -> CommandContext {
    CommandContext::system(Uuid::from_u128(7), "bench", now())
}

/// A turn whose payload has about 400 bytes.
pub fn turn(index: i64) -> CallEvent {
    CallEvent::TurnRecorded(Box::new(Turn {
        turn_index: u32::try_from(index).unwrap(),
        occurred_at: Some(occurred_at(index)),
        user_text: Some("yes, that would be fine".to_owned().into()),
        agent_text: Some("Good, I have put it down.".to_owned().into()),
        state: Some("offer".to_owned().into()),
        ttfb_stt_us: Some(180_500 + index),
        latency_llm_us: Some(420_000 + index),
        ttfb_tts_us: Some(130_000 + index),
        eou_latency_us: Some(730_500 + index),
        stt_duration_sec: Some(Decimal::new(354, 2)),
        llm_input_tokens: Some(350 + index),
        llm_output_tokens: Some(42),
        tts_characters: Some(64),
        stt_provider: Some("deepgram".to_owned()),
        llm_provider: Some("groq".to_owned()),
        llm_model: Some("llama-3.1-8b-instant".to_owned()),
        tts_provider: Some("cartesia".to_owned()),
        ..Turn::default()
    }))
}

fn occurred_at(index: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_790_000_000_000_000 + index * 3_000_001).unwrap()
}

/// The calls of one writer: appends the next turn of the present call, and begins a new call after the last turn.
pub struct Writer {
    store: EventStore,
    context: Arc<CommandContext>,
    call: Uuid,
    version: i64,
}

impl Writer {
    pub fn new(store: &EventStore) -> Self {
        Self { store: store.clone(), context: Arc::new(context()), call: Uuid::now_v7(), version: 0 }
    }

    pub async fn append(&mut self) -> Result<i64, StoreError> {
        if self.version == STREAM_EVENTS {
            (self.call, self.version) = (Uuid::now_v7(), 0);
        }
        let expected = if self.version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(self.version) };
        let mut unit = self.store.unit(&self.context);
        unit.push::<Call>(self.call, PERSON, expected, &[turn(self.version)]).await?;
        let position = unit.commit().await?;
        self.version += 1;
        Ok(position)
    }
}
