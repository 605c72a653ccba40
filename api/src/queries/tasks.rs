//! Tasks and why they are as they are.

use std::collections::BTreeSet;

use axum::extract::State;
use domain::{call::Call, task::Task};
use eventstore::{Loaded, StreamName};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{AsOf, Fresh};
use crate::{
    answer::Answer,
    app::App,
    auth::{By, Viewer},
    extract::Id,
    problem::Problem,
    views::{History, TaskView},
};

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

/// Every event of the task and of its calls, in log order, with who and why.
#[utoipa::path(get, path = "/tasks/{id}/history", tag = "tasks", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = History), (status = 404, body = Problem)))]
async fn history(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<History>, Problem> {
    let position = fresh.of_log(&app).await?;
    let mut events = app.store.read_company_stream(by.company_id(), &StreamName::of::<Task>(id), 0).await?;
    let claimed = events.iter().filter(|event| event.event_type == "TaskClaimed");
    let claimed = claimed.filter_map(|event| event.payload().ok()?.get("call_id")?.as_str()?.parse().ok());
    // Calls can belong to a task without a claim.
    let mut calls: BTreeSet<Uuid> = claimed.collect();
    calls.extend(projections::calls::of_task(&mut *app.company(by.company_id()).await?, by.company_id(), id).await?);
    for call_id in calls {
        events.extend(app.store.read_company_stream(by.company_id(), &StreamName::of::<Call>(call_id), 0).await?);
    }
    events.sort_by_key(|event| event.position);
    super::events::history(events, "task", position)
}
