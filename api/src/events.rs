//! The company's events in log order.

use std::collections::BTreeSet;

use axum::extract::State;
use domain::{Decider as _, Fact, api_key::ApiKey, role::Role, user::User};
use eventstore::{BoundedPage, Filter, StoredEvent, StreamName};
use serde::Deserialize;
use services::identity::Identity;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    actors::name_users,
    answer::{Answer, Items},
    auth::{By, Viewer},
    event_view::EventView,
    extract::{Paging, PagingParams, QueryOf},
    freshness::Fresh,
    problem::Problem,
    state::App,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Filter for events.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only events after this position; default 0
    pub after: Option<i64>,
    /// Only events of streams of this kind: campaign, task, call, …
    pub category: Option<String>,
    /// Only events of this type, for example `TurnRecorded`
    pub event_type: Option<String>,
    /// `<category>-<uuid>`
    pub stream: Option<String>,
}

impl EventFilter {
    /// Builds the filter for the log. A negative position, an invalid stream name, and categories and event types that do not exist are
    /// answered with 400. Only auditors and admins see the events of users and API keys.
    pub fn parse(&self, role: Role) -> Result<Filter, Problem> {
        if self.after.is_some_and(|after| after < 0) {
            return Err(Problem::bad_request("after must not be negative"));
        }
        let catalogue = Fact::catalogue();
        let categories = catalogue.iter().map(|(category, ..)| *category);
        require_known("category", self.category.as_deref(), categories)?;
        require_known("event_type", self.event_type.as_deref(), catalogue.iter().map(|(_, event_type, _)| *event_type))?;
        let category_of_stream = self.stream.as_deref().and_then(|stream| stream.split_once('-')).map(|(category, _)| category);
        require_known("the category of stream", category_of_stream, catalogue.iter().map(|(category, ..)| *category))?;
        let stream = self.stream.as_deref().map(|name| name.parse::<StreamName>().map_err(|e| Problem::bad_request(e.to_string())));
        let hidden_categories = if role.includes(Role::Auditor) { Vec::new() } else { vec![User::CATEGORY, ApiKey::CATEGORY] };
        Ok(Filter { category: self.category.clone(), event_type: self.event_type.clone(), stream: stream.transpose()?, hidden_categories })
    }
}

/// Refuses a value that is none of those that exist.
fn require_known<'a>(parameter: &str, value: Option<&str>, known: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    let known: BTreeSet<_> = known.collect();
    match value.filter(|value| !known.contains(value)) {
        Some(_) => Err(Problem::bad_request(format!("{parameter} must be one of {}", known.into_iter().collect::<Vec<_>>().join(", ")))),
        None => Ok(()),
    }
}

/// The company's events, oldest first, after a position.
#[utoipa::path(get, path = "/events", operation_id = "list_events", tag = "events", security(("bearer" = ["viewer"])), params(EventFilter, Fresh, PagingParams), responses((status = 200, body = Items<EventView>), (status = 409, description = "The position is beyond the end of the log", body = Problem)))]
async fn list(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(filter): QueryOf<EventFilter>,
    fresh: Fresh,
    paging: Paging,
) -> Result<Answer<Items<EventView>>, Problem> {
    let position = fresh.of_log(&app).await?;
    let after = match paging.after::<i64>()? {
        Some(_) if filter.after.is_some() => return Err(Problem::bad_request("give after or cursor, not both")),
        Some(after) => after,
        None => require_in_log(&app, filter.after.unwrap_or(0), "begin again without after").await?,
    };
    let events = app.store.read_company_page(by.company_id(), after, &filter.parse(by.identity.role)?, usize::from(paging.limit)).await?;
    Ok(Answer::ok(position, view(&app, &by.identity, events).await))
}

/// A position that is not in the log yet may later belong to a different event than the one that the client has received.
/// `advice` says what to do instead.
pub(crate) async fn require_in_log(app: &App, after: i64, advice: &str) -> Result<i64, Problem> {
    let last = app.store.last_position().await?;
    if after <= last {
        return Ok(after);
    }
    Err(Problem::conflict(format!("position {after} is beyond the log, which ends at {last}; {advice}")))
}

/// The events of a company's streams, oldest first; 404 if there are none, or if the streams belong to another company.
pub(super) async fn history(
    app: &App,
    caller: &Identity,
    streams: &[StreamName],
    what: &str,
    paging: &Paging,
) -> Result<Items<EventView>, Problem> {
    let after = paging.after::<i64>()?;
    let page = app.store.read_history(caller.company_id, streams, after.unwrap_or(0), usize::from(paging.limit)).await?;
    if page.rows.is_empty() && after.is_none() {
        return Err(Problem::not_found(what));
    }
    Ok(view(app, caller, page).await)
}

/// A page of a company's events, with the names of their actors.
async fn view(app: &App, caller: &Identity, page: BoundedPage<StoredEvent>) -> Items<EventView> {
    let mut page = Items::bounded(page, |event| event.position, EventView::from);
    let actors = page.items.iter_mut().filter_map(|event| event.metadata.get_mut("actor"));
    name_users(app, caller, actors).await;
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_position_is_refused() {
        let parse = |after| EventFilter { after, category: None, event_type: None, stream: None }.parse(Role::Viewer).err();
        assert_eq!(parse(Some(-1)).map(|problem| problem.status), Some(400));
        assert!(parse(Some(0)).is_none() && parse(None).is_none());
    }

    #[test]
    fn kinds_of_events_that_do_not_exist_are_refused_with_those_that_do() {
        let refused = |category: Option<&str>, event_type: Option<&str>| {
            let filter =
                EventFilter { after: None, category: category.map(str::to_owned), event_type: event_type.map(str::to_owned), stream: None };
            filter.parse(Role::Viewer).err().map(|problem| problem.detail)
        };
        assert!(refused(Some("calls"), None).unwrap().contains("category must be one of api_key, call, campaign"));
        assert!(refused(None, Some("TurnAdded")).unwrap().contains("TurnRecorded"));
        assert_eq!(refused(Some("call"), Some("TurnRecorded")), None);
    }
}
