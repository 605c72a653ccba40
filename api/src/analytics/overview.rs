//! The figures on the first page of a dashboard.

use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use projections::{
    ReadModel,
    analytics::Scope,
    call_metrics,
    calls::CallFilter,
    cost_rollups::{self, CostRow},
};
use rust_decimal::Decimal;
use serde::Serialize;
use services::CampaignDetails;
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::queries::{CallWithMetrics, MetricsOfCalls};
use crate::{
    analytics::view::OutcomesView,
    answer::Answer,
    auth::{By, Viewer},
    campaigns::CampaignView,
    freshness::Fresh,
    numbers::{seconds, share},
    problem::Problem,
    state::App,
};
use eventstore::now;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(overview))
}

/// Maximum numbers of recent calls and of live campaigns in the overview.
const RECENT_CALLS: i64 = 10;
const LIVE_CAMPAIGNS: i64 = 50;

const OVERVIEW: &[ReadModel] = &[
    projections::calls::READ_MODEL,
    call_metrics::READ_MODEL,
    cost_rollups::READ_MODEL,
    projections::campaigns::READ_MODEL,
    projections::call_tasks::READ_MODEL,
];

#[derive(Serialize, ToSchema)]
struct Period {
    /// Calls that started in the period
    call_count: i64,
    /// Those of them that have ended
    ended_count: i64,
    /// Turns of these calls
    turn_count: i64,
    /// Number of calls by outcome
    outcomes: OutcomesView,
    /// Calls with outcome success ÷ ended calls
    success_rate: Option<f64>,
    /// Average over the ended calls; null when no call has ended
    average_duration_sec: Option<f64>,
    /// Cost of these calls, an exact decimal
    cost_total: Decimal,
}

#[derive(Serialize, ToSchema)]
struct Overview {
    /// Since midnight UTC
    today: Period,
    /// The last 7 days, to the second
    last_7_days: Period,
    /// The last 30 days, to the second
    last_30_days: Period,
    /// Calls that have not ended
    live_calls: i64,
    /// Running campaigns, at most 50, newest first
    live_campaigns: Vec<CampaignView>,
    /// The ten calls that started last
    recent_calls: Vec<CallWithMetrics>,
}

/// Metrics of today, 7 days and 30 days; live campaigns and live calls; recent calls.
#[utoipa::path(get, path = "/analytics/overview", operation_id = "get_overview", tag = "analytics", security(("bearer" = ["viewer"])), params(Fresh), responses((status = 200, body = Overview)))]
async fn overview(State(app): State<App>, by: By<Viewer>, fresh: Fresh) -> Result<Answer<Overview>, Problem> {
    let (now, company_id) = (now(), by.company_id());
    let midnight = now - TimeDelta::seconds(now.timestamp().rem_euclid(86_400));
    let mut snapshot = fresh.snapshot(&app, company_id, OVERVIEW).await?;
    let position = snapshot.position;
    let campaigns = projections::campaigns::list(&mut snapshot, company_id, Some("running"), None, None, LIVE_CAMPAIGNS).await?;
    let mut recent = projections::calls::list(&mut snapshot, company_id, &CallFilter::default(), None, RECENT_CALLS).await?;
    let of_recent = MetricsOfCalls::read(&mut snapshot, company_id, &recent).await?;
    let (today, last_7_days, last_30_days) = (
        period(&mut snapshot, company_id, midnight).await?,
        period(&mut snapshot, company_id, now - TimeDelta::days(7)).await?,
        period(&mut snapshot, company_id, now - TimeDelta::days(30)).await?,
    );
    let live_calls = projections::calls::live_count(&mut snapshot, company_id).await?;
    drop(snapshot);
    app.store.persons().reveal(company_id, &mut recent).await?;
    let live_campaign = |row| Ok(CampaignView::new(company_id, CampaignDetails::of_row(row, position)?));
    let body = Overview {
        today,
        last_7_days,
        last_30_days,
        live_calls,
        live_campaigns: campaigns.into_iter().map(live_campaign).collect::<Result<_, Problem>>()?,
        recent_calls: recent.into_iter().map(|row| of_recent.beside(row)).collect(),
    };
    Ok(Answer::ok(position, body))
}

async fn period(db: &mut PgConnection, company_id: Uuid, from: DateTime<Utc>) -> Result<Period, Problem> {
    let scope = Scope { company_id, campaign_id: None, skillbase_id: None, from: Some(from), to: None, timezone: chrono_tz::Tz::UTC };
    let calls = call_metrics::aggregate(db, &scope, None).await?.into_values().next().unwrap_or_default();
    let costs: CostRow = cost_rollups::costs(db, &scope, None).await?.into_values().next().unwrap_or_default();
    Ok(Period {
        call_count: calls.call_count,
        ended_count: calls.ended_count,
        turn_count: calls.turn_count,
        outcomes: calls.outcomes.into(),
        success_rate: share(calls.outcomes.success, calls.ended_count),
        average_duration_sec: (calls.ended_count > 0).then(|| seconds(calls.duration_sec / Decimal::from(calls.ended_count))),
        cost_total: costs.costs.total().normalize(),
    })
}
