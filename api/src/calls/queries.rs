//! Calls and their histories.

use axum::extract::State;
use domain::call::Call;
use eventstore::StreamName;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::{Answer, Items},
    auth::{By, Viewer},
    calls::CallView,
    event_view::EventView,
    extract::{HistoryPaging, HistoryParams, Id},
    freshness::{AsOf, Fresh},
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(history))
}

/// One call, at present or as of a given time.
#[utoipa::path(get, path = "/calls/{id}", operation_id = "get_call", tag = "calls", security(("bearer" = ["viewer"])), params(("id" = uuid::Uuid, Path), AsOf, Fresh),
    responses((status = 200, body = CallView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf { as_of }: AsOf, fresh: Fresh) -> Result<Answer<CallView>, Problem> {
    if let Some(moment) = as_of {
        let position = fresh.of_log(&app).await?;
        let call = app.services.call_as_of(by.company_id(), id, moment).await?;
        return Ok(Answer { position, ..Answer::of(call, CallView::new) });
    }
    let mut read = fresh.read_by_key(&app, by.company_id(), &[projections::calls::READ_MODEL]).await?;
    let position = read.position;
    let mut row = projections::calls::get(&mut read, by.company_id(), id).await?.ok_or_else(|| Problem::not_found("call"))?;
    drop(read);
    app.store.persons().reveal(by.company_id(), std::slice::from_mut(&mut row)).await?;
    let version = row.stream_version;
    Ok(Answer::ok(position, row.into()).version(version))
}

/// Every event of the call, oldest first, with its actor and cause. A long history is split into pages, even without a limit.
#[utoipa::path(get, path = "/calls/{id}/history", operation_id = "get_call_history", tag = "calls", security(("bearer" = ["viewer"])), params(("id" = uuid::Uuid, Path), Fresh, HistoryParams),
    responses((status = 200, body = Items<EventView>), (status = 404, body = Problem)))]
async fn history(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    HistoryPaging(paging): HistoryPaging,
) -> Result<Answer<Items<EventView>>, Problem> {
    let position = fresh.of_log(&app).await?;
    let history = crate::events::history(&app, by.company_id(), &[StreamName::of::<Call>(id)], "call", &paging).await?;
    Ok(Answer::ok(position, history))
}
