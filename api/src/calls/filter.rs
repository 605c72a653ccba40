use chrono_tz::Tz;
use domain::{call::Direction, outcome::Outcome};
use projections::calls::{CallFilter, CallProgress};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    extract::read_period,
    phone_numbers::person_in_query,
    problem::Problem,
    state::App,
    times::WrittenTime,
    words::{CallProgressName, DirectionName, OutcomeName},
};

/// Which calls a list has.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CallParams {
    /// Only calls of this campaign
    campaign_id: Option<Uuid>,
    /// Only calls of this skillbase
    skillbase_id: Option<Uuid>,
    /// Only calls with this outcome
    #[param(value_type = Option<OutcomeName>)]
    outcome: Option<String>,
    /// Only calls that are this far
    #[param(value_type = Option<CallProgressName>)]
    status: Option<CallProgress>,
    /// Only calls in this direction
    #[param(value_type = Option<DirectionName>)]
    direction: Option<String>,
    /// Only calls that started at or after this time; a date means the beginning of the day, UTC
    #[param(value_type = Option<String>, example = "2026-11-20")]
    from: Option<WrittenTime>,
    /// Only calls that started before this time, or before the beginning of this day
    #[param(value_type = Option<String>, example = "2026-11-21T12:00:00Z")]
    to: Option<WrittenTime>,
    /// With `+` and the country code; in a URL, encode `+` as `%2B` (`%2B12025550100`)
    phone_number: Option<String>,
}

impl CallParams {
    pub async fn filter(self, app: &App, company_id: Uuid, raw_query: Option<&str>) -> Result<CallFilter, Problem> {
        if self.outcome.as_ref().is_some_and(|outcome| outcome.parse::<Outcome>().is_err()) {
            return Err(Problem::bad_request("outcome must be success, fail, voicemail, no_answer or busy"));
        }
        if self.direction.as_ref().is_some_and(|direction| direction.parse::<Direction>().is_err()) {
            return Err(Problem::bad_request("direction must be outbound or inbound"));
        }
        let [from, to] = read_period(self.from, self.to, Tz::UTC)?;
        let person_id = person_in_query(app, company_id, self.phone_number.as_deref(), raw_query).await?;
        Ok(CallFilter {
            progress: self.status,
            campaign_id: self.campaign_id,
            skillbase_id: self.skillbase_id,
            outcome: self.outcome,
            direction: self.direction,
            person_id,
            from,
            to,
        })
    }
}
