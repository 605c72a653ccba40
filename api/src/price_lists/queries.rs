//! Price lists, and the costs of calls under other prices.

use axum::extract::State;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::{
    decimal,
    price::{self, Component, Preset, Rate},
    validation::FieldFault,
};
use projections::{
    analytics::Scope,
    cost_rollups::{self, Billed, Costs, UsageFrom, costs_of},
    page::After,
    price_lists::PriceListRow,
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    analytics::{CostView, UnpricedView},
    answer::{Answer, Items},
    auth::{By, Viewer},
    extract::{Body, Id, Paging, PagingParams, QueryOf, read_period},
    freshness::Fresh,
    numbers::seconds,
    price_lists::rates::{RateInput, RateView, parse_rates},
    problem::Problem,
    state::App,
    times::WrittenTime,
    words::ComponentName,
};
use eventstore::now;

/// Largest quantity of an estimate.
const QUANTITY_MAX: u32 = 1_000_000_000;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(presets))
        .routes(routes!(estimate))
        .routes(routes!(get))
        .routes(routes!(what_if))
}

#[derive(Serialize, ToSchema)]
pub struct PriceListView {
    /// Id of the price list
    pub id: Uuid,
    /// The list's name
    pub name: String,
    /// The list is in force from this time until the next list's
    pub effective_from: DateTime<Utc>,
    /// The prices
    #[schema(value_type = Vec<RateView>)]
    pub rates: Vec<Rate>,
    /// Components for which the list has no rate at all: their usage costs nothing
    #[schema(value_type = Vec<ComponentName>)]
    pub unpriced: Vec<Component>,
    /// When the list was published
    pub created_at: DateTime<Utc>,
    /// When the list was withdrawn: then it prices nothing, as if it had never been published; null otherwise
    pub withdrawn_at: Option<DateTime<Utc>>,
}

fn view(row: PriceListRow) -> Result<PriceListView, Problem> {
    let rates: Vec<Rate> = serde_json::from_value(row.rates).map_err(|e| Problem::internal(&e))?;
    let PriceListRow { price_list_id: id, name, effective_from, created_at, withdrawn_at, .. } = row;
    Ok(PriceListView { id, name, effective_from, unpriced: price::without_rate(&rates), rates, created_at, withdrawn_at })
}

/// Rates that a company can publish.
#[derive(Serialize, ToSchema)]
struct PresetView {
    /// Name of the preset
    name: String,
    /// Where the prices are from, and since when they are known
    source: String,
    /// What to know before using it
    note: String,
    /// The prices
    #[schema(value_type = Vec<RateView>)]
    rates: Vec<Rate>,
}

#[derive(Serialize, ToSchema)]
struct Presets {
    /// All presets
    items: Vec<PresetView>,
}

/// Sets of rates to begin with: the original's, which every new company has, and public list prices. Publish one with `POST /price-lists`.
#[utoipa::path(get, path = "/price-lists/presets", operation_id = "list_price_presets", tag = "prices", security(("bearer" = ["viewer"])), params(Fresh), responses((status = 200, body = Presets)))]
async fn presets(State(app): State<App>, _by: By<Viewer>, fresh: Fresh) -> Result<Answer<Presets>, Problem> {
    let position = fresh.of_log(&app).await?;
    let view = |preset: Preset| PresetView {
        name: preset.name.to_owned(),
        source: preset.source.to_owned(),
        note: preset.note.to_owned(),
        rates: preset.rates,
    };
    Ok(Answer::ok(position, Presets { items: price::presets().map(view).into() }))
}

/// Price lists, the most recently published first, withdrawn ones included.
///
/// A new company has one list, whose price of speech recognition is 60 times the public one: `GET /price-lists/presets` has another one.
#[utoipa::path(get, path = "/price-lists", operation_id = "list_price_lists", tag = "prices", security(("bearer" = ["viewer"])), params(Fresh, PagingParams), responses((status = 200, body = Items<PriceListView>)))]
async fn list(State(app): State<App>, by: By<Viewer>, fresh: Fresh, paging: Paging) -> Result<Answer<Items<PriceListView>>, Problem> {
    let mut read = fresh.read(&app, by.company_id(), &[projections::price_lists::READ_MODEL]).await?;
    let position = read.position;
    let page = projections::price_lists::list(&mut read, by.company_id(), paging.after()?, usize::from(paging.limit)).await?;
    let page = Items::bounded(page, |row: &PriceListRow| After { at: row.created_at, id: row.price_list_id }, view);
    Ok(Answer::ok(position, Items { items: page.items.into_iter().collect::<Result<_, _>>()?, next_cursor: page.next_cursor, total: None }))
}

/// One price list.
#[utoipa::path(get, path = "/price-lists/{id}", operation_id = "get_price_list", tag = "prices", security(("bearer" = ["viewer"])), params(("id" = Uuid, Path), Fresh),
    responses((status = 200, body = PriceListView), (status = 404, body = Problem)))]
async fn get(State(app): State<App>, by: By<Viewer>, Id(id): Id, fresh: Fresh) -> Result<Answer<PriceListView>, Problem> {
    let mut read = fresh.read_by_key(&app, by.company_id(), &[projections::price_lists::READ_MODEL]).await?;
    let position = read.position;
    let row = projections::price_lists::get(&mut read, by.company_id(), id).await?.ok_or_else(|| Problem::not_found("price list"))?;
    let version = 1 + i64::from(row.withdrawn_at.is_some());
    Ok(Answer::ok(position, view(row)?).version(version))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"from": "2026-11-01", "to": "2026-12-01", "rates": [
    {"component": "stt", "price": "0.0043", "per": 1, "unit": "minute"}, {"component": "llm_input", "provider": "groq", "price": "0.05", "per": 1_000_000, "unit": "token"},
    {"component": "llm_output", "provider": "groq", "price": "0.08", "per": 1_000_000, "unit": "token"}, {"component": "tts", "price": "0.015", "per": 1_000, "unit": "character"},
    {"component": "livekit", "price": "0.004", "per": 1, "unit": "minute"}]}))]
#[serde(deny_unknown_fields)]
struct WhatIf {
    /// Either rates, or the id of a price list (`price_list_id`)
    rates: Option<Vec<RateInput>>,
    /// Id of a published list whose rates are tried
    price_list_id: Option<Uuid>,
    /// A date means the beginning of the day, UTC
    #[schema(value_type = String, example = "2026-11-01")]
    from: WrittenTime,
    /// Only calls that started before this time, or before the beginning of this day
    #[schema(value_type = String, example = "2026-12-01T00:00:00Z")]
    to: WrittenTime,
    /// Only calls of this campaign
    campaign_id: Option<Uuid>,
}

#[derive(Serialize, ToSchema)]
struct WhatIfView {
    /// Number of calls
    calls: u64,
    /// What the calls cost
    actual: CostView,
    /// What they would have cost
    what_if: CostView,
    /// what_if − actual
    difference: CostView,
    /// Usage for which the other rates have no rate: it costs nothing in `what_if`
    unpriced: Vec<UnpricedView>,
}

/// Compute the costs of the calls that started in `[from, to)` under other rates. Changes nothing.
#[utoipa::path(post, path = "/price-lists/what-if", operation_id = "ask_what_if", tag = "prices", security(("bearer" = ["viewer"])), request_body = WhatIf, params(Fresh),
    responses((status = 200, body = WhatIfView), (status = 422, body = Problem)))]
async fn what_if(State(app): State<App>, by: By<Viewer>, fresh: Fresh, Body(input): Body<WhatIf>) -> Result<Answer<WhatIfView>, Problem> {
    let models = &[projections::cost_rollups::READ_MODEL, projections::price_lists::READ_MODEL];
    let position = fresh.wait(&app, models).await?;
    let [from, to] = read_period(Some(input.from), Some(input.to), Tz::UTC)?;
    let rates = match (input.rates, input.price_list_id) {
        (Some(rates), None) => parse_rates(rates)?,
        (None, Some(id)) => {
            let mut read = app.services.read(by.company_id(), &[projections::price_lists::READ_MODEL], None).await?;
            let row = projections::price_lists::get(&mut read, by.company_id(), id).await?;
            view(row.ok_or_else(|| Problem::invalid("price_list_id", FieldFault::Unknown { what: "price list".to_owned() }))?)?.rates
        }
        _ => return Err(Problem::invalid("rates", FieldFault::EitherOr { field: "rates".to_owned(), other: "price_list_id".to_owned() })),
    };
    if let Some(id) = input.campaign_id {
        app.services.require_known_campaign(by.company_id(), id).await?;
    }
    let scope = Scope { company_id: by.company_id(), campaign_id: input.campaign_id, skillbase_id: None, from, to, timezone: Tz::UTC };
    let cost_rollups::WhatIf { calls, actual, other, unpriced } =
        cost_rollups::what_if(&app.access, &scope, &rates, UsageFrom::Ledger, |_| ()).await?;
    let difference = Costs {
        stt: other.stt - actual.stt,
        llm: other.llm - actual.llm,
        tts: other.tts - actual.tts,
        livekit: other.livekit - actual.livekit,
    };
    let unpriced = UnpricedView::all(&unpriced);
    let (actual, what_if, difference) = ((&actual).into(), (&other).into(), (&difference).into());
    Ok(Answer::ok(position, WhatIfView { calls, actual, what_if, difference, unpriced }))
}

/// Usage in a minute of conversation; each value can be given.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Assumptions {
    /// Seconds of caller speech in a minute
    #[serde(deserialize_with = "decimal::deserialize", serialize_with = "write_number")]
    #[param(value_type = f64, default = 30.0)]
    #[schema(value_type = f64, default = 30.0)]
    stt_seconds: Decimal,
    /// Tokens that the language model reads in a minute
    llm_input_tokens: i64,
    /// Tokens that the language model writes in a minute
    llm_output_tokens: i64,
    /// Characters that are spoken in a minute
    tts_characters: i64,
}

impl Default for Assumptions {
    fn default() -> Self {
        // The caller speaks half of the time; there are six turns, and each reads a prompt of about 600 tokens.
        Self { stt_seconds: Decimal::from(30), llm_input_tokens: 3_600, llm_output_tokens: 150, tts_characters: 450 }
    }
}

/// Writes a JSON number, for compatibility with releases in which the value was not exact.
fn write_number<S: Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(*value).serialize(serializer)
}

#[derive(Serialize, ToSchema)]
struct Estimate {
    /// Cost of one minute of conversation
    cost_per_minute: CostView,
    /// What the estimate is based on
    assumptions: Assumptions,
    /// Components of the minute for which the list in force has no rate: they cost nothing
    #[schema(value_type = Vec<ComponentName>)]
    unpriced: Vec<Component>,
}

/// The cost of a minute under the price list in force.
#[utoipa::path(get, path = "/price-lists/estimate", operation_id = "estimate_cost", tag = "prices", security(("bearer" = ["viewer"])), params(Assumptions, Fresh), responses((status = 200, body = Estimate), (status = 422, body = Problem)))]
async fn estimate(
    State(app): State<App>,
    by: By<Viewer>,
    QueryOf(assumptions): QueryOf<Assumptions>,
    fresh: Fresh,
) -> Result<Answer<Estimate>, Problem> {
    let mut read = fresh.read(&app, by.company_id(), &[projections::price_lists::READ_MODEL]).await?;
    let position = read.position;
    let row = projections::price_lists::in_force(&mut read, by.company_id(), now(), None).await?;
    let rates = row.map(view).transpose()?.map(|list| list.rates).unwrap_or_default();
    let quantity = |field: &str, number: Decimal| {
        let is_in_range = (Decimal::ZERO..=Decimal::from(QUANTITY_MAX)).contains(&number);
        is_in_range
            .then_some(number)
            .ok_or_else(|| Problem::invalid(field, FieldFault::OutOfRange { min: "0".to_owned(), max: QUANTITY_MAX.to_string() }))
    };
    let used = [
        (Component::Stt, quantity("stt_seconds", assumptions.stt_seconds)?),
        (Component::LlmInput, quantity("llm_input_tokens", assumptions.llm_input_tokens.into())?),
        (Component::LlmOutput, quantity("llm_output_tokens", assumptions.llm_output_tokens.into())?),
        (Component::Tts, quantity("tts_characters", assumptions.tts_characters.into())?),
        (Component::Livekit, Decimal::from(60)),
    ];
    let billed = used.map(|(component, quantity)| Billed {
        component,
        provider: None,
        quantity,
        rate: price::choose(&rates, component, None, None),
    });
    let mut costs = Costs::default();
    costs_of(&billed).iter().for_each(|((component, _), cost)| costs.add(*component, *cost));
    let unpriced = billed.iter().filter(|part| part.rate.is_none() && part.quantity > Decimal::ZERO).map(|part| part.component).collect();
    Ok(Answer::ok(position, Estimate { cost_per_minute: (&costs).into(), assumptions, unpriced }))
}
