//! Calls and their histories.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use domain::call::Call;
use eventstore::StreamName;
use projections::calls::{CallFilter, CallRow};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::{Answer, Items},
    auth::{By, Viewer},
    calls::{CallParams, CallView},
    event_view::EventView,
    extract::{HistoryPaging, HistoryParams, Id, Paging, PagingParams, QueryOf},
    freshness::{AsOf, AsOfParams, Fresh},
    problem::Problem,
    state::App,
    tables::{FormatParams, List, Listing, WorkbookFile},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(history))
}

/// Calls, newest first. `GET /analytics/calls` has their metrics and costs as well.
#[utoipa::path(get, path = "/calls", operation_id = "list_calls", tag = "calls", security(("bearer" = ["viewer"])), params(CallParams, Fresh, PagingParams, FormatParams),
    responses((status = 200, content((Items<CallView> = "application/json"), (String = "text/csv"), (WorkbookFile = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")))))]
async fn list(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(params): QueryOf<CallParams>,
    RawQuery(raw_query): RawQuery,
    fresh: Fresh,
    listing: Listing,
) -> Result<Response, Problem> {
    let filter = params.filter(&app, by.company_id(), raw_query.as_deref()).await?;
    let calls = Calls { company_id: by.company_id(), filter, fresh };
    listing.answer(app, by, calls).await
}

struct Calls {
    company_id: Uuid,
    filter: CallFilter,
    fresh: Fresh,
}

impl List for Calls {
    type Item = CallView;
    const NAME: &'static str = "calls";

    async fn page(&self, app: &App, paging: Paging) -> Result<Answer<Items<CallView>>, Problem> {
        let mut read = self.fresh.read(app, self.company_id, &[projections::calls::READ_MODEL]).await?;
        let position = read.position;
        let mut rows = projections::calls::list(&mut read, self.company_id, &self.filter, paging.after()?, paging.rows_to_read()).await?;
        drop(read);
        app.store.persons().reveal(self.company_id, &mut rows).await?;
        Ok(Answer::ok(position, Items::page(rows, &paging, CallRow::place, CallView::from)))
    }
}

/// One call, at present or as of a given time.
#[utoipa::path(get, path = "/calls/{id}", operation_id = "get_call", tag = "calls", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), AsOfParams, Fresh),
    responses((status = 200, body = CallView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf(as_of): AsOf, fresh: Fresh) -> Result<Answer<CallView>, Problem> {
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
#[utoipa::path(get, path = "/calls/{id}/history", operation_id = "get_call_history", tag = "calls", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, HistoryParams),
    responses((status = 200, body = Items<EventView>), (status = 404, body = Problem)))]
async fn history(
    State(app): State<App>,
    by: By<Viewer>,
    Id(id): Id,
    fresh: Fresh,
    HistoryPaging(paging): HistoryPaging,
) -> Result<Answer<Items<EventView>>, Problem> {
    let position = fresh.of_log(&app).await?;
    let history = crate::events::history(&app, &by.identity, &[StreamName::of::<Call>(id)], "call", &paging).await?;
    Ok(Answer::ok(position, history))
}
