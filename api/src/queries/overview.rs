//! The numbers of a dashboard's first page.

use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use projections::{
    call_metrics::{self, Scope},
    calls::CallFilter,
    cost_rollups::{self, CostRow},
};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Fresh,
    analytics::{CallWithMetrics, with_metrics},
};
use crate::{
    answer::Answer,
    app::App,
    auth::{By, Viewer},
    problem::Problem,
    views::{CampaignView, OutcomesView, seconds, share},
};
use eventstore::now;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(overview))
}

/// Calls and campaigns that are listed.
const RECENT_CALLS: i64 = 10;
const LIVE_CAMPAIGNS: i64 = 50;

#[derive(Serialize, ToSchema)]
struct Period {
    call_count: i64,
    ended_count: i64,
    turn_count: i64,
    outcomes: OutcomesView,
    /// Calls with outcome success ÷ ended calls
    success_rate: Option<f64>,
    average_duration_sec: Option<f64>,
    cost_total: Decimal,
}

#[derive(Serialize, ToSchema)]
struct Overview {
    /// Since midnight UTC
    today: Period,
    last_7_days: Period,
    last_30_days: Period,
    /// Calls that have not ended
    live_calls: i64,
    live_campaigns: Vec<CampaignView>,
    recent_calls: Vec<CallWithMetrics>,
}

/// Today, 7 and 30 days; live campaigns and calls; recent calls.
#[utoipa::path(get, path = "/analytics/overview", tag = "analytics", security(("bearer" = ["viewer"])), params(Fresh), responses((status = 200, body = Overview)))]
async fn overview(State(app): State<App>, by: By<Viewer>, fresh: Fresh) -> Result<Answer<Overview>, Problem> {
    let position = fresh.wait(&app, &["calls", "call_metrics", "cost_rollups", "campaigns", "call_tasks"]).await?;
    let (now, company_id) = (now(), by.company_id());
    let midnight = now - TimeDelta::seconds(now.timestamp().rem_euclid(86_400));
    let campaigns =
        projections::campaigns::list(&mut *app.company(company_id).await?, company_id, Some("running"), None, None, LIVE_CAMPAIGNS).await?;
    let mut recent =
        projections::calls::list(&mut *app.company(company_id).await?, company_id, &CallFilter::default(), None, RECENT_CALLS).await?;
    app.store.persons().reveal(company_id, &mut recent).await?;
    let mut snapshot = projections::snapshot(&app.access, Some(company_id), &["call_metrics", "cost_rollups"]).await?;
    let (today, last_7_days, last_30_days) = (
        period(&mut snapshot, company_id, midnight).await?,
        period(&mut snapshot, company_id, now - TimeDelta::days(7)).await?,
        period(&mut snapshot, company_id, now - TimeDelta::days(30)).await?,
    );
    drop(snapshot);
    // One connection after the other: a request that held one while it waits for the next could wait for others that do the same.
    let live_calls = projections::calls::live_count(&mut *app.company(company_id).await?, company_id).await?;
    let body = Overview {
        today,
        last_7_days,
        last_30_days,
        live_calls,
        live_campaigns: campaigns.into_iter().map(CampaignView::from_row).collect::<Result<_, _>>()?,
        recent_calls: with_metrics(&app, company_id, recent).await?,
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
