use chrono::{DateTime, Utc};
use domain::call::KnownCall;
use projections::{call_logs::CallLogRow, calls::CallRow};
use serde::Serialize;
use services::Versioned;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::numbers::{ms, seconds};

#[derive(Serialize, ToSchema)]
pub struct CallView {
    pub id: Uuid,
    pub campaign_id: Option<Uuid>,
    pub task_id: Option<Uuid>,
    pub skillbase_id: Option<Uuid>,
    /// The version of the skillbase that the call uses
    pub skillbase_version: Option<i64>,
    /// `outbound` or `inbound`
    pub direction: String,
    pub phone_number: String,
    /// `dialing`, `in_progress` or `ended`
    pub status: String,
    /// Start of the call; until it is known, the time at which the call was dialed
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub duration_sec: Option<f64>,
    pub final_state: Option<String>,
    pub hangup_by: Option<String>,
    pub outcome: Option<String>,
    /// 0 to 1
    pub outcome_confidence: Option<f64>,
    /// `explicit`, `state`, `keywords` or `none`
    pub outcome_method: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

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

/// A turn as it was recorded, in the format in which it was sent.
#[derive(Serialize, ToSchema)]
pub struct TurnView {
    pub turn_index: i64,
    pub occurred_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    pub user_text: Option<String>,
    pub agent_text: Option<String>,
    pub state: Option<String>,
    pub ttfb_stt_ms: Option<f64>,
    pub latency_llm_ms: Option<f64>,
    pub ttfb_tts_ms: Option<f64>,
    pub eou_latency_ms: Option<f64>,
    pub stt_duration_sec: Option<f64>,
    pub llm_input_tokens: Option<i64>,
    pub llm_output_tokens: Option<i64>,
    pub tts_characters: Option<i64>,
    pub interrupted: bool,
    pub stt_provider: Option<String>,
    pub llm_provider: Option<String>,
    pub llm_model: Option<String>,
    pub tts_provider: Option<String>,
}

impl From<CallLogRow> for TurnView {
    fn from(row: CallLogRow) -> Self {
        Self {
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
