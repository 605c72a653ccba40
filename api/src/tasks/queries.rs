//! Tasks and their histories.

use std::collections::BTreeSet;

use axum::extract::State;
use domain::{call::Call, campaign::Campaign, task::Task};
use eventstore::{Filter, StreamName};
use projections::Document;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{By, Viewer},
    event_view::EventView,
    extract::{HistoryPaging, HistoryParams, Id},
    freshness::{AsOf, AsOfParams, Fresh},
    problem::Problem,
    state::App,
    tasks::TaskView,
};

/// Maximum number of claims of a task that are read: more than a task can have attempts.
const CLAIMS_MAX: usize = 1_000;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(history))
}

/// Maximum number of attempts of the tasks of a campaign, from its row.
pub fn max_attempts(campaign: Option<Document<Campaign>>) -> Result<u32, Problem> {
    let campaign = campaign.ok_or_else(|| Problem::not_found("campaign"))?;
    Ok(campaign.into_data().map_err(|error| Problem::internal(&error))?.settings.max_retries)
}

/// One task, at present or as of a given time.
#[utoipa::path(get, path = "/tasks/{id}", operation_id = "get_task", tag = "tasks", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), AsOfParams, Fresh),
    responses((status = 200, body = TaskView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf(as_of): AsOf, fresh: Fresh) -> Result<Answer<TaskView>, Problem> {
    if let Some(moment) = as_of {
        let position = fresh.of_log(&app).await?;
        let task = app.services.task_as_of(by.company_id(), id, moment).await?;
        let max_attempts = app.services.max_attempts(by.company_id(), task.value.contact.campaign_id, Some(moment)).await?;
        return Ok(Answer { position, ..Answer::of(task, |task| TaskView::new(task, max_attempts)) });
    }
    let mut read = fresh.read_by_key(&app, by.company_id(), projections::campaigns::READS).await?;
    let position = read.position;
    let mut row = projections::call_tasks::get(&mut read, by.company_id(), id).await?.ok_or_else(|| Problem::not_found("task"))?;
    let campaign = projections::campaigns::get(&mut read, by.company_id(), row.campaign_id).await?;
    drop(read);
    let max_attempts = max_attempts(campaign)?;
    app.store.persons().reveal(by.company_id(), std::slice::from_mut(&mut row)).await?;
    let version = row.stream_version;
    Ok(Answer::ok(position, TaskView::of_row(row, max_attempts)).version(version))
}

/// Every event of the task and of its calls, in log order, with its actor and cause.
///
/// A long history is split into pages, even without a limit.
#[utoipa::path(get, path = "/tasks/{id}/history", operation_id = "get_task_history", tag = "tasks", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, HistoryParams),
    responses((status = 200, body = Items<EventView>), (status = 404, body = Problem)))]
async fn history(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    HistoryPaging(paging): HistoryPaging,
) -> Result<Answer<Items<EventView>>, Problem> {
    let position = fresh.of_log(&app).await?;
    let task = StreamName::of::<Task>(id);
    let claims = Filter { stream: Some(task.clone()), event_type: Some("TaskClaimed".to_owned()), ..Filter::default() };
    let claims = app.store.read_company_page(by.company_id(), 0, &claims, CLAIMS_MAX).await?.rows;
    let claimed = claims.iter().filter_map(|event| event.payload().ok()?.get("call_id")?.as_str()?.parse().ok());
    // A call can belong to a task without a claim.
    let mut calls: BTreeSet<Uuid> = claimed.collect();
    let mut read = app.services.read(by.company_id(), &[projections::calls::READ_MODEL], None).await?;
    calls.extend(projections::calls::of_task(&mut read, by.company_id(), id).await?);
    drop(read);
    let streams: Vec<_> = std::iter::once(task).chain(calls.into_iter().map(StreamName::of::<Call>)).collect();
    let history = crate::events::history(&app, &by.identity, &streams, "task", &paging).await?;
    Ok(Answer::ok(position, history))
}
