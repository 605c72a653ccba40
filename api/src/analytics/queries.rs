//! Calls with their metrics and costs, and aggregates over many calls.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use chrono::{DateTime, Utc};
use projections::{
    ReadModel,
    analytics::{self, GroupBy, Scope},
    call_logs::CampaignTurns,
    call_metrics::{self, Aggregate, CallMetricsRow},
    calls::{CallFilter, CallRow},
    cost_rollups::{self, CostGroupBy, CostRow, Costs},
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use services::{Read, Versioned, tables::Cell};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    analytics::{
        bills::{BillView, PriceLists},
        view::{AggregateView, CallMetricsView, CostFields, CostsView, Group, MetricsView, UnpricedView},
    },
    answer::{Answer, Items},
    auth::{By, Viewer},
    calls::{CallParams, CallView, TurnView},
    extract::{Cursor as _, Id, Paging, PagingParams, QueryOf, read_period},
    freshness::{AsOf, AsOfParams, Fresh},
    problem::Problem,
    state::App,
    tables::{FormatParams, List, Listing, Row, WorkbookFile},
    times::WrittenTime,
    words::CostGroupByName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(calls))
        .routes(routes!(metrics_of_call))
        .routes(routes!(bill))
        .routes(routes!(turns))
        .routes(routes!(turns_of_campaign))
        .routes(routes!(metrics))
        .routes(routes!(costs))
}

/// The read models that hold a call's metrics.
const METRICS: &[ReadModel] = &[call_metrics::READ_MODEL, cost_rollups::READ_MODEL];
/// The read models that a list of turns uses.
const TURNS: &[ReadModel] = &[projections::calls::READ_MODEL, projections::call_logs::READ_MODEL];
/// The read models that a list of calls with metrics uses.
const CALLS_WITH_METRICS: &[ReadModel] = &[projections::calls::READ_MODEL, call_metrics::READ_MODEL, cost_rollups::READ_MODEL];

/// `models`, and the read models with the names of the groups.
fn with_names(models: &[ReadModel], group_by: Option<CostGroupBy>) -> Vec<ReadModel> {
    let names: &[ReadModel] = match group_by {
        Some(CostGroupBy::Calls(GroupBy::Campaign)) => projections::campaigns::READS,
        Some(CostGroupBy::Calls(GroupBy::Skillbase)) => &[projections::skillbases::READ_MODEL],
        _ => &[],
    };
    [models, names].concat()
}

/// A call with its metrics and costs.
#[derive(Serialize, ToSchema)]
pub struct CallWithMetrics {
    #[serde(flatten)]
    call: CallView,
    /// Figures of the call; null until its first turn or its end is in the read model
    metrics: Option<CallMetricsView>,
    /// Cost of the call so far, an exact decimal
    cost_total: Decimal,
}

impl Row for CallWithMetrics {
    fn names() -> Vec<&'static str> {
        [CallView::names(), CallMetricsView::names(), vec!["cost_total"]].concat()
    }

    fn cells(&self) -> Vec<Cell> {
        let metrics = self.metrics.as_ref().map_or_else(|| vec![Cell::Null; CallMetricsView::names().len()], Row::cells);
        [self.call.cells(), metrics, vec![self.cost_total.into()]].concat()
    }
}

/// Call history, newest first.
#[utoipa::path(get, path = "/analytics/calls", operation_id = "list_calls_with_metrics", tag = "analytics", security(("bearer" = ["viewer"])), params(CallParams, Fresh, PagingParams, FormatParams),
    responses((status = 200, content((Items<CallWithMetrics> = "application/json"), (String = "text/csv"), (WorkbookFile = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")))))]
async fn calls(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(params): QueryOf<CallParams>,
    RawQuery(raw_query): RawQuery,
    fresh: Fresh,
    listing: Listing,
) -> Result<Response, Problem> {
    let filter = params.filter(&app, by.company_id(), raw_query.as_deref()).await?;
    let calls = CallsWithMetrics { company_id: by.company_id(), filter, fresh };
    listing.answer(app, by, calls).await
}

struct CallsWithMetrics {
    company_id: Uuid,
    filter: CallFilter,
    fresh: Fresh,
}

impl List for CallsWithMetrics {
    type Item = CallWithMetrics;
    const NAME: &'static str = "calls";

    async fn page(&self, app: &App, paging: Paging) -> Result<Answer<Items<CallWithMetrics>>, Problem> {
        let mut read = self.fresh.read(app, self.company_id, CALLS_WITH_METRICS).await?;
        let position = read.position;
        let mut rows = projections::calls::list(&mut read, self.company_id, &self.filter, paging.after()?, paging.rows_to_read()).await?;
        let of_calls = MetricsOfCalls::read(&mut read, self.company_id, &rows).await?;
        drop(read);
        app.store.persons().reveal(self.company_id, &mut rows).await?;
        Ok(Answer::ok(position, Items::page(rows, &paging, CallRow::place, |row| of_calls.beside(row))))
    }
}

/// The metrics and costs of some calls.
pub struct MetricsOfCalls {
    metrics: HashMap<Uuid, CallMetricsRow>,
    costs: HashMap<Uuid, Costs>,
}

impl MetricsOfCalls {
    pub async fn read(db: &mut PgConnection, company_id: Uuid, rows: &[CallRow]) -> Result<Self, Problem> {
        let ids: Vec<_> = rows.iter().map(|row| row.call_id).collect();
        let costs = cost_rollups::of_calls(&mut *db, company_id, &ids).await?;
        let metrics = call_metrics::of_calls(db, company_id, &ids).await?;
        Ok(Self { metrics: metrics.into_iter().map(|row| (row.call_id, row)).collect(), costs })
    }

    /// The call row together with its metrics and costs.
    pub fn beside(&self, row: CallRow) -> CallWithMetrics {
        let none = Costs::default();
        let costs = self.costs.get(&row.call_id).unwrap_or(&none);
        let metrics = self.metrics.get(&row.call_id).map(|metrics| CallMetricsView::new(metrics, costs));
        CallWithMetrics { cost_total: costs.total().normalize(), metrics, call: row.into() }
    }
}

/// The metrics and costs of one call.
#[utoipa::path(get, path = "/analytics/calls/{id}/metrics", operation_id = "get_call_metrics", tag = "analytics", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = CallMetricsView), (status = 404, body = Problem)))]
async fn metrics_of_call(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<CallMetricsView>, Problem> {
    let mut read = fresh.read_by_key(&app, by.company_id(), METRICS).await?;
    let position = read.position;
    let row = call_metrics::get_with_costs(&mut read, by.company_id(), id).await?;
    let (row, costs) = row.ok_or_else(|| Problem::not_found("call"))?;
    Ok(Answer::ok(position, CallMetricsView::new(&row, &costs)))
}

/// The costs of one call and their reasons: the lines of the bill, and each change by a price list that was published or withdrawn later; at
/// present or as of a given time.
#[utoipa::path(get, path = "/analytics/calls/{id}/costs", operation_id = "get_call_costs", tag = "analytics", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), AsOfParams, Fresh),
    responses((status = 200, body = BillView), (status = 404, body = Problem)))]
async fn bill(State(app): State<App>, by: By<Viewer>, Id(id): Id, AsOf(as_of): AsOf, fresh: Fresh) -> Result<Answer<BillView>, Problem> {
    let (mut snapshot, as_of) = costs_snapshot(&app, &by, fresh, as_of, &[projections::price_lists::READ_MODEL]).await?;
    let position = snapshot.position;
    let (bill, repricings) = match as_of {
        None => {
            let bill = cost_rollups::bill_of(&mut snapshot, by.company_id(), id).await?.ok_or_else(|| Problem::not_found("call"))?;
            (bill, cost_rollups::repricings_of(&mut snapshot, by.company_id(), id).await?)
        }
        Some(as_of) => {
            let bill = cost_rollups::bill_as_of(&mut snapshot, by.company_id(), id, as_of).await?;
            bill.ok_or_else(|| Problem::not_found("call at that moment"))?
        }
    };
    let mut named: Vec<_> = bill.lines.iter().flat_map(|line| &line.usage).filter_map(|piece| piece.price_list_id).collect();
    named.extend(repricings.iter().map(|repricing| repricing.price_list_id));
    named.extend(repricings.iter().flat_map(|r| &r.changes).flat_map(|change| &change.price_lists_before));
    let lists = cost_rollups::lists_of(&mut snapshot, by.company_id(), &named).await?;
    drop(snapshot);
    let lists = PriceLists::new(lists);
    Ok(Answer::ok(position, BillView::new(id, bill, repricings, &lists)))
}

/// The turns of one call, by turn index.
#[utoipa::path(get, path = "/analytics/calls/{id}/turns", operation_id = "list_turns", tag = "analytics", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, PagingParams, FormatParams),
    responses((status = 200, content((Items<TurnView> = "application/json"), (String = "text/csv"), (WorkbookFile = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"))), (status = 404, body = Problem)))]
async fn turns(State(app): State<App>, by: By<Viewer>, Id(call_id): Id, fresh: Fresh, listing: Listing) -> Result<Response, Problem> {
    let turns = TurnsOfCall { company_id: by.company_id(), call_id, fresh };
    listing.answer(app, by, turns).await
}

struct TurnsOfCall {
    company_id: Uuid,
    call_id: Uuid,
    fresh: Fresh,
}

impl List for TurnsOfCall {
    type Item = TurnView;
    const NAME: &'static str = "turns";

    async fn page(&self, app: &App, paging: Paging) -> Result<Answer<Items<TurnView>>, Problem> {
        let mut read = self.fresh.read(app, self.company_id, TURNS).await?;
        let position = read.position;
        projections::calls::get(&mut read, self.company_id, self.call_id).await?.ok_or_else(|| Problem::not_found("call"))?;
        let limit = usize::from(paging.limit);
        let mut page = projections::call_logs::page_of_call(&mut read, self.company_id, self.call_id, paging.after()?, limit).await?;
        drop(read);
        app.store.persons().reveal(self.company_id, &mut page.rows).await?;
        Ok(Answer::ok(position, Items::bounded(page, |row| row.turn_index, TurnView::from)))
    }
}

/// The turns of a campaign's calls: newest call first, the turns of a call by turn index.
#[utoipa::path(get, path = "/campaigns/{id}/turns", operation_id = "list_turns_of_campaign", tag = "analytics", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh, PagingParams, FormatParams),
    responses((status = 200, content((Items<TurnView> = "application/json"), (String = "text/csv"), (WorkbookFile = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"))), (status = 404, body = Problem)))]
async fn turns_of_campaign(
    State(app): State<App>,
    by: By<Viewer>,
    Id(campaign_id): Id,
    fresh: Fresh,
    listing: Listing,
) -> Result<Response, Problem> {
    let turns = TurnsOfCampaign { company_id: by.company_id(), campaign_id, fresh };
    listing.answer(app, by, turns).await
}

struct TurnsOfCampaign {
    company_id: Uuid,
    campaign_id: Uuid,
    fresh: Fresh,
}

impl List for TurnsOfCampaign {
    type Item = TurnView;
    const NAME: &'static str = "turns";

    async fn page(&self, app: &App, paging: Paging) -> Result<Answer<Items<TurnView>>, Problem> {
        let models = [TURNS, projections::campaigns::READS].concat();
        let mut read = self.fresh.read(app, self.company_id, &models).await?;
        let position = read.position;
        projections::campaigns::get(&mut read, self.company_id, self.campaign_id).await?.ok_or_else(|| Problem::not_found("campaign"))?;
        let (after, limit) = (paging.after()?, usize::from(paging.limit));
        let turns = projections::call_logs::page_of_campaign(&mut read, self.company_id, self.campaign_id, after, limit).await?;
        drop(read);
        let CampaignTurns { mut page, last } = turns;
        app.store.persons().reveal(self.company_id, &mut page.rows).await?;
        let next_cursor = last.filter(|_| page.has_more).map(|place| place.write());
        Ok(Answer::ok(position, Items { items: page.rows.into_iter().map(TurnView::from).collect(), next_cursor, total: None }))
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct GroupParams {
    /// Only calls that started at or after this time; a date means the beginning of the day in `timezone`
    #[param(value_type = Option<String>, example = "2026-11-20")]
    from: Option<WrittenTime>,
    /// Only calls that started before this time, or before the beginning of this day
    #[param(value_type = Option<String>, example = "2026-11-21T12:00:00Z")]
    to: Option<WrittenTime>,
    /// Only calls of this campaign
    campaign_id: Option<Uuid>,
    /// Only calls of this skillbase
    skillbase_id: Option<Uuid>,
    /// Without it, the answer has totals only; metrics cannot be grouped by component or provider
    #[param(value_type = Option<CostGroupByName>)]
    group_by: Option<String>,
    /// IANA time zone for hours, days and dates; default UTC
    timezone: Option<String>,
}

impl GroupParams {
    fn scope(&self, company_id: Uuid) -> Result<Scope, Problem> {
        let timezone = self.timezone.as_deref().unwrap_or("UTC").parse();
        let timezone = timezone.map_err(|_| Problem::bad_request("timezone must be an IANA time zone, e.g. Europe/Prague"))?;
        let [from, to] = read_period(self.from, self.to, timezone)?;
        Ok(Scope { company_id, campaign_id: self.campaign_id, skillbase_id: self.skillbase_id, from, to, timezone })
    }

    /// The group of calls, for metrics.
    fn group_of_calls(&self) -> Result<Option<GroupBy>, Problem> {
        match self.group_by() {
            Ok(None) => Ok(None),
            Ok(Some(CostGroupBy::Calls(group_by))) => Ok(Some(group_by)),
            Ok(Some(_)) | Err(_) => Err(Problem::bad_request("group_by must be hour, day, campaign or skillbase")),
        }
    }

    fn group_by(&self) -> Result<Option<CostGroupBy>, Problem> {
        Ok(Some(match self.group_by.as_deref() {
            None => return Ok(None),
            Some("hour") => CostGroupBy::Calls(GroupBy::Hour),
            Some("day") => CostGroupBy::Calls(GroupBy::Day),
            Some("campaign") => CostGroupBy::Calls(GroupBy::Campaign),
            Some("skillbase") => CostGroupBy::Calls(GroupBy::Skillbase),
            Some("component") => CostGroupBy::Component,
            Some("provider") => CostGroupBy::Provider,
            Some(_) => return Err(Problem::bad_request("group_by must be hour, day, campaign, skillbase, component or provider")),
        }))
    }
}

/// A snapshot of the ledger and of other read models, at present or for an answer as of a time.
async fn costs_snapshot(
    app: &App,
    by: &By<Viewer>,
    fresh: Fresh,
    moment: Option<DateTime<Utc>>,
    others: &[ReadModel],
) -> Result<(Read, Option<analytics::AsOf>), Problem> {
    match moment {
        None => {
            let models = [&[cost_rollups::READ_MODEL], others].concat();
            Ok((fresh.snapshot(app, by.company_id(), &models).await?, None))
        }
        Some(moment) => {
            fresh.of_log(app).await?;
            let models = [cost_rollups::AS_OF_READS, others].concat();
            let (snapshot, as_of) = app.services.snapshot_as_of(by.company_id(), &models, moment).await?;
            Ok((snapshot, Some(as_of)))
        }
    }
}

/// Names of the groups whose keys are ids.
async fn names(
    db: &mut PgConnection,
    company_id: Uuid,
    group_by: Option<CostGroupBy>,
    keys: &BTreeSet<String>,
) -> Result<HashMap<String, String>, Problem> {
    let mut names = HashMap::new();
    for key in keys {
        let Ok(id) = Uuid::try_parse(key) else { continue };
        let name = match group_by {
            Some(CostGroupBy::Calls(GroupBy::Campaign)) => {
                let row = projections::campaigns::get(&mut *db, company_id, id).await?;
                row.map(|row| Versioned::of_document(row, 0)).transpose()?.map(|campaign| campaign.value.settings.name)
            }
            Some(CostGroupBy::Calls(GroupBy::Skillbase)) => {
                projections::skillbases::get(&mut *db, company_id, id).await?.map(|row| row.name)
            }
            _ => None,
        };
        names.extend(name.map(|name| (key.clone(), name)));
    }
    Ok(names)
}

/// The groups in the order of their keys.
fn groups<T>(fields: BTreeMap<Option<String>, T>, names: &HashMap<String, String>) -> Vec<Group<T>> {
    let name = |key: &Option<String>| key.as_ref().and_then(|key| names.get(key)).cloned();
    fields.into_iter().map(|(key, fields)| Group { name: name(&key), key, fields }).collect()
}

/// Metrics over the turns of many calls, in total or by group. Percentiles are exact to within 1 %.
#[utoipa::path(get, path = "/analytics/metrics", operation_id = "get_metrics", tag = "analytics", security(("bearer" = ["viewer"])), params(GroupParams, Fresh), responses((status = 200, body = MetricsView)))]
async fn metrics(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(params): QueryOf<GroupParams>,
    fresh: Fresh,
) -> Result<Answer<MetricsView>, Problem> {
    let scope = params.scope(by.company_id())?;
    let group_by = params.group_of_calls()?;
    let mut snapshot = fresh.snapshot(&app, by.company_id(), &with_names(METRICS, group_by.map(CostGroupBy::Calls))).await?;
    let position = snapshot.position;
    let whole = aggregates(&mut snapshot, &scope, None).await?;
    let totals = whole.into_values().next().unwrap_or_else(|| AggregateView::new(&Aggregate::default(), &Costs::default()));
    let Some(group_by) = group_by else { return Ok(Answer::ok(position, MetricsView { group_by: None, totals, groups: None })) };
    let of_groups = aggregates(&mut snapshot, &scope, Some(group_by)).await?;
    let keys = of_groups.keys().flatten().cloned().collect();
    let names = names(&mut snapshot, by.company_id(), Some(CostGroupBy::Calls(group_by)), &keys).await?;
    let body = MetricsView { group_by: Some(group_by.to_string()), totals, groups: Some(groups(of_groups, &names)) };
    Ok(Answer::ok(position, body))
}

async fn aggregates(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<GroupBy>,
) -> Result<BTreeMap<Option<String>, AggregateView>, Problem> {
    let costs = cost_rollups::costs(db, scope, group_by.map(CostGroupBy::Calls)).await?;
    let aggregates = call_metrics::aggregate(db, scope, group_by).await?;
    let (no_calls, no_costs) = (Aggregate::default(), Costs::default());
    // One projection may be ahead of the other: a group is listed if either projection has it.
    let keys: BTreeSet<_> = aggregates.keys().chain(costs.keys()).cloned().collect();
    let views = keys.into_iter().map(|key| {
        let costs = costs.get(&key).map_or(&no_costs, |row| &row.costs);
        let view = AggregateView::new(aggregates.get(&key).unwrap_or(&no_calls), costs);
        (key, view)
    });
    Ok(views.collect())
}

/// The costs of calls, in total or by group, at present or as of a given time. The groups sum exactly to the totals.
///
/// As of a time, the answer is the one of that time: without later turns and ends, and with the price lists that were published until then.
/// Every event of the calls is read: a long period can take longer than a request may, and is answered with 503. Names of groups are the
/// present ones.
#[utoipa::path(get, path = "/analytics/costs", operation_id = "get_costs", tag = "analytics", security(("bearer" = ["viewer"])), params(GroupParams, AsOfParams, Fresh), responses((status = 200, body = CostsView)))]
async fn costs(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(params): QueryOf<GroupParams>,
    AsOf(as_of): AsOf,
    fresh: Fresh,
) -> Result<Answer<CostsView>, Problem> {
    let (scope, group_by) = (params.scope(by.company_id())?, params.group_by()?);
    let (mut snapshot, as_of) = costs_snapshot(&app, &by, fresh, as_of, &with_names(&[], group_by)).await?;
    let position = snapshot.position;
    let (whole, of_groups) = match as_of {
        None => {
            let whole = cost_rollups::costs(&mut snapshot, &scope, None).await?.into_values().next().unwrap_or_default();
            let of_groups = match group_by {
                None => BTreeMap::new(),
                some => cost_rollups::costs(&mut snapshot, &scope, some).await?,
            };
            (whole, of_groups)
        }
        Some(as_of) => {
            let costs = cost_rollups::costs_as_of(&mut snapshot, &scope, group_by, as_of).await?;
            (costs.totals, costs.groups)
        }
    };
    let Some(group_by) = group_by else {
        return Ok(Answer::ok(position, CostsView { group_by: None, totals: CostFields::of_calls(&whole), groups: None }));
    };
    let names = names(&mut snapshot, by.company_id(), Some(group_by), &of_groups.keys().flatten().cloned().collect()).await?;
    let by_part = matches!(group_by, CostGroupBy::Component | CostGroupBy::Provider);
    let fields = |row: &CostRow| if by_part { CostFields::of_part(row) } else { CostFields::of_calls(row) };
    let totals = CostFields { unpriced: Some(UnpricedView::all(&whole.unpriced)), ..fields(&whole) };
    let of_groups = of_groups.iter().map(|(key, row)| (key.clone(), fields(row))).collect();
    Ok(Answer::ok(position, CostsView { group_by: params.group_by, totals, groups: Some(groups(of_groups, &names)) }))
}
