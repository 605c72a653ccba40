//! Calls, their turns and their end.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, Utc};
use domain::{
    ERASED, Personal,
    call::{Call, CallSubject, Direction, EndRequest, Turn},
    campaign::Campaign,
    decimal::read_exact,
    outcome::Outcome,
    phone::{self, PhoneNumber},
    skillbase::{Skillbase, SkillbaseState},
    task::Task,
    validation::Invalid,
};
use eventstore::{Committed, Loaded, StoreError};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    app::App,
    auth::{Agent, By},
    extract::{Body, Id, OptionalBody, Raw, check_time, require_json},
    json::{self, from_value},
    problem::Problem,
    views::CallView,
    words::{DirectionName, OutcomeName},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(record)).routes(routes!(end))
}

/// Turns in one request at most.
const TURNS_MAX: usize = 500;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartCall {
    /// Of a claim, or an id of your own; absent: a new call
    call_id: Option<Uuid>,
    campaign_id: Option<Uuid>,
    task_id: Option<Uuid>,
    skillbase_id: Option<Uuid>,
    #[schema(value_type = DirectionName, example = "outbound")]
    direction: Direction,
    /// Of a call of a task: the task's number
    #[schema(example = "+12025550100")]
    phone_number: String,
    /// At most five minutes ahead of the server's clock, not after the end, and at most ten days before an end without `duration_sec`; absent: now
    started_at: Option<DateTime<Utc>>,
}

/// Start a call, or fill in what is known of one that a claim dialed (200 then).
#[utoipa::path(post, path = "/calls", tag = "calls", security(("bearer" = ["agent"])), request_body = StartCall,
    responses((status = 201, body = CallView), (status = 200, body = CallView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn start(State(app): State<App>, by: By<Agent>, Body(input): Body<StartCall>) -> Result<Answer<CallView>, Problem> {
    let company_id = by.company_id();
    let mut invalid = Invalid::default();
    check_time(&mut invalid, "started_at", input.started_at);
    let region = campaign_region(&app, company_id, input.campaign_id, &mut invalid).await?;
    let phone_number = read_phone_number(&input.phone_number, region.as_deref(), &mut invalid);
    let task_campaign = require_task(&app, company_id, input.task_id, &phone_number, &mut invalid).await?;
    require_skillbase(&app, company_id, input.skillbase_id, &mut invalid).await?;
    if let (Some(task_campaign), Some(campaign_id)) = (task_campaign, input.campaign_id) {
        invalid.require(task_campaign == campaign_id, "task_id", "the task belongs to another campaign");
    }
    invalid.into_result()?;
    let id = input.call_id.unwrap_or_else(|| by.ids.make("call"));
    let known = known_call(&app, company_id, id).await?;
    let subject = CallSubject {
        campaign_id: input.campaign_id.or(task_campaign),
        task_id: input.task_id,
        skillbase_id: input.skillbase_id,
        skillbase_version: None,
        direction: input.direction,
        person_id: Some(app.store.persons().of_number(company_id, &phone_number).await?),
        phone_number: Personal::new(phone_number),
    };
    let committed = app.desk.start_call(&by.context(), id, subject, input.started_at).await?;
    let answer = answer(&app, company_id, id, committed).await?;
    Ok(Answer { status: if known { StatusCode::OK } else { StatusCode::CREATED }, ..answer })
}

/// The number as E.164, or an empty text with the reason in `invalid`. A call has no place for an extension.
fn read_phone_number(text: &str, region: Option<&str>, invalid: &mut Invalid) -> String {
    match phone::parse(text, region) {
        Ok(PhoneNumber { e164, extension: None }) => return e164,
        Ok(_) => invalid.add("phone_number", "an extension cannot be kept: send the number without it"),
        Err(error) => invalid.add("phone_number", error.to_string()),
    }
    String::new()
}

/// Whether the call is there already. Another company's is a conflict without details.
async fn known_call(app: &App, company_id: Uuid, id: Uuid) -> Result<bool, Problem> {
    match app.store.load_fresh::<Call>(company_id, id).await {
        Ok(loaded) => Ok(loaded.version > 0),
        Err(StoreError::OtherCompany(_)) => Err(Problem::conflict("this call_id cannot be used")),
        Err(error) => Err(error.into()),
    }
}

async fn campaign_region(app: &App, company_id: Uuid, id: Option<Uuid>, invalid: &mut Invalid) -> Result<Option<String>, Problem> {
    let Some(id) = id else { return Ok(None) };
    match app.store.load_fresh::<Campaign>(company_id, id).await {
        Ok(loaded) if loaded.version > 0 => Ok(loaded.state.live().and_then(|live| live.settings.default_region.clone())),
        Ok(_) | Err(StoreError::OtherCompany(_)) => {
            invalid.add("campaign_id", "there is no such campaign");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The task's campaign. A number that could not be read is empty; it is refused already.
async fn require_task(
    app: &App,
    company_id: Uuid,
    id: Option<Uuid>,
    phone_number: &str,
    invalid: &mut Invalid,
) -> Result<Option<Uuid>, Problem> {
    let Some(id) = id else { return Ok(None) };
    let loaded = match app.store.load_fresh::<Task>(company_id, id).await {
        Err(StoreError::OtherCompany(_)) => None,
        loaded => Some(loaded?),
    };
    let Some(contact) = loaded.as_ref().and_then(|loaded| loaded.state.created()).map(|task| &task.contact) else {
        invalid.add("task_id", "there is no such task");
        return Ok(None);
    };
    let task_number = contact.phone_number.reveal();
    let is_other = !phone_number.is_empty() && task_number != ERASED && task_number != phone_number;
    invalid.require(!is_other, "phone_number", "this is not the number of the call's task");
    Ok(Some(contact.campaign_id))
}

async fn require_skillbase(app: &App, company_id: Uuid, id: Option<Uuid>, invalid: &mut Invalid) -> Result<(), Problem> {
    let Some(id) = id else { return Ok(()) };
    match app.store.load_fresh::<Skillbase>(company_id, id).await {
        Ok(loaded) if matches!(*loaded.state, SkillbaseState::Live { .. }) => Ok(()),
        Ok(_) | Err(StoreError::OtherCompany(_)) => {
            invalid.add("skillbase_id", "there is no such skillbase");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn answer(app: &App, company_id: Uuid, id: Uuid, committed: Committed<Call>) -> Result<Answer<CallView>, Problem> {
    let loaded: Loaded<Call> = app.store.load(company_id, id).await?;
    let call = committed.state.known().ok_or_else(|| Problem::not_found("call"))?;
    Ok(Answer::ok(committed.position, CallView::from_state(id, call, (loaded.created_at, loaded.updated_at))).version(committed.version))
}

/// A turn as agents send it. What is not known stays absent; milliseconds may have a fraction.
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

/// What `POST /calls/{id}/turns` takes.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body; `parse_turns` reads it")]
enum Turns {
    One(Box<TurnInput>),
    Many(Vec<TurnInput>),
}

/// Reads an optional number exactly; beyond what a decimal holds is an error at `path`.
fn exact(path: &str, number: Option<&Number>, invalid: &mut Invalid) -> Option<Decimal> {
    let read = number.map(|number| read_exact(&number.to_string())).transpose();
    read.unwrap_or_else(|error| {
        invalid.add(path, error.to_string());
        None
    })
}

impl TurnInput {
    /// The turn with exact values; `prefix` leads to it in the request.
    pub fn into_turn(self, prefix: &str, invalid: &mut Invalid) -> Turn {
        let mut decimal = |field: &str, number: &Option<Number>| exact(&format!("{prefix}{field}"), number.as_ref(), invalid);
        let mut micros = |field: &str, number: &Option<Number>| {
            // Beyond an `i64` is out of range; `Turn::validate` says so.
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
        check_time(invalid, &format!("{prefix}occurred_at"), turn.occurred_at);
        turn.validate(prefix, invalid);
        turn
    }
}

/// One turn, or an array of up to 500.
fn parse_turns(bytes: &[u8]) -> Result<Vec<Turn>, Problem> {
    let mut invalid = Invalid::default();
    let turns = match json::read(bytes)? {
        Value::Array(items) => {
            if items.is_empty() || items.len() > TURNS_MAX {
                return Err(Problem::invalid("turns", format!("must have 1 to {TURNS_MAX} turns")));
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
    /// Turns that were there already, with the same content
    duplicates: usize,
}

/// Record turns, in any order, all or none of them. The same turn again is a duplicate; other content for its index is 409.
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
    let recorded = app.desk.record_turns(&by.context(), id, parse_turns(&bytes)?).await?;
    let body = RecordedTurns { recorded: recorded.recorded, duplicates: recorded.duplicates };
    let answer = Answer::ok(recorded.position, body);
    Ok(if recorded.recorded > 0 { Answer { status: StatusCode::CREATED, ..answer } } else { answer })
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EndCall {
    /// At most ten days ahead of the server's clock; absent: `started_at` + `duration_sec` where that is given, else now
    ended_at: Option<DateTime<Utc>>,
    /// Absent: from `started_at` to `ended_at`, whichever of the two arrives first, at most ten days unless both are the server's
    #[schema(value_type = Option<f64>)]
    duration_sec: Option<Number>,
    final_state: Option<String>,
    #[schema(value_type = Option<OutcomeName>, example = "success")]
    outcome: Option<Outcome>,
    hangup_by: Option<String>,
}

/// End a call. The outcome is the given one, else told from the final state, else from what the caller said. The same end again
/// has no effect; fields that it leaves out contradict nothing.
#[utoipa::path(post, path = "/calls/{id}/end", tag = "calls", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)), request_body = Option<EndCall>,
    responses((status = 200, body = CallView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn end(
    State(app): State<App>,
    by: By<Agent>,
    Id(id): Id,
    OptionalBody(input): OptionalBody<EndCall>,
) -> Result<Answer<CallView>, Problem> {
    let mut invalid = Invalid::default();
    check_time(&mut invalid, "ended_at", input.ended_at);
    let duration_sec = exact("duration_sec", input.duration_sec.as_ref(), &mut invalid);
    let request = EndRequest {
        ended_at: input.ended_at,
        duration_sec,
        final_state: input.final_state,
        hangup_by: input.hangup_by,
        outcome: input.outcome,
    };
    request.validate(&mut invalid);
    invalid.into_result()?;
    let committed = app.desk.end_call(&by.context(), id, request).await?;
    answer(&app, by.company_id(), id, committed).await
}
