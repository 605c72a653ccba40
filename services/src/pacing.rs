//! Why no call of a campaign begins at the moment, and when the next one can.

use chrono::{DateTime, Utc};
use domain::campaign::LiveCampaign;
use projections::call_tasks::PacingCounts;

use crate::claims::{Claimant, NothingToClaim, closed};

/// What a claim of the campaign's own dialer, or of an external agent, would get now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// `None` if a task can be claimed.
    pub reason: Option<NothingToClaim>,
    /// When the schedule allows calls again; `None` while it does, and if it never will.
    pub opens_at: Option<DateTime<Utc>>,
    pub counts: PacingCounts,
}

impl Pacing {
    pub fn of(campaign: &LiveCampaign, counts: PacingCounts, now: DateTime<Utc>) -> Self {
        let settings = &campaign.settings;
        let schedule = settings.schedule();
        let opens_at = if schedule.is_open(now) { None } else { schedule.next_opening(now) };
        let reason = closed(campaign, Claimant::Provider(&settings.dialed_by), now).or(if counts.due == 0 {
            Some(NothingToClaim::Empty)
        } else if counts.in_progress >= i64::from(settings.max_concurrent_calls) {
            Some(NothingToClaim::Concurrency)
        } else if counts.claims_last_60s >= i64::from(settings.calls_per_minute) {
            Some(NothingToClaim::Rate)
        } else {
            None
        });
        Self { reason, opens_at, counts }
    }
}

#[cfg(test)]
mod tests {
    use domain::campaign::{CampaignSettings, CampaignStatus};
    use uuid::Uuid;

    use super::*;

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    const DUE: PacingCounts = PacingCounts { in_progress: 0, claims_last_60s: 0, due: 5, next_due_at: None };

    fn running() -> LiveCampaign {
        LiveCampaign {
            settings: CampaignSettings { max_concurrent_calls: 2, calls_per_minute: 3, ..CampaignSettings::new("c".into(), Uuid::nil()) },
            status: CampaignStatus::Running,
            total_tasks: 5,
            tasks_since_completion: 5,
            imports: vec![],
            is_finishing: false,
            last_reopened: None,
        }
    }

    #[test]
    fn the_first_reason_that_a_claim_would_meet_is_told() {
        let reason = |campaign: &LiveCampaign, counts| Pacing::of(campaign, counts, NOW).reason;
        assert_eq!(reason(&running(), DUE), None);
        assert_eq!(reason(&running(), PacingCounts { due: 0, ..DUE }), Some(NothingToClaim::Empty));
        assert_eq!(reason(&running(), PacingCounts { in_progress: 2, ..DUE }), Some(NothingToClaim::Concurrency));
        assert_eq!(reason(&running(), PacingCounts { claims_last_60s: 3, ..DUE }), Some(NothingToClaim::Rate));
        for campaign in [LiveCampaign { status: CampaignStatus::Paused, ..running() }, LiveCampaign { is_finishing: true, ..running() }] {
            assert_eq!(reason(&campaign, DUE), Some(NothingToClaim::NotRunning));
        }
        let mut dialed = running();
        dialed.settings.dialed_by = "simulator".to_owned();
        assert_eq!(reason(&dialed, DUE), None, "its own provider can claim");
    }

    #[test]
    fn outside_the_schedule_it_is_told_when_it_opens() {
        let mut campaign = running();
        campaign.settings.start_time = Some(NOW + chrono::TimeDelta::hours(2));
        let pacing = Pacing::of(&campaign, DUE, NOW);
        assert_eq!((pacing.reason, pacing.opens_at), (Some(NothingToClaim::OutsideSchedule), campaign.settings.start_time));
        campaign.settings.start_time = None;
        campaign.settings.end_time = Some(NOW);
        let pacing = Pacing::of(&campaign, DUE, NOW);
        assert_eq!((pacing.reason, pacing.opens_at), (Some(NothingToClaim::OutsideSchedule), None));
    }
}
