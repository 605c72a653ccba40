//! The turns of a call.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, Utc};
use domain::{
    Personal,
    call::Turn,
    validation::{FieldFault, Invalid},
};
use projections::call_logs::CallLogRow;
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{Agent, By},
    extract::{Id, Raw, require_json},
    json::{self, from_value},
    numbers::{exact, ms, seconds},
    problem::Problem,
    state::App,
    tables::row,
    times::moment,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(record))
}

/// Maximum number of turns in one request.
const TURNS_MAX: usize = 500;

/// A turn as agents send it. Unknown values are absent; milliseconds may have a fraction.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"turn_index": 0, "user_text": "Hello?", "agent_text": "Good morning, this is the practice.", "state": "greeting",
    "ttfb_stt_ms": 120.5, "latency_llm_ms": 480, "ttfb_tts_ms": 90, "eou_latency_ms": 900, "stt_duration_sec": 1.4, "llm_input_tokens": 620,
    "llm_output_tokens": 18, "tts_characters": 35, "stt_provider": "deepgram", "llm_provider": "groq", "llm_model": "llama-3.1-8b-instant",
    "tts_provider": "cartesia"}))]
#[serde(deny_unknown_fields)]
pub struct TurnInput {
    /// Place of the turn in the call, from 0
    turn_index: u32,
    /// When the turn took place; absent: now
    #[serde(default, deserialize_with = "moment")]
    occurred_at: Option<DateTime<Utc>>,
    /// What the caller said
    user_text: Option<String>,
    /// What the agent said
    agent_text: Option<String>,
    /// The state of the dialog
    state: Option<String>,
    /// Time to the first byte from speech recognition
    #[schema(value_type = Option<f64>)]
    ttfb_stt_ms: Option<Number>,
    /// Time until the language model answered
    #[schema(value_type = Option<f64>)]
    latency_llm_ms: Option<Number>,
    /// Time to the first byte from speech synthesis
    #[schema(value_type = Option<f64>)]
    ttfb_tts_ms: Option<Number>,
    /// From the end of the caller's utterance to the first sound of the answer
    #[schema(value_type = Option<f64>)]
    eou_latency_ms: Option<Number>,
    /// Recognized speech in seconds
    #[schema(value_type = Option<f64>)]
    stt_duration_sec: Option<Number>,
    /// Tokens that the language model read
    llm_input_tokens: Option<i64>,
    /// Tokens that the language model wrote
    llm_output_tokens: Option<i64>,
    /// Characters that were spoken
    tts_characters: Option<i64>,
    /// Whether the caller interrupted the agent; absent: false
    interrupted: Option<bool>,
    /// The provider of speech recognition, as price lists name it
    stt_provider: Option<String>,
    /// The provider of the language model, as price lists name it
    llm_provider: Option<String>,
    /// The model, as price lists name it
    llm_model: Option<String>,
    /// The provider of speech synthesis, as price lists name it
    tts_provider: Option<String>,
}

/// A turn as it was recorded, in the format in which it was sent.
#[derive(Serialize, ToSchema)]
pub struct TurnView {
    /// Id of the call
    pub call_id: Uuid,
    /// Place of the turn in the call, from 0
    pub turn_index: i64,
    /// When the turn took place
    pub occurred_at: DateTime<Utc>,
    /// When the platform recorded it
    pub recorded_at: DateTime<Utc>,
    /// What the caller said; `erased` if the person was erased
    pub user_text: Option<String>,
    /// What the agent said; `erased` if the person was erased
    pub agent_text: Option<String>,
    /// The state of the dialog
    pub state: Option<String>,
    /// Time to the first byte from speech recognition
    pub ttfb_stt_ms: Option<f64>,
    /// Time until the language model answered
    pub latency_llm_ms: Option<f64>,
    /// Time to the first byte from speech synthesis
    pub ttfb_tts_ms: Option<f64>,
    /// From the end of the caller's utterance to the first sound of the answer
    pub eou_latency_ms: Option<f64>,
    /// Recognized speech in seconds
    pub stt_duration_sec: Option<f64>,
    /// Tokens that the language model read
    pub llm_input_tokens: Option<i64>,
    /// Tokens that the language model wrote
    pub llm_output_tokens: Option<i64>,
    /// Characters that were spoken
    pub tts_characters: Option<i64>,
    /// Whether the caller interrupted the agent
    pub interrupted: bool,
    /// The provider of speech recognition, as the agent named it
    pub stt_provider: Option<String>,
    /// The provider of the language model, as the agent named it
    pub llm_provider: Option<String>,
    /// The model, as the agent named it
    pub llm_model: Option<String>,
    /// The provider of speech synthesis, as the agent named it
    pub tts_provider: Option<String>,
}

row!(TurnView {
    call_id,
    turn_index,
    occurred_at,
    recorded_at,
    user_text,
    agent_text,
    state,
    ttfb_stt_ms,
    latency_llm_ms,
    ttfb_tts_ms,
    eou_latency_ms,
    stt_duration_sec,
    llm_input_tokens,
    llm_output_tokens,
    tts_characters,
    interrupted,
    stt_provider,
    llm_provider,
    llm_model,
    tts_provider,
});

impl TurnView {
    /// A turn as its event has it.
    pub fn of_event(call_id: Uuid, turn: Turn, occurred_at: DateTime<Utc>, recorded_at: DateTime<Utc>) -> Self {
        let text = |text: Option<Personal<String>>| text.map(|text| text.reveal().clone());
        Self {
            call_id,
            turn_index: i64::from(turn.turn_index),
            occurred_at,
            recorded_at,
            user_text: text(turn.user_text),
            agent_text: text(turn.agent_text),
            state: text(turn.state),
            ttfb_stt_ms: turn.ttfb_stt_us.map(ms),
            latency_llm_ms: turn.latency_llm_us.map(ms),
            ttfb_tts_ms: turn.ttfb_tts_us.map(ms),
            eou_latency_ms: turn.eou_latency_us.map(ms),
            stt_duration_sec: turn.stt_duration_sec.map(seconds),
            llm_input_tokens: turn.llm_input_tokens,
            llm_output_tokens: turn.llm_output_tokens,
            tts_characters: turn.tts_characters,
            interrupted: turn.interrupted,
            stt_provider: turn.stt_provider,
            llm_provider: turn.llm_provider,
            llm_model: turn.llm_model,
            tts_provider: turn.tts_provider,
        }
    }
}

impl From<CallLogRow> for TurnView {
    fn from(row: CallLogRow) -> Self {
        Self {
            call_id: row.call_id,
            turn_index: i64::from(row.turn_index),
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            user_text: row.user_text,
            agent_text: row.agent_text,
            state: row.state,
            ttfb_stt_ms: row.ttfb_stt_us.map(ms),
            latency_llm_ms: row.latency_llm_us.map(ms),
            ttfb_tts_ms: row.ttfb_tts_us.map(ms),
            eou_latency_ms: row.eou_latency_us.map(ms),
            stt_duration_sec: row.stt_duration_sec.map(seconds),
            llm_input_tokens: row.llm_input_tokens,
            llm_output_tokens: row.llm_output_tokens,
            tts_characters: row.tts_characters,
            interrupted: row.interrupted,
            stt_provider: row.stt_provider,
            llm_provider: row.llm_provider,
            llm_model: row.llm_model,
            tts_provider: row.tts_provider,
        }
    }
}

/// The body of `POST /calls/{id}/turns`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body; `parse_turns` reads it")]
enum Turns {
    One(Box<TurnInput>),
    Many(Vec<TurnInput>),
}

impl TurnInput {
    /// Converts to a turn with exact values; `prefix` is the turn's path in the request.
    pub fn into_turn(self, prefix: &str, invalid: &mut Invalid) -> Turn {
        let mut decimal = |field: &str, number: &Option<Number>| exact(&format!("{prefix}{field}"), number.as_ref(), invalid);
        let mut micros = |field: &str, number: &Option<Number>| {
            // A value outside `i64` is out of range; `Turn::validate` reports it.
            Some(decimal(field, number)?.checked_mul(Decimal::from(1_000)).and_then(|us| us.round().to_i64()).unwrap_or(i64::MAX))
        };
        let turn = Turn {
            turn_index: self.turn_index,
            occurred_at: self.occurred_at,
            user_text: self.user_text.map(Personal::new),
            agent_text: self.agent_text.map(Personal::new),
            state: self.state.map(Personal::new),
            ttfb_stt_us: micros("ttfb_stt_ms", &self.ttfb_stt_ms),
            latency_llm_us: micros("latency_llm_ms", &self.latency_llm_ms),
            ttfb_tts_us: micros("ttfb_tts_ms", &self.ttfb_tts_ms),
            eou_latency_us: micros("eou_latency_ms", &self.eou_latency_ms),
            stt_duration_sec: decimal("stt_duration_sec", &self.stt_duration_sec),
            llm_input_tokens: self.llm_input_tokens,
            llm_output_tokens: self.llm_output_tokens,
            tts_characters: self.tts_characters,
            interrupted: self.interrupted.unwrap_or_default(),
            stt_provider: self.stt_provider,
            llm_provider: self.llm_provider,
            llm_model: self.llm_model,
            tts_provider: self.tts_provider,
        };
        invalid.time(&format!("{prefix}occurred_at"), turn.occurred_at);
        turn.validate(prefix, invalid);
        turn
    }
}

fn count_fault(turns: usize) -> FieldFault {
    if turns == 0 { FieldFault::TooFewEntries { min: 1 } } else { FieldFault::TooManyEntries { max: TURNS_MAX } }
}

/// The problem of a list, whose paths begin with an index.
fn within_turns(mut problem: Problem) -> Problem {
    for error in problem.errors.iter_mut().filter(|error| error.path.starts_with('[')) {
        error.path.insert_str(0, "turns");
        problem.detail = format!("{}: {}", error.path, error.message);
    }
    problem
}

/// One turn, or an array of up to 500.
fn parse_turns(bytes: &[u8]) -> Result<Vec<Turn>, Problem> {
    let mut invalid = Invalid::default();
    let turns = match json::read(bytes).map_err(within_turns)? {
        Value::Array(items) => {
            if items.is_empty() || items.len() > TURNS_MAX {
                return Err(Problem::invalid("turns", count_fault(items.len())));
            }
            let parse = |(i, item)| -> Result<Turn, Problem> {
                let prefix = format!("turns[{i}]");
                let input = from_value::<TurnInput>(item).map_err(|mut problem| {
                    for error in &mut problem.errors {
                        error.path = if error.path.is_empty() { prefix.clone() } else { format!("{prefix}.{}", error.path) };
                    }
                    problem.detail = format!("{prefix}: {}", problem.detail);
                    problem
                })?;
                Ok(input.into_turn(&format!("{prefix}."), &mut invalid))
            };
            items.into_iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?
        }
        single => vec![from_value::<TurnInput>(single)?.into_turn("", &mut invalid)],
    };
    invalid.into_result()?;
    Ok(turns)
}

#[derive(Serialize, ToSchema)]
struct RecordedTurns {
    /// Turns that were new
    recorded: usize,
    /// Turns that were already recorded with the same content
    duplicates: usize,
}

/// Record turns, in any order, all or none of them.
///
/// A repeated turn with the same content is a duplicate; different content for the same index is answered with 409. The turns of a call may
/// name up to 64 different providers and models together.
#[utoipa::path(post, path = "/calls/{id}/turns", operation_id = "record_turns", tag = "calls", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)),
    request_body(content = Turns, description = "One turn, or an array of up to 500", content_type = "application/json"),
    responses((status = 201, description = "At least one turn is new", body = RecordedTurns), (status = 200, description = "All turns were recorded before", body = RecordedTurns), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn record(
    State(app): State<App>,
    by: By<Agent>,
    Id(id): Id,
    headers: HeaderMap,
    Raw(bytes): Raw,
) -> Result<Answer<RecordedTurns>, Problem> {
    require_json(&headers)?;
    let recorded = app.services.record_turns(&by.op(), id, parse_turns(&bytes)?).await?;
    let body = RecordedTurns { recorded: recorded.recorded, duplicates: recorded.duplicates };
    let answer = Answer::ok(recorded.position, body);
    Ok(if recorded.recorded > 0 { Answer { status: StatusCode::CREATED, ..answer } } else { answer })
}
