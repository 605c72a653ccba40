//! Many calls, as campaigns make them: concurrent, with turns interleaved in the log, spread over a month and five campaigns.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    call::{Call, CallEnd, CallEvent, CallSubject, Direction, Turn},
    price::{Component, Rate, Unit},
    price_list::{PriceList, PriceListEvent},
};
use eventstore::{CommandContext, EventStore, ExpectedVersion, now};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Number of turns of one call; start and end are two further events.
pub const TURNS: i64 = 10;
pub const CALL_EVENTS: i64 = TURNS + 2;
/// Number of concurrent calls.
const CALLS_AT_ONCE: usize = 500;
/// Number of events of a call that are written together with those of other calls.
const STEP: usize = 2;

/// The company of the calls.
#[derive(Clone)]
pub struct Company {
    pub id: Uuid,
    pub campaigns: Vec<Uuid>,
    /// The persons in its calls, used in turn.
    pub persons: Vec<Uuid>,
}

impl Default for Company {
    fn default() -> Self {
        Self { id: Uuid::now_v7(), campaigns: (0..5).map(|_| Uuid::now_v7()).collect(), persons: persons() }
    }
}

impl Company {
    pub fn context(&self) -> CommandContext {
        CommandContext::system(self.id, "bench", now())
    }

    /// Publishes a price list for the company.
    pub async fn price(&self, store: &EventStore) {
        let rate = |component, price, per, unit| Rate { component, provider: None, model: None, price, per, unit };
        let rates = vec![
            rate(Component::Stt, Decimal::new(43, 4), 1, Unit::Second),
            rate(Component::LlmInput, Decimal::new(5, 2), 1_000_000, Unit::Token),
            rate(Component::LlmOutput, Decimal::new(8, 2), 1_000_000, Unit::Token),
            rate(Component::Tts, Decimal::new(15, 3), 1_000, Unit::Character),
            rate(Component::Livekit, Decimal::new(4, 3), 1, Unit::Minute),
        ];
        let published = PriceListEvent::PriceListPublished { name: "List".to_owned(), effective_from: DateTime::UNIX_EPOCH, rates };
        let context = self.context();
        let mut unit = store.unit(&context);
        let id = Uuid::now_v7();
        unit.push::<PriceList>(id, id, ExpectedVersion::NoStream, &[published]).await.unwrap();
        unit.commit().await.unwrap();
    }
}

/// As many persons as a call list has.
pub fn persons() -> Vec<Uuid> {
    (0..500).map(|_| Uuid::new_v4()).collect()
}

/// A call and its remaining events.
struct Ahead {
    id: Uuid,
    person_id: Uuid,
    version: i64,
    events: std::vec::IntoIter<CallEvent>,
}

/// Appends `calls` calls.
pub async fn fill(store: &EventStore, company: &Company, calls: i64) {
    let mut rng = StdRng::seed_from_u64(u64::try_from(calls).unwrap());
    let context = company.context();
    let mut begun = 0;
    let mut open: Vec<Ahead> = Vec::new();
    loop {
        while open.len() < CALLS_AT_ONCE && begun < calls {
            let person_id = company.persons[usize::try_from(begun).unwrap() % company.persons.len()];
            open.push(Ahead { id: Uuid::now_v7(), person_id, version: 0, events: call(company, begun, &mut rng).into_iter() });
            begun += 1;
        }
        let mut unit = store.unit(&context);
        for call in &mut open {
            let events: Vec<_> = call.events.by_ref().take(STEP).collect();
            let expected = if call.version == 0 { ExpectedVersion::NoStream } else { ExpectedVersion::Exact(call.version) };
            unit.push::<Call>(call.id, call.person_id, expected, &events).await.unwrap();
            call.version += i64::try_from(events.len()).unwrap();
        }
        open.retain(|call| call.events.len() > 0);
        unit.commit().await.unwrap();
        if open.is_empty() && begun == calls {
            return;
        }
    }
}

/// The events of the `n`th call.
fn call(company: &Company, n: i64, rng: &mut StdRng) -> Vec<CallEvent> {
    // A call starts every thirteen seconds.
    let started_at = DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::seconds(n * 13 % 2_592_000);
    let subject = CallSubject {
        campaign_id: Some(company.campaigns[usize::try_from(n).unwrap() % company.campaigns.len()]),
        task_id: None,
        skillbase_id: None,
        skillbase_version: None,
        direction: Direction::Outbound,
        person_id: Some(company.persons[usize::try_from(n).unwrap() % company.persons.len()]),
        phone_number: "+12025550100".to_owned().into(),
    };
    let mut events = vec![CallEvent::CallStarted { subject: Box::new(subject), started_at, started_at_given: true }];
    events.extend((0..TURNS).map(|index| CallEvent::TurnRecorded(Box::new(turn(index, started_at, rng)))));
    events.push(CallEvent::CallEnded(CallEnd {
        ended_at: started_at + TimeDelta::seconds(TURNS * 6),
        ended_at_given: true,
        duration_sec: Decimal::new(TURNS * 6_000 + rng.random_range(0..3_000), 3),
        duration_given: true,
        final_state: Some("bye".to_owned()),
        hangup_by: Some("agent".to_owned()),
        outcome: None,
    }));
    events
}

/// A turn whose payload has about 400 bytes.
pub fn turn(index: i64, started_at: DateTime<Utc>, rng: &mut StdRng) -> Turn {
    // Latencies have a long-tailed distribution.
    let mut skewed = |typical: f64| Some((typical * (-rng.random::<f64>().max(1e-9).ln()).powf(0.7) * 1_000.0) as i64 + 20_000);
    Turn {
        turn_index: u32::try_from(index).unwrap(),
        occurred_at: Some(started_at + TimeDelta::seconds(index * 6)),
        user_text: Some("yes, that would be fine".to_owned().into()),
        agent_text: Some("Good, I have put it down.".to_owned().into()),
        state: Some("offer".to_owned().into()),
        ttfb_stt_us: skewed(180.0),
        latency_llm_us: skewed(420.0),
        ttfb_tts_us: skewed(130.0),
        eou_latency_us: skewed(730.0),
        stt_duration_sec: Some(Decimal::new(rng.random_range(40..900), 2)),
        llm_input_tokens: Some(rng.random_range(200..1_500)),
        llm_output_tokens: Some(rng.random_range(5..120)),
        tts_characters: Some(rng.random_range(10..300)),
        interrupted: rng.random_bool(0.1),
        stt_provider: Some("deepgram".to_owned()),
        llm_provider: Some("groq".to_owned()),
        llm_model: Some("llama-3.1-8b-instant".to_owned()),
        tts_provider: Some("cartesia".to_owned()),
    }
}
