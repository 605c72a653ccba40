//! The payloads of events, as the OpenAPI document describes them. A test compares them with `domain/golden/`.
//!
//! A field that is not optional is in every event of the type. Fields that are absent in older events are optional. For an erased person,
//! personal texts are `erased`, and `contact_data` is empty.
#![expect(dead_code, reason = "describes what events hold")]

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    price_lists::RateView,
    words::{BackoffName, DirectionName, FailureCauseName, OutcomeMethodName, OutcomeName, RoleName},
};

/// Without fields
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

#[derive(ToSchema)]
#[schema(as = CompanyProfile)]
pub struct Profile {
    /// Name of the company
    name: String,
    /// Name in addresses, unique in the installation
    slug: String,
    /// Address of the company
    email: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = UserIdentity)]
pub struct Identity {
    /// Address of the user. Personal
    email: String,
    /// Role in the company
    role: RoleName,
}

#[derive(ToSchema)]
#[schema(as = UserRole)]
pub struct RoleOnly {
    /// The new role
    role: RoleName,
}

#[derive(ToSchema)]
#[schema(as = IssuedApiKey)]
pub struct IssuedKey {
    /// Name of the key
    name: String,
    /// Role of the key
    role: RoleName,
}

#[derive(ToSchema)]
#[schema(as = NameHolder)]
pub struct Holder {
    /// Id of the company, the user or the skillbase that holds the name
    holder_id: Uuid,
}

#[derive(ToSchema)]
#[schema(as = SkillbaseContent)]
pub struct Content {
    /// Name of the skillbase
    name: String,
    /// Name in addresses, unique in the company
    slug: String,
    /// The configuration, with the fields of `SkillbaseConfig`; decimals are texts
    config: HashMap<String, Value>,
    /// For the users of the company
    description: Option<String>,
    /// Whether campaigns can start with it; absent: true
    is_active: Option<bool>,
    /// A note without an effect; absent: false
    is_published: Option<bool>,
}

#[derive(ToSchema)]
#[schema(as = SkillbaseVersionContent)]
pub struct ContentOfVersion {
    /// What the version has
    content: Content,
    /// Number of the version, from 1
    version: u32,
}

#[derive(ToSchema)]
#[schema(as = CampaignSettings)]
pub struct Settings {
    /// Name of the campaign
    name: String,
    /// Description for the users of the company
    description: Option<String>,
    /// The bot
    skillbase_id: Uuid,
    /// No call begins before
    start_time: Option<DateTime<Utc>>,
    /// No call begins after
    end_time: Option<DateTime<Utc>>,
    /// Daily window, `HH:MM` in `timezone`
    daily_start_time: Option<String>,
    /// End of the daily window, `HH:MM` in `timezone`
    daily_end_time: Option<String>,
    /// IANA time zone
    timezone: String,
    /// ISO days, 1 = Monday; null: every day
    days_of_week: Option<Vec<u8>>,
    /// Maximum number of calls at once
    max_concurrent_calls: u32,
    /// Maximum number of calls that begin within a minute
    calls_per_minute: u32,
    /// Maximum number of attempts of a task
    max_retries: u32,
    /// Pause before another attempt, in minutes
    retry_delay_minutes: u32,
    /// How the pause grows
    retry_backoff: BackoffName,
    /// ISO country in which national numbers of the call list are read
    default_region: Option<String>,
    /// `external`, or the provider that the platform dials with
    dialed_by: String,
}

#[derive(ToSchema)]
#[schema(as = CampaignConfiguration)]
pub struct SettingsOnly {
    /// All settings of the campaign
    settings: Settings,
}

#[derive(ToSchema)]
#[schema(as = AddedTasks)]
pub struct Added {
    /// Id of the upload
    import_id: Uuid,
    /// Number of tasks that were created
    count: u64,
}

#[derive(ToSchema)]
#[schema(as = ReopenedTasks)]
pub struct Reopened {
    /// Id of the part that was put back together
    batch_id: Uuid,
    /// Number of tasks that were put back
    count: u64,
}

#[derive(ToSchema)]
#[schema(as = CallListResult)]
pub struct ImportResult {
    /// Id of the upload
    import_id: Uuid,
    /// Name of the uploaded file
    file_name: String,
    /// Rows under the header that are not blank
    total: u64,
    /// Tasks that were created
    created: u64,
    /// Rows that became no task
    error_count: u64,
    /// The first reasons, without the rows' content
    errors: Vec<String>,
}

#[derive(ToSchema)]
#[schema(as = TaskContact)]
pub struct Contact {
    /// The campaign
    campaign_id: Uuid,
    /// Id of the upload
    import_id: Uuid,
    /// Row in the spreadsheet, where the header is row 1
    row: u32,
    /// The person to call
    person_id: Option<Uuid>,
    /// E.164. Personal
    phone_number: String,
    /// Name of the contact. Personal
    contact_name: Option<String>,
    /// The other columns of the row. Personal
    contact_data: HashMap<String, Value>,
    /// Higher ones are called first
    priority: i32,
}

#[derive(ToSchema)]
#[schema(as = TaskClaim)]
pub struct Claim {
    /// The campaign
    campaign_id: Uuid,
    /// The call of the attempt
    call_id: Uuid,
    /// Number of the attempt, from 1
    attempt: u32,
    /// Seconds without a sign of life of the call after which the attempt counts as failed
    lease_sec: u32,
    /// When the task was claimed
    claimed_at: DateTime<Utc>,
}

#[derive(ToSchema)]
#[schema(as = TaskCompletion)]
pub struct Completion {
    /// The campaign
    campaign_id: Uuid,
    /// The call of the attempt
    call_id: Uuid,
    /// Outcome of the attempt
    outcome: OutcomeName,
}

#[derive(ToSchema)]
#[schema(as = AttemptFailure)]
pub struct Failure {
    /// The call of the attempt
    call_id: Uuid,
    /// What the worker reported. Personal
    error_message: String,
    /// Outcome of the attempt, if one is known
    outcome: Option<OutcomeName>,
    /// How the failure was found
    cause: FailureCauseName,
}

#[derive(ToSchema)]
#[schema(as = TaskRetry)]
pub struct Retry {
    /// The campaign
    campaign_id: Uuid,
    /// Why the attempt failed
    failure: Failure,
    /// When the next attempt is due
    next_attempt_at: DateTime<Utc>,
}

#[derive(ToSchema)]
#[schema(as = TaskFailure)]
pub struct LastFailure {
    /// The campaign
    campaign_id: Uuid,
    /// Why the last attempt failed
    failure: Failure,
}

#[derive(ToSchema)]
#[schema(as = TaskOfCampaign)]
pub struct CampaignOnly {
    /// The campaign
    campaign_id: Uuid,
}

#[derive(ToSchema)]
#[schema(as = ReopenedTask)]
pub struct ReopenedTask {
    /// The campaign
    campaign_id: Uuid,
    /// When the next attempt is due
    next_attempt_at: DateTime<Utc>,
}

#[derive(ToSchema)]
#[schema(as = CallSubject)]
pub struct Subject {
    /// The campaign, if the call belongs to one
    campaign_id: Option<Uuid>,
    /// The task, if the call belongs to one
    task_id: Option<Uuid>,
    /// The bot
    skillbase_id: Option<Uuid>,
    /// Version of the bot
    skillbase_version: Option<u32>,
    /// Who called whom
    direction: DirectionName,
    /// The person that the call is with
    person_id: Option<Uuid>,
    /// E.164. Personal
    phone_number: String,
}

#[derive(ToSchema)]
#[schema(as = CallStart)]
pub struct Start {
    /// The person that the call is with, and what the call belongs to
    subject: Subject,
    /// When the call started
    started_at: DateTime<Utc>,
    /// Whether the client gave `started_at`; absent: true
    started_at_given: Option<bool>,
}

#[derive(ToSchema)]
#[schema(as = RecordedTurn)]
pub struct Turn {
    /// Place in the conversation, from 0
    turn_index: u32,
    /// When the turn took place
    occurred_at: Option<DateTime<Utc>>,
    /// What the caller said. Personal
    user_text: Option<String>,
    /// What the agent said. Personal
    agent_text: Option<String>,
    /// State of the conversation. Personal
    state: Option<String>,
    /// Time to the first byte of the speech recognition, in microseconds
    ttfb_stt_us: Option<i64>,
    /// Latency of the language model, in microseconds
    latency_llm_us: Option<i64>,
    /// Time to the first byte of the speech synthesis, in microseconds
    ttfb_tts_us: Option<i64>,
    /// Latency of the detection that the caller has finished, in microseconds
    eou_latency_us: Option<i64>,
    /// Recognized speech in seconds, an exact decimal
    stt_duration_sec: Option<Decimal>,
    /// Tokens that the language model read
    llm_input_tokens: Option<i64>,
    /// Tokens that the language model wrote
    llm_output_tokens: Option<i64>,
    /// Characters that were spoken
    tts_characters: Option<i64>,
    /// Whether the caller interrupted the agent
    interrupted: bool,
    /// Provider of the speech recognition
    stt_provider: Option<String>,
    /// Provider of the language model
    llm_provider: Option<String>,
    /// The language model
    llm_model: Option<String>,
    /// Provider of the speech synthesis
    tts_provider: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = CallEnd)]
pub struct End {
    /// When the call ended
    ended_at: DateTime<Utc>,
    /// Whether the client gave `ended_at`; absent: true
    ended_at_given: Option<bool>,
    /// Seconds, an exact decimal
    duration_sec: Decimal,
    /// Whether the client gave `duration_sec`; absent: true
    duration_given: Option<bool>,
    /// State of the conversation at the end
    final_state: Option<String>,
    /// Who hung up
    hangup_by: Option<String>,
    /// The outcome that the client gave
    outcome: Option<OutcomeName>,
}

#[derive(ToSchema)]
#[schema(as = OutcomeClassification)]
pub struct Classification {
    /// The outcome; null if nothing tells one
    outcome: Option<OutcomeName>,
    /// How sure it is, 0 to 100
    confidence_percent: u8,
    /// What decided the outcome
    method: OutcomeMethodName,
}

#[derive(ToSchema)]
#[schema(as = PublishedRates)]
pub struct Publication {
    /// Name of the list
    name: String,
    /// The list is in force from this time until the next list's
    effective_from: DateTime<Utc>,
    /// The prices
    rates: Vec<RateView>,
}
