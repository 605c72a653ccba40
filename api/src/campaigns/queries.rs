//! Campaigns, their tasks, statistics, imports and histories.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use chrono::{DateTime, Utc};
use domain::{campaign::Campaign, outcome::Outcome, task::TaskStatus};
use eventstore::StreamName;
use projections::{
    call_list_imports::CallListImportRow,
    call_tasks::{self, CampaignStatsRow, TaskFilter},
    page::After,
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use services::{CampaignDetails, Pacing, Versioned};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    analytics::OutcomesView,
    answer::{Answer, Items},
    auth::{By, Viewer},
    campaigns::{CampaignView, PacingView},
    event_view::EventView,
    extract::{HistoryPaging, HistoryParams, Id, Paging, PagingParams, QueryOf},
    freshness::{AsOf, AsOfParams, Fresh},
    numbers::{seconds, share},
    phone_numbers::person_in_query,
    problem::Problem,
    state::App,
    tables::{FormatParams, List, Listing, WorkbookFile},
    tasks::{TaskView, max_attempts},
    words::{CampaignStatusName, OutcomeName, TaskStatusName},
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

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only campaigns with this status
    #[param(value_type = Option<CampaignStatusName>)]
    status: Option<String>,
    /// Only campaigns of this skillbase
    skillbase_id: Option<Uuid>,
}

/// Campaigns, newest first.
#[utoipa::path(get, path = "/campaigns", operation_id = "list_campaigns", tag = "campaigns", security(("bearer" = ["viewer"])), params(Filter, Fresh, PagingParams), responses((status = 200, body = Items<CampaignView>)))]
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
    let mut read = fresh.read(&app, by.company_id(), projections::campaigns::READS).await?;
    let position = read.position;
    let (status, after) = (filter.status.as_deref(), paging.after()?);
    let total = projections::campaigns::count(&mut read, by.company_id(), status, filter.skillbase_id).await?;
    let rows = projections::campaigns::list(&mut read, by.company_id(), status, filter.skillbase_id, after, paging.rows_to_read()).await?;
    let rows = rows.into_iter().map(|row| CampaignDetails::of_row(row, position)).collect::<Result<Vec<_>, _>>()?;
    let items = Items::page(rows, &paging, Versioned::after, |campaign| CampaignView::new(by.company_id(), campaign));
    Ok(Answer::ok(position, items.of(total)))
}

/// One campaign, at present or as of a given time.
#[utoipa::path(get, path = "/campaigns/{id}", operation_id = "get_campaign", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), AsOfParams, Fresh),
    responses((status = 200, body = CampaignView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf(as_of): AsOf, fresh: Fresh) -> Result<Answer<CampaignView>, Problem> {
    if let Some(moment) = as_of {
        fresh.of_log(&app).await?;
        let campaign = app.services.campaign_as_of(by.company_id(), id, moment).await?;
        return Ok(Answer::of(campaign, |campaign| CampaignView::new(by.company_id(), campaign)));
    }
    let mut read = fresh.read_by_key(&app, by.company_id(), projections::campaigns::READS).await?;
    let position = read.position;
    let row = projections::campaigns::get_with_counts(&mut read, by.company_id(), id).await?;
    let campaign = CampaignDetails::of_row(row.ok_or_else(|| Problem::not_found("campaign"))?, position)?;
    Ok(Answer::of(campaign, |campaign| CampaignView::new(by.company_id(), campaign)))
}

/// Every event of the campaign, oldest first, with its actor and cause. A long history is split into pages, even without a limit.
#[utoipa::path(get, path = "/campaigns/{id}/history", operation_id = "get_campaign_history", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, HistoryParams),
    responses((status = 200, body = Items<EventView>), (status = 404, body = Problem)))]
async fn history(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    HistoryPaging(paging): HistoryPaging,
) -> Result<Answer<Items<EventView>>, Problem> {
    let position = fresh.of_log(&app).await?;
    let history = crate::events::history(&app, &by.identity, &[StreamName::of::<Campaign>(id)], "campaign", &paging).await?;
    Ok(Answer::ok(position, history))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TaskParams {
    /// Only tasks with this status
    #[param(value_type = Option<TaskStatusName>)]
    status: Option<String>,
    /// Only tasks whose last attempt had this outcome
    #[param(value_type = Option<OutcomeName>)]
    outcome: Option<String>,
    /// With `+` and the country code; in a URL, encode `+` as `%2B` (`%2B12025550100`)
    phone_number: Option<String>,
}

impl TaskParams {
    async fn filter(self, app: &App, company_id: Uuid, raw_query: Option<&str>) -> Result<TaskFilter, Problem> {
        if self.status.as_ref().is_some_and(|status| status.parse::<TaskStatus>().is_err()) {
            return Err(Problem::bad_request("status must be pending, in_progress, retry, completed, failed or cancelled"));
        }
        if self.outcome.as_ref().is_some_and(|outcome| outcome.parse::<Outcome>().is_err()) {
            return Err(Problem::bad_request("outcome must be success, fail, voicemail, no_answer or busy"));
        }
        let person_id = person_in_query(app, company_id, self.phone_number.as_deref(), raw_query).await?;
        Ok(TaskFilter { status: self.status, outcome: self.outcome, person_id })
    }
}

/// The campaign's tasks, newest first. As a table, each column of the call list is a column again.
#[utoipa::path(get, path = "/campaigns/{id}/tasks", operation_id = "list_tasks", tag = "tasks", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), TaskParams, Fresh, PagingParams, FormatParams),
    responses((status = 200, content((Items<TaskView> = "application/json"), (String = "text/csv"), (WorkbookFile = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"))), (status = 404, body = Problem)))]
async fn tasks(
    State(app): State<App>,
    by: By<Viewer>,
    Id(campaign_id): Id,
    QueryOf(params): QueryOf<TaskParams>,
    RawQuery(raw_query): RawQuery,
    fresh: Fresh,
    listing: Listing,
) -> Result<Response, Problem> {
    let filter = params.filter(&app, by.company_id(), raw_query.as_deref()).await?;
    let tasks = Tasks { company_id: by.company_id(), campaign_id, filter, fresh };
    listing.answer(app, by, tasks).await
}

struct Tasks {
    company_id: Uuid,
    campaign_id: Uuid,
    filter: TaskFilter,
    fresh: Fresh,
}

impl List for Tasks {
    type Item = TaskView;
    const NAME: &'static str = "tasks";

    async fn page(&self, app: &App, paging: Paging) -> Result<Answer<Items<TaskView>>, Problem> {
        let mut read = self.fresh.read(app, self.company_id, projections::campaigns::READS).await?;
        let position = read.position;
        let max_attempts = max_attempts(projections::campaigns::get(&mut read, self.company_id, self.campaign_id).await?)?;
        let (after, limit) = (paging.after()?, usize::from(paging.limit));
        let total = match &self.filter {
            TaskFilter { status, outcome: None, person_id: None } => {
                Some(call_tasks::count(&mut read, self.company_id, self.campaign_id, status.as_deref()).await?)
            }
            _ => None,
        };
        let mut page = call_tasks::list(&mut read, self.company_id, self.campaign_id, &self.filter, after, limit).await?;
        drop(read);
        app.store.persons().reveal(self.company_id, &mut page.rows).await?;
        let items = Items::bounded(page, |row| row.position, |row| TaskView::of_row(row, max_attempts));
        Ok(Answer::ok(position, Items { total, ..items }))
    }
}

#[derive(Serialize, ToSchema)]
struct TaskCounts {
    /// All tasks
    total: i64,
    /// Tasks that wait for their first attempt
    pending: i64,
    /// Tasks whose attempt is in progress
    in_progress: i64,
    /// Tasks that wait for another attempt
    retry: i64,
    /// Tasks whose attempt was completed
    completed: i64,
    /// Tasks whose attempts have all failed
    failed: i64,
    /// Tasks that will not be called
    cancelled: i64,
}

#[derive(Serialize, ToSchema)]
struct Stats {
    /// Id of the campaign
    campaign_id: Uuid,
    /// Number of tasks by status
    tasks: TaskCounts,
    /// Number of tasks by the outcome of their last attempt
    outcomes: OutcomesView,
    /// Attempts of all tasks
    attempts: i64,
    /// Tasks with outcome success ÷ tasks completed or failed, 0 to 1
    success_rate: Option<f64>,
    /// Average over the campaign's ended calls
    average_duration_sec: Option<f64>,
    /// Cost of all calls of the campaign, an exact decimal
    cost_total: Decimal,
    /// Cost of all calls ÷ tasks with outcome success, rounded to 12 decimals; null before the first
    cost_per_success: Option<Decimal>,
    /// When the first attempt began
    first_attempt_at: Option<DateTime<Utc>>,
    /// When the last attempt began
    last_attempt_at: Option<DateTime<Utc>>,
    /// Attempts ÷ hours from the first to the last attempt, at least one hour
    calls_per_hour: Option<f64>,
    /// Why no call of the campaign begins at the moment, and when the next one can; null as of a time in the past
    pacing: Option<PacingView>,
}

/// Statistics of the campaign, at present or as of a given time.
///
/// As of a time, every event of its tasks and calls is read: for a campaign of some hundred thousand tasks this can take longer than a request
/// may, and is answered with 503.
#[utoipa::path(get, path = "/campaigns/{id}/stats", operation_id = "get_campaign_stats", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), AsOfParams, Fresh),
    responses((status = 200, body = Stats), (status = 404, body = Problem)))]
async fn stats(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf(as_of): AsOf, fresh: Fresh) -> Result<Answer<Stats>, Problem> {
    if let Some(moment) = as_of {
        fresh.of_log(&app).await?;
        let (row, position) = app.services.campaign_stats_as_of(by.company_id(), id, moment).await?;
        return Ok(Answer::ok(position, Stats::new(id, &row, None)));
    }
    let mut read = fresh.read_by_key(&app, by.company_id(), call_tasks::STATS_READS).await?;
    let position = read.position;
    let row = call_tasks::campaign_stats(&mut read, by.company_id(), id).await?.ok_or_else(|| Problem::not_found("campaign"))?;
    let campaign = row.campaign().map_err(|error| Problem::internal(&error))?;
    let pacing = Pacing::of(&campaign, row.pacing(), eventstore::now());
    Ok(Answer::ok(position, Stats::new(id, &row, Some(pacing))))
}

impl Stats {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn new(campaign_id: Uuid, row: &CampaignStatsRow, pacing: Option<Pacing>) -> Self {
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
            pacing: pacing.map(PacingView::from),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct ImportView {
    /// Id of the upload
    import_id: Uuid,
    /// Name of the uploaded file. It is stored unencrypted and kept after an erasure: do not use names of persons in it
    file_name: String,
    /// Rows under the header that are not blank
    total: i64,
    /// Tasks that were created
    created: i64,
    /// Rows that became no task
    error_count: i64,
    /// Why rows became no task, as in the answer to the upload
    errors: Vec<String>,
    /// When the list was uploaded
    imported_at: DateTime<Utc>,
}

/// The uploaded call lists and their results, newest first.
#[utoipa::path(get, path = "/campaigns/{id}/imports", operation_id = "list_imports", tag = "campaigns", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, PagingParams),
    responses((status = 200, body = Items<ImportView>), (status = 404, body = Problem)))]
async fn imports(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<ImportView>>, Problem> {
    let mut read =
        fresh.read(&app, by.company_id(), &[projections::campaigns::READ_MODEL, projections::call_list_imports::READ_MODEL]).await?;
    let position = read.position;
    projections::campaigns::get(&mut read, by.company_id(), id).await?.ok_or_else(|| Problem::not_found("campaign"))?;
    let rows = projections::call_list_imports::list(&mut read, by.company_id(), id, paging.after()?, paging.rows_to_read()).await?;
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
