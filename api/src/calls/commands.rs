//! Starting and ending calls, and recording their turns.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, Utc};
use domain::{
    Personal,
    call::{Direction, EndRequest, Turn},
    decimal::read_exact,
    outcome::Outcome,
    validation::{FieldFault, Invalid},
};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use services::NewCall;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{Agent, By},
    calls::CallView,
    extract::{Body, Id, OptionalBody, Raw, require_json},
    json::{self, from_value},
    problem::Problem,
    state::App,
    words::{DirectionName, OutcomeName},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(record)).routes(routes!(end))
}

/// Maximum number of turns in one request.
const TURNS_MAX: usize = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartCall {
    /// The id from a claim, or an id that the client has generated; absent: the server generates one
    call_id: Option<Uuid>,
    campaign_id: Option<Uuid>,
    task_id: Option<Uuid>,
    skillbase_id: Option<Uuid>,
    #[schema(value_type = DirectionName, example = "outbound")]
    direction: Direction,
    /// For a call of a task: the task's phone number
    #[schema(example = "+12025550100")]
    phone_number: String,
    /// At most five minutes ahead of the server's clock, not after the end of the call, and at most ten days before an end that has no
    /// `duration_sec`; absent: now
    started_at: Option<DateTime<Utc>>,
}

/// Start a call, or complete the data of a call that a claim dialed (then the answer is 200).
#[utoipa::path(post, path = "/calls", tag = "calls", security(("bearer" = ["agent"])), request_body = StartCall,
    responses((status = 201, body = CallView), (status = 200, body = CallView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn start(State(app): State<App>, by: By<Agent>, Body(input): Body<StartCall>) -> Result<Answer<CallView>, Problem> {
    let call = NewCall {
        call_id: input.call_id,
        campaign_id: input.campaign_id,
        task_id: input.task_id,
        skillbase_id: input.skillbase_id,
        direction: input.direction,
        phone_number: input.phone_number,
        started_at: input.started_at,
    };
    let (call, is_new) = app.services.start_call(&by.op(), call).await?;
    let answer = Answer::of(call, CallView::new);
    Ok(Answer { status: if is_new { StatusCode::CREATED } else { StatusCode::OK }, ..answer })
}

/// A turn as agents send it. Unknown values are absent; milliseconds may have a fraction.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnInput {
    turn_index: u32,
    occurred_at: Option<DateTime<Utc>>,
    user_text: Option<String>,
    agent_text: Option<String>,
    state: Option<String>,
    #[schema(value_type = Option<f64>)]
    ttfb_stt_ms: Option<Number>,
    #[schema(value_type = Option<f64>)]
    latency_llm_ms: Option<Number>,
    #[schema(value_type = Option<f64>)]
    ttfb_tts_ms: Option<Number>,
    #[schema(value_type = Option<f64>)]
    eou_latency_ms: Option<Number>,
    #[schema(value_type = Option<f64>)]
    stt_duration_sec: Option<Number>,
    llm_input_tokens: Option<i64>,
    llm_output_tokens: Option<i64>,
    tts_characters: Option<i64>,
    interrupted: Option<bool>,
    stt_provider: Option<String>,
    llm_provider: Option<String>,
    llm_model: Option<String>,
    tts_provider: Option<String>,
}

/// The body of `POST /calls/{id}/turns`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body; `parse_turns` reads it")]
enum Turns {
    One(Box<TurnInput>),
    Many(Vec<TurnInput>),
}

/// Reads an optional number exactly; a number outside the range of a decimal is an error at `path`.
fn exact(path: &str, number: Option<&Number>, invalid: &mut Invalid) -> Option<Decimal> {
    let read = number.map(|number| read_exact(&number.to_string())).transpose();
    read.unwrap_or_else(|error| {
        invalid.add(path, error);
        None
    })
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

/// One turn, or an array of up to 500.
fn parse_turns(bytes: &[u8]) -> Result<Vec<Turn>, Problem> {
    let mut invalid = Invalid::default();
    let turns = match json::read(bytes)? {
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
    recorded: usize,
    /// Turns that were already recorded with the same content
    duplicates: usize,
}

/// Record turns, in any order, all or none of them.
///
/// A repeated turn with the same content is a duplicate; different content for the same index is answered with 409. The turns of a call may
/// name up to 64 different providers and models together.
#[utoipa::path(post, path = "/calls/{id}/turns", tag = "calls", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)),
    request_body(content = Turns, description = "One turn, or an array of up to 500", content_type = "application/json"),
    responses((status = 201, body = RecordedTurns), (status = 200, body = RecordedTurns), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
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

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EndCall {
    /// At most ten days ahead of the server's clock; absent: `started_at` + `duration_sec` if that is given, else now
    ended_at: Option<DateTime<Utc>>,
    /// Absent: the time from `started_at` to `ended_at`, in whichever order the two are recorded; at most ten days unless the server set
    /// both
    #[schema(value_type = Option<f64>)]
    duration_sec: Option<Number>,
    final_state: Option<String>,
    #[schema(value_type = Option<OutcomeName>, example = "success")]
    outcome: Option<Outcome>,
    hangup_by: Option<String>,
}

/// End a call.
///
/// The outcome is the given one, else it is derived from the final state, else from what the person on the phone said. A repeated end with
/// the same content has no effect; fields that it leaves out do not cause a conflict.
#[utoipa::path(post, path = "/calls/{id}/end", tag = "calls", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)), request_body = Option<EndCall>,
    responses((status = 200, body = CallView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn end(
    State(app): State<App>,
    by: By<Agent>,
    Id(id): Id,
    OptionalBody(input): OptionalBody<EndCall>,
) -> Result<Answer<CallView>, Problem> {
    let mut invalid = Invalid::default();
    let duration_sec = exact("duration_sec", input.duration_sec.as_ref(), &mut invalid);
    let request = EndRequest {
        ended_at: input.ended_at,
        duration_sec,
        final_state: input.final_state,
        hangup_by: input.hangup_by,
        outcome: input.outcome,
    };
    // An unreadable duration is reported together with the other wrong fields.
    request.validate(&mut invalid);
    invalid.into_result()?;
    Ok(Answer::of(app.services.end_call(&by.op(), id, request).await?, CallView::new))
}
