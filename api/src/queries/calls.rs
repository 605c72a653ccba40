//! Calls and why they are as they are.

use axum::extract::State;
use domain::call::Call;
use eventstore::{Loaded, StreamName};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AsOf, Fresh, HistoryParams};
use crate::{
    answer::{Answer, Items},
    app::App,
    auth::{By, Viewer},
    extract::{HistoryPaging, Id},
    problem::Problem,
    views::{CallView, EventView},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(history))
}

/// One call, now or at a moment.
#[utoipa::path(get, path = "/calls/{id}", tag = "calls", security(("bearer" = ["viewer"])), params(("id" = uuid::Uuid, Path), AsOf, Fresh),
    responses((status = 200, body = CallView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf { as_of }: AsOf, fresh: Fresh) -> Result<Answer<CallView>, Problem> {
    let position = fresh.wait(&app, &["calls"]).await?;
    if let Some(moment) = as_of {
        let loaded: Loaded<Call> = app.store.load_as_of(by.company_id(), id, moment).await?;
        let call = loaded.state.known().ok_or_else(|| Problem::not_found("call at that moment"))?;
        let view = CallView::from_state(id, call, (loaded.created_at, loaded.updated_at));
        return Ok(Answer::ok(position, view).version(loaded.version));
    }
    let mut row = projections::calls::get(&mut *app.company(by.company_id()).await?, by.company_id(), id)
        .await?
        .ok_or_else(|| Problem::not_found("call"))?;
    app.store.persons().reveal(by.company_id(), std::slice::from_mut(&mut row)).await?;
    let version = row.stream_version;
    Ok(Answer::ok(position, row.into()).version(version))
}

/// Every event of the call, oldest first, with who and why. A long history comes in pages, also without a limit.
#[utoipa::path(get, path = "/calls/{id}/history", tag = "calls", security(("bearer" = ["viewer"])), params(("id" = uuid::Uuid, Path), Fresh, HistoryParams),
    responses((status = 200, body = Items<EventView>), (status = 404, body = Problem)))]
async fn history(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    HistoryPaging(paging): HistoryPaging,
) -> Result<Answer<Items<EventView>>, Problem> {
    let position = fresh.of_log(&app).await?;
    let history = super::events::history(&app, by.company_id(), &[StreamName::of::<Call>(id)], "call", &paging).await?;
    Ok(Answer::ok(position, history))
}
