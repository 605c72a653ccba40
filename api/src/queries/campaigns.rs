//! Campaigns, their tasks, statistics, imports and history.

use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::campaign::Campaign;
use domain::task::{Task, TaskStatus};
use eventstore::{Loaded, StreamName};
use projections::{
    call_list_imports::CallListImportRow,
    call_tasks::{self, CampaignStatsRow},
    campaigns::CampaignRow,
    page::After,
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{AsOf, Fresh, HistoryParams, PagingParams};
use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{By, Viewer},
    extract::{HistoryPaging, Id, Paging, QueryOf},
    problem::Problem,
    views::{CampaignView, Counters, EventView, OutcomesView, TaskView, seconds, share},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(history))
        .routes(routes!(tasks))
        .routes(routes!(stats))
        .routes(routes!(imports))
}

/// The projections that a campaign's view comes from.
const CAMPAIGN: &[&str] = &["campaigns", "call_tasks"];

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// draft, running, paused or completed
    status: Option<String>,
    skillbase_id: Option<Uuid>,
}

/// Campaigns, newest first.
#[utoipa::path(get, path = "/campaigns", tag = "campaigns", security(("bearer" = ["viewer"])), params(Filter, Fresh, PagingParams), responses((status = 200, body = Items<CampaignView>)))]
async fn list(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(filter): QueryOf<Filter>,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<CampaignView>>, Problem> {
    if filter.status.as_ref().is_some_and(|s| s.parse::<domain::campaign::CampaignStatus>().is_err()) {
        return Err(Problem::bad_request("status must be draft, running, paused or completed"));
    }
    let position = fresh.wait(&app, CAMPAIGN).await?;
    let (status, after) = (filter.status.as_deref(), paging.after()?);
    let rows = projections::campaigns::list(
        &mut *app.company(by.company_id()).await?,
        by.company_id(),
        status,
        filter.skillbase_id,
        after,
        paging.rows_to_read(),
    )
    .await?;
    let page = Items::page(rows, &paging, |row: &CampaignRow| After { at: row.created_at, id: row.campaign_id }, CampaignView::from_row);
    let items = page.items.into_iter().collect::<Result<_, _>>()?;
    Ok(Answer::ok(position, Items { items, next_cursor: page.next_cursor }))
}

/// One campaign, now or at a moment.
#[utoipa::path(get, path = "/campaigns/{id}", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), AsOf, Fresh),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem)))]
async fn get(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    AsOf { as_of }: AsOf,
    fresh: Fresh,
) -> Result<Answer<CampaignView>, Problem> {
    if let Some(moment) = as_of {
        fresh.of_log(&app).await?;
        return at(&app, by.company_id(), id, moment).await;
    }
    let position = fresh.wait(&app, CAMPAIGN).await?;
    let row = projections::campaigns::get(&mut *app.company(by.company_id()).await?, by.company_id(), id)
        .await?
        .ok_or_else(|| Problem::not_found("campaign"))?;
    let version = row.stream_version;
    Ok(Answer::ok(position, CampaignView::from_row(row)?).version(version))
}

async fn at(app: &App, company_id: Uuid, id: Uuid, moment: DateTime<Utc>) -> Result<Answer<CampaignView>, Problem> {
    let loaded: Loaded<Campaign> = app.store.load_as_of(company_id, id, moment).await?;
    let live = loaded.state.live().ok_or_else(|| Problem::not_found("campaign at that moment"))?;
    // The moment may be now: the tasks' rows have to say all that the log says.
    let position = app.caught_up(CAMPAIGN, Some(app.store.last_position().await?)).await?;
    let results = call_tasks::results_as_of(&mut *app.company(company_id).await?, company_id, id, moment).await?;
    let failed_then = app.store.count_streams_with::<Task>(company_id, &results.completed_later, "TaskFailed", moment).await?;
    let counters = Counters { completed_tasks: results.completed, failed_tasks: results.failed + failed_then };
    let view = CampaignView::from_state(id, company_id, live, counters, (loaded.created_at, loaded.updated_at));
    Ok(Answer::ok(position, view).version(loaded.version))
}

/// What is counted of a campaign now.
pub async fn counters(app: &App, company_id: Uuid, id: Uuid) -> Result<Counters, Problem> {
    let row = call_tasks::campaign_stats(&mut *app.company(company_id).await?, company_id, id).await?;
    Ok(row.map(|row| Counters { completed_tasks: row.completed, failed_tasks: row.failed }).unwrap_or_default())
}

/// Every event of the campaign, oldest first, with who and why. A long history comes in pages, also without a limit.
#[utoipa::path(get, path = "/campaigns/{id}/history", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, HistoryParams),
    responses((status = 200, body = Items<EventView>), (status = 404, body = Problem)))]
async fn history(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    HistoryPaging(paging): HistoryPaging,
) -> Result<Answer<Items<EventView>>, Problem> {
    let position = fresh.of_log(&app).await?;
    let history = super::events::history(&app, by.company_id(), &[StreamName::of::<Campaign>(id)], "campaign", &paging).await?;
    Ok(Answer::ok(position, history))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TaskFilter {
    /// pending, in_progress, retry, completed, failed or cancelled
    status: Option<String>,
}

/// The campaign's tasks, newest first.
#[utoipa::path(get, path = "/campaigns/{id}/tasks", tag = "tasks", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), TaskFilter, Fresh, PagingParams),
    responses((status = 200, body = Items<TaskView>), (status = 404, body = Problem)))]
async fn tasks(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    QueryOf(filter): QueryOf<TaskFilter>,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<TaskView>>, Problem> {
    if filter.status.as_ref().is_some_and(|s| s.parse::<TaskStatus>().is_err()) {
        return Err(Problem::bad_request("status must be pending, in_progress, retry, completed, failed or cancelled"));
    }
    let position = fresh.wait(&app, CAMPAIGN).await?;
    projections::campaigns::get(&mut *app.company(by.company_id()).await?, by.company_id(), id)
        .await?
        .ok_or_else(|| Problem::not_found("campaign"))?;
    let mut rows = call_tasks::list(
        &mut *app.company(by.company_id()).await?,
        by.company_id(),
        id,
        filter.status.as_deref(),
        paging.after()?,
        paging.rows_to_read(),
    )
    .await?;
    app.store.persons().reveal(by.company_id(), &mut rows).await?;
    Ok(Answer::ok(position, Items::page(rows, &paging, |row| row.position, TaskView::from)))
}

#[derive(Serialize, ToSchema)]
struct TaskCounts {
    total: i64,
    pending: i64,
    in_progress: i64,
    retry: i64,
    completed: i64,
    failed: i64,
    cancelled: i64,
}

#[derive(Serialize, ToSchema)]
struct Stats {
    campaign_id: Uuid,
    tasks: TaskCounts,
    /// Tasks by the outcome of their last attempt
    outcomes: OutcomesView,
    attempts: i64,
    /// Outcome success ÷ tasks completed or failed, 0 to 1
    success_rate: Option<f64>,
    /// Over the campaign's ended calls
    average_duration_sec: Option<f64>,
    cost_total: Decimal,
    cost_per_success: Option<Decimal>,
    first_attempt_at: Option<DateTime<Utc>>,
    last_attempt_at: Option<DateTime<Utc>>,
    /// Attempts ÷ hours from the first to the last, counted as one hour at least
    calls_per_hour: Option<f64>,
}

/// The campaign in numbers.
#[utoipa::path(get, path = "/campaigns/{id}/stats", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = Stats), (status = 404, body = Problem)))]
async fn stats(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<Stats>, Problem> {
    let position = fresh.wait(&app, &["campaigns", "call_tasks", "call_metrics", "cost_rollups"]).await?;
    let row = call_tasks::campaign_stats(&mut *app.company(by.company_id()).await?, by.company_id(), id)
        .await?
        .ok_or_else(|| Problem::not_found("campaign"))?;
    Ok(Answer::ok(position, Stats::new(id, &row)))
}

impl Stats {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn new(campaign_id: Uuid, row: &CampaignStatsRow) -> Self {
        let tasks = TaskCounts {
            total: row.pending + row.in_progress + row.retry + row.completed + row.failed + row.cancelled,
            pending: row.pending,
            in_progress: row.in_progress,
            retry: row.retry,
            completed: row.completed,
            failed: row.failed,
            cancelled: row.cancelled,
        };
        let hours = row
            .first_attempt_at
            .zip(row.last_attempt_at)
            .map(|(first, last)| ((last - first).num_milliseconds() as f64 / 3_600_000.0).max(1.0));
        Self {
            campaign_id,
            tasks,
            outcomes: OutcomesView {
                success: row.success,
                fail: row.fail,
                voicemail: row.voicemail,
                no_answer: row.no_answer,
                busy: row.busy,
            },
            attempts: row.attempts,
            success_rate: share(row.success, row.completed + row.failed),
            average_duration_sec: (row.ended_count > 0).then(|| seconds(row.duration_sec / Decimal::from(row.ended_count))),
            cost_total: row.cost_total.normalize(),
            cost_per_success: (row.success > 0).then(|| (row.cost_total / Decimal::from(row.success)).round_dp(12).normalize()),
            first_attempt_at: row.first_attempt_at,
            last_attempt_at: row.last_attempt_at,
            calls_per_hour: hours.map(|hours| row.attempts as f64 / hours),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct ImportView {
    import_id: Uuid,
    /// As it was uploaded; kept in clear, also after an erasure: name nobody in it
    file_name: String,
    total: i64,
    created: i64,
    error_count: i64,
    errors: Vec<String>,
    imported_at: DateTime<Utc>,
}

/// The call lists that were uploaded and what came of them, newest first.
#[utoipa::path(get, path = "/campaigns/{id}/imports", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, PagingParams),
    responses((status = 200, body = Items<ImportView>), (status = 404, body = Problem)))]
async fn imports(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<ImportView>>, Problem> {
    let position = fresh.wait(&app, &["campaigns", "call_list_imports"]).await?;
    projections::campaigns::get(&mut *app.company(by.company_id()).await?, by.company_id(), id)
        .await?
        .ok_or_else(|| Problem::not_found("campaign"))?;
    let rows = projections::call_list_imports::list(
        &mut *app.company(by.company_id()).await?,
        by.company_id(),
        id,
        paging.after()?,
        paging.rows_to_read(),
    )
    .await?;
    let cursor = |row: &CallListImportRow| After { at: row.imported_at, id: row.import_id };
    let view = |row: CallListImportRow| ImportView {
        import_id: row.import_id,
        file_name: row.file_name,
        total: row.total,
        created: row.created,
        error_count: row.error_count,
        errors: row.errors,
        imported_at: row.imported_at,
    };
    Ok(Answer::ok(position, Items::page(rows, &paging, cursor, view)))
}
