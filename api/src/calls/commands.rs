//! Starting and ending calls.

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use domain::{
    call::{Direction, EndRequest, KnownCall},
    outcome::Outcome,
    validation::Invalid,
};
use projections::calls::CallRow;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use services::{NewCall, Versioned};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{Agent, By},
    extract::{Body, Id, OptionalBody},
    numbers::{exact, seconds},
    problem::Problem,
    state::App,
    tables::row,
    times::moment,
    words::{CallStatusName, DirectionName, OutcomeMethodName, OutcomeName},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(end))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"direction": "inbound", "phone_number": "+12025550100"}))]
#[serde(deny_unknown_fields)]
struct StartCall {
    /// The id from a claim, or an id that the client has generated; absent: the server generates one
    call_id: Option<Uuid>,
    /// The campaign that the call belongs to
    campaign_id: Option<Uuid>,
    /// The task that the call is an attempt of
    task_id: Option<Uuid>,
    /// The bot that speaks; absent: the campaign's
    skillbase_id: Option<Uuid>,
    /// Whether the platform's side called or was called
    #[schema(value_type = DirectionName, example = "outbound")]
    direction: Direction,
    /// For a call of a task: the task's phone number
    #[schema(example = "+12025550100")]
    phone_number: String,
    /// At most five minutes ahead of the server's clock. If the end is known: not after it, and without a `duration_sec` at most ten days
    /// before it. Absent: now, or as the end requires
    #[serde(default, deserialize_with = "moment")]
    started_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
pub struct CallView {
    /// Id of the call
    pub id: Uuid,
    /// The campaign that the call belongs to; null without a campaign
    pub campaign_id: Option<Uuid>,
    /// The task that the call is an attempt of; null without a task
    pub task_id: Option<Uuid>,
    /// The bot that speaks; null if it is not known
    pub skillbase_id: Option<Uuid>,
    /// The version of the skillbase that the call uses
    pub skillbase_version: Option<i64>,
    /// Whether the platform's side called or was called
    #[schema(value_type = DirectionName)]
    pub direction: String,
    /// E.164; `erased` if the person was erased
    pub phone_number: String,
    /// How far the call is
    #[schema(value_type = CallStatusName)]
    pub status: String,
    /// Start of the call; until it is known, the time at which the call was dialed
    pub started_at: DateTime<Utc>,
    /// When the call ended; null until then
    pub ended_at: Option<DateTime<Utc>>,
    /// Duration in seconds; null until the call has ended
    pub duration_sec: Option<f64>,
    /// The last state of the dialog, as the agent reported it
    pub final_state: Option<String>,
    /// Who hung up, as the agent reported it
    pub hangup_by: Option<String>,
    /// How the call ended; null while it is not known
    #[schema(value_type = Option<OutcomeName>)]
    pub outcome: Option<String>,
    /// 0 to 1
    pub outcome_confidence: Option<f64>,
    /// What decided the outcome; null until the call has ended
    #[schema(value_type = Option<OutcomeMethodName>)]
    pub outcome_method: Option<String>,
    /// When the platform first recorded the call
    pub created_at: DateTime<Utc>,
    /// When the last event of the call was recorded
    pub updated_at: DateTime<Utc>,
}

row!(CallView {
    id,
    campaign_id,
    task_id,
    skillbase_id,
    skillbase_version,
    direction,
    phone_number,
    status,
    started_at,
    ended_at,
    duration_sec,
    final_state,
    hangup_by,
    outcome,
    outcome_confidence,
    outcome_method,
    created_at,
    updated_at,
});

impl CallView {
    pub fn new(given: Versioned<KnownCall>) -> Self {
        let Versioned { id, value: call, created_at, updated_at, .. } = given;
        let subject = &call.subject;
        Self {
            id,
            campaign_id: subject.campaign_id,
            task_id: subject.task_id,
            skillbase_id: subject.skillbase_id,
            skillbase_version: subject.skillbase_version.map(i64::from),
            direction: subject.direction.to_string(),
            phone_number: subject.phone_number.reveal().clone(),
            status: call.status().to_string(),
            started_at: call.started_at.unwrap_or(created_at),
            ended_at: call.end.as_ref().map(|end| end.ended_at),
            duration_sec: call.end.as_ref().map(|end| seconds(end.duration_sec)),
            final_state: call.end.as_ref().and_then(|end| end.final_state.clone()),
            hangup_by: call.end.as_ref().and_then(|end| end.hangup_by.clone()),
            outcome: call.classification.and_then(|c| c.outcome).map(|o| o.to_string()),
            outcome_confidence: call.classification.map(|c| f64::from(c.confidence_percent) / 100.0),
            outcome_method: call.classification.map(|c| c.method.to_string()),
            created_at,
            updated_at,
        }
    }
}

impl From<CallRow> for CallView {
    fn from(row: CallRow) -> Self {
        Self {
            id: row.call_id,
            campaign_id: row.campaign_id,
            task_id: row.task_id,
            skillbase_id: row.skillbase_id,
            skillbase_version: row.skillbase_version.map(i64::from),
            direction: row.direction,
            phone_number: row.phone_number,
            status: row.status,
            started_at: row.started_at,
            ended_at: row.ended_at,
            duration_sec: row.duration_sec.map(seconds),
            final_state: row.final_state,
            hangup_by: row.hangup_by,
            outcome: row.outcome,
            outcome_confidence: row.outcome_confidence_percent.map(|p| f64::from(p) / 100.0),
            outcome_method: row.outcome_method,
            created_at: row.created_at,
            updated_at: row.last_event_at,
        }
    }
}

/// Start a call, or complete the data of a call that a claim dialed (then the answer is 200).
#[utoipa::path(post, path = "/calls", operation_id = "start_call", tag = "calls", security(("bearer" = ["agent"])), request_body = StartCall,
    responses((status = 201, description = "A new call", body = CallView), (status = 200, description = "The call was known: it was dialed by a claim, or started before with the same id", body = CallView), (status = 409, body = Problem), (status = 422, body = Problem)))]
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

#[derive(Default, Deserialize, ToSchema)]
#[schema(example = json!({"final_state": "goodbye", "outcome": "success", "hangup_by": "caller"}))]
#[serde(deny_unknown_fields)]
struct EndCall {
    /// At most ten days ahead of the server's clock; absent: `started_at` + `duration_sec` if that is given, else now. If no start was given, an
    /// end before the recorded start moves it back
    #[serde(default, deserialize_with = "moment")]
    ended_at: Option<DateTime<Utc>>,
    /// Absent: the time from `started_at` to `ended_at`; start and end can be reported in any order. At most ten days, unless the server's
    /// clock set both times
    #[schema(value_type = Option<f64>)]
    duration_sec: Option<Number>,
    /// The last state of the dialog; some names decide the outcome
    final_state: Option<String>,
    /// How the call ended; absent: derived from the final state, else from what the caller said
    #[schema(value_type = Option<OutcomeName>, example = "success")]
    outcome: Option<Outcome>,
    /// Who hung up, for example `caller` or `agent`
    hangup_by: Option<String>,
}

/// End a call.
///
/// The outcome is the given one, else it is derived from the final state, else from what the person on the phone said. A repeated end with
/// the same content has no effect; fields that it leaves out do not cause a conflict.
#[utoipa::path(post, path = "/calls/{id}/end", operation_id = "end_call", tag = "calls", security(("bearer" = ["agent"])), params(("id" = Uuid, Path)), request_body = Option<EndCall>,
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
