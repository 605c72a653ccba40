use chrono::{DateTime, Utc};
use domain::campaign::CampaignSettings;
use projections::campaigns::CampaignRow;
use serde::Serialize;
use services::{CampaignDetails, Counters, Versioned};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::Problem;

#[derive(Serialize, ToSchema)]
pub struct CampaignView {
    pub id: Uuid,
    pub company_id: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub skillbase_id: Uuid,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
    /// `HH:MM` in `timezone`
    pub daily_start_time: Option<String>,
    pub daily_end_time: Option<String>,
    pub timezone: String,
    /// ISO weekdays, 1 = Monday; null means every day
    pub days_of_week: Option<Vec<u8>>,
    pub max_concurrent_calls: u32,
    pub calls_per_minute: u32,
    pub max_retries: u32,
    pub retry_delay_minutes: u32,
    pub retry_backoff: String,
    pub default_region: Option<String>,
    pub dialed_by: String,
    /// `draft`, `running`, `paused` or `completed`
    pub status: String,
    pub total_tasks: i64,
    pub completed_tasks: i64,
    pub failed_tasks: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl CampaignView {
    #[expect(clippy::expect_used, reason = "every task is an event, and positions are below 2^63")]
    pub fn new(company_id: Uuid, given: Versioned<CampaignDetails>) -> Self {
        let CampaignDetails { campaign, counters } = given.value;
        let total = i64::try_from(campaign.total_tasks).expect("a campaign has fewer than 2^63 tasks");
        let times = (given.created_at, given.updated_at);
        Self::build(given.id, company_id, campaign.settings, campaign.status.to_string(), total, counters, times)
    }

    pub fn from_row(row: CampaignRow) -> Result<Self, Problem> {
        let settings: CampaignSettings = serde_json::from_value(row.settings).map_err(|e| Problem::internal(&e))?;
        let counters = Counters { completed_tasks: row.completed_tasks, failed_tasks: row.failed_tasks };
        Ok(Self::build(row.campaign_id, row.company_id, settings, row.status, row.total_tasks, counters, (row.created_at, row.updated_at)))
    }

    fn build(
        id: Uuid,
        company_id: Uuid,
        settings: CampaignSettings,
        status: String,
        total_tasks: i64,
        counters: Counters,
        (created_at, updated_at): (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
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
            status,
            total_tasks,
            completed_tasks: counters.completed_tasks,
            failed_tasks: counters.failed_tasks,
            created_at,
            updated_at,
        }
    }
}
