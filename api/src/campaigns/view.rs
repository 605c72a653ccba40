use chrono::{DateTime, Utc};
use serde::Serialize;
use services::{CampaignDetails, Pacing, Versioned};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::words::{BackoffName, CampaignStatusName, ClaimReasonName};

/// Why no call of the campaign begins at the moment, and when the next one can
#[derive(Serialize, ToSchema)]
pub struct PacingView {
    /// What a claim would be answered now: `not_running`, `outside_schedule`, `empty`, `concurrency` or `rate`; null if a task can be claimed
    #[schema(value_type = Option<ClaimReasonName>)]
    reason: Option<&'static str>,
    /// When the schedule allows calls again; null while it allows them, and if it never will
    opens_at: Option<DateTime<Utc>>,
    /// Attempts in progress, which `max_concurrent_calls` limits
    in_progress: i64,
    /// Attempts that began within the last 60 seconds, which `calls_per_minute` limits
    claims_last_60s: i64,
    /// Tasks that can be claimed as far as they themselves are concerned: pending, or waiting for another attempt that is due
    due: i64,
    /// When the next of the tasks that wait for another attempt is due
    next_due_at: Option<DateTime<Utc>>,
}

impl From<Pacing> for PacingView {
    fn from(pacing: Pacing) -> Self {
        let Pacing { reason, opens_at, counts } = pacing;
        Self {
            reason: reason.map(Into::into),
            opens_at,
            in_progress: counts.in_progress,
            claims_last_60s: counts.claims_last_60s,
            due: counts.due,
            next_due_at: counts.next_due_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct CampaignView {
    /// Id of the campaign
    pub id: Uuid,
    /// Id of the company
    pub company_id: Uuid,
    /// The campaign's name
    pub name: String,
    /// Any text
    pub description: Option<String>,
    /// The bot that speaks
    pub skillbase_id: Uuid,
    /// No attempt begins before this time
    pub start_time: Option<DateTime<Utc>>,
    /// When the campaign ends; null: when no task is left
    pub end_time: Option<DateTime<Utc>>,
    /// `HH:MM` in `timezone`
    pub daily_start_time: Option<String>,
    /// End of the daily window, `HH:MM` in `timezone`
    pub daily_end_time: Option<String>,
    /// IANA time zone of the window and the weekdays
    pub timezone: String,
    /// ISO weekdays, 1 = Monday; null means every day
    pub days_of_week: Option<Vec<u8>>,
    /// Most attempts in progress at the same time
    pub max_concurrent_calls: u32,
    /// Most attempts that begin within any 60 seconds
    pub calls_per_minute: u32,
    /// Attempts of a task in all
    pub max_retries: u32,
    /// Time from a failed attempt to the next one
    pub retry_delay_minutes: u32,
    /// How the delay grows from attempt to attempt
    #[schema(value_type = BackoffName)]
    pub retry_backoff: String,
    /// ISO country code for phone numbers in national form
    pub default_region: Option<String>,
    /// `external`, or the name of the provider that dials
    pub dialed_by: String,
    /// Tasks are claimed while the campaign is running
    #[schema(value_type = CampaignStatusName)]
    pub status: String,
    /// All tasks, the cancelled ones included
    pub total_tasks: i64,
    /// Tasks that are completed
    pub completed_tasks: i64,
    /// Tasks whose attempts have all failed
    pub failed_tasks: i64,
    /// When the campaign was created
    pub created_at: DateTime<Utc>,
    /// When the campaign last changed
    pub updated_at: DateTime<Utc>,
    /// A deleted campaign is in no list; it, its tasks and its statistics stay readable by its id
    pub deleted_at: Option<DateTime<Utc>>,
    /// Null in the answer to a command, and in an answer as of a given time
    pub pacing: Option<PacingView>,
}

impl CampaignView {
    #[expect(clippy::expect_used, reason = "every task is an event, and positions are below 2^63")]
    pub fn new(company_id: Uuid, given: Versioned<CampaignDetails>) -> Self {
        let Versioned { id, created_at, updated_at, value: CampaignDetails { campaign, deleted_at, counters, pacing }, .. } = given;
        let settings = campaign.settings;
        let hh_mm = |time: chrono::NaiveTime| time.format("%H:%M").to_string();
        Self {
            id,
            company_id,
            name: settings.name,
            description: settings.description,
            skillbase_id: settings.skillbase_id,
            start_time: settings.start_time,
            end_time: settings.end_time,
            daily_start_time: settings.daily_start_time.map(hh_mm),
            daily_end_time: settings.daily_end_time.map(hh_mm),
            timezone: settings.timezone.name().to_owned(),
            days_of_week: settings.days_of_week,
            max_concurrent_calls: settings.max_concurrent_calls,
            calls_per_minute: settings.calls_per_minute,
            max_retries: settings.max_retries,
            retry_delay_minutes: settings.retry_delay_minutes,
            retry_backoff: settings.retry_backoff.to_string(),
            default_region: settings.default_region,
            dialed_by: settings.dialed_by,
            status: campaign.status.to_string(),
            total_tasks: i64::try_from(campaign.total_tasks).expect("a campaign has fewer than 2^63 tasks"),
            completed_tasks: counters.completed_tasks,
            failed_tasks: counters.failed_tasks,
            created_at,
            updated_at,
            deleted_at,
            pacing: pacing.map(PacingView::from),
        }
    }
}
