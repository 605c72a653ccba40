//! Tasks and why they are as they are.

use std::collections::BTreeSet;

use axum::extract::State;
use domain::{call::Call, task::Task};
use eventstore::{Filter, Loaded, StreamName};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{AsOf, Fresh, HistoryParams};
use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{By, Viewer},
    extract::{HistoryPaging, Id},
    problem::Problem,
    views::{EventView, TaskView},
};

/// Claims of a task that are read: more than it can have attempts.
const CLAIMS_MAX: usize = 1_000;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(history))
}

/// One task, now or at a moment.
#[utoipa::path(get, path = "/tasks/{id}", tag = "tasks", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), AsOf, Fresh),
    responses((status = 200, body = TaskView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf { as_of }: AsOf, fresh: Fresh) -> Result<Answer<TaskView>, Problem> {
    let position = fresh.wait(&app, &["call_tasks"]).await?;
    if let Some(moment) = as_of {
        let loaded: Loaded<Task> = app.store.load_as_of(by.company_id(), id, moment).await?;
        let task = loaded.state.created().ok_or_else(|| Problem::not_found("task at that moment"))?;
        let view = TaskView::from_state(id, task, (loaded.created_at, loaded.updated_at));
        return Ok(Answer::ok(position, view).version(loaded.version));
    }
    let mut row = projections::call_tasks::get(&mut *app.company(by.company_id()).await?, by.company_id(), id)
        .await?
        .ok_or_else(|| Problem::not_found("task"))?;
    app.store.persons().reveal(by.company_id(), std::slice::from_mut(&mut row)).await?;
    let version = row.stream_version;
    Ok(Answer::ok(position, row.into()).version(version))
}

/// Every event of the task and of its calls, in log order, with who and why. A long history comes in pages, also without a limit.
#[utoipa::path(get, path = "/tasks/{id}/history", tag = "tasks", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, HistoryParams),
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
    // Calls can belong to a task without a claim.
    let mut calls: BTreeSet<Uuid> = claimed.collect();
    calls.extend(projections::calls::of_task(&mut *app.company(by.company_id()).await?, by.company_id(), id).await?);
    let streams: Vec<_> = std::iter::once(task).chain(calls.into_iter().map(StreamName::of::<Call>)).collect();
    let history = super::events::history(&app, by.company_id(), &streams, "task", &paging).await?;
    Ok(Answer::ok(position, history))
}
