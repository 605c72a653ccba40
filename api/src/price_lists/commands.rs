//! Price lists.

use axum::{Extension, extract::State};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use domain::{
    price::{Component, Rate, without_rate},
    validation::Invalid,
};
use eventstore::now;
use projections::cost_rollups::Repriced;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use services::{Versioned, Withdrawal};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    auth::{Admin, By},
    edge::Unchanged,
    extract::{Body, Id, QueryOf},
    price_lists::rates::{RateInput, RateView, parse_rates},
    problem::Problem,
    state::App,
    times::WrittenTime,
    words::ComponentName,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(publish)).routes(routes!(withdraw))
}

#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"name": "November", "effective_from": "2026-11-01", "rates": [
    {"component": "stt", "price": "0.0043", "per": 1, "unit": "minute"}, {"component": "llm_input", "provider": "groq", "price": "0.05", "per": 1_000_000, "unit": "token"},
    {"component": "llm_output", "provider": "groq", "price": "0.08", "per": 1_000_000, "unit": "token"}, {"component": "tts", "price": "0.015", "per": 1_000, "unit": "character"},
    {"component": "livekit", "price": "0.004", "per": 1, "unit": "minute"}]}))]
#[serde(deny_unknown_fields)]
struct PublishPriceList {
    /// A name for the users of the company
    name: String,
    /// A date means the beginning of the day, UTC
    #[schema(value_type = String, example = "2026-11-01")]
    effective_from: WrittenTime,
    /// The complete list: what it does not name costs nothing while it is in force
    rates: Vec<RateInput>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PublishParams {
    /// true: only answer what the list would change; nothing is published
    #[param(default = false)]
    dry_run: Option<bool>,
}

/// A price list and what it changes.
#[derive(Serialize, ToSchema)]
struct PublishedPriceList {
    /// Id of the price list; null for a dry run
    id: Option<Uuid>,
    /// Whether nothing was published
    dry_run: bool,
    /// The list's name
    name: String,
    /// The list is in force from this time until the next list's
    effective_from: DateTime<Utc>,
    /// The prices
    #[schema(value_type = Vec<RateView>)]
    rates: Vec<Rate>,
    /// Components for which the list has no rate at all: their usage costs nothing
    #[schema(value_type = Vec<ComponentName>)]
    unpriced: Vec<Component>,
    /// The calls whose bills the list changes; null if its period has too many calls to price them in time, or if the request repeats one that
    /// has published the list
    reprices: Option<RepricesView>,
    /// When the list was published; null for a dry run
    created_at: Option<DateTime<Utc>>,
}

/// What a price list or its withdrawal changes.
#[derive(Serialize, ToSchema)]
struct RepricesView {
    /// Number of calls whose bills change
    calls: u64,
    /// What these calls cost before, an exact decimal
    cost_before: Decimal,
    /// What these calls cost afterwards, an exact decimal
    cost_after: Decimal,
}

impl From<Repriced> for RepricesView {
    fn from(repriced: Repriced) -> Self {
        let Repriced { calls, cost_before, cost_after } = repriced;
        Self { calls, cost_before: cost_before.normalize(), cost_after: cost_after.normalize() }
    }
}

/// Publish a price list.
///
/// It is a complete list, in force from `effective_from` until the date of the next list. A list with an earlier date changes the prices of
/// what was used in its period, and the answer says which bills change: how many, and what these calls cost before and after.
/// `dry_run=true` answers the same and publishes nothing. A company's lists are published one after the other, a list with an earlier date
/// once the costs include all events before it (503 if that takes more than a few seconds).
#[utoipa::path(post, path = "/price-lists", operation_id = "publish_price_list", tag = "prices", security(("bearer" = ["admin"])), params(PublishParams), request_body = PublishPriceList,
    responses((status = 201, body = PublishedPriceList), (status = 200, description = "A dry run: nothing was published", body = PublishedPriceList), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn publish(
    State(app): State<App>,
    by: By<Admin>,
    QueryOf(PublishParams { dry_run }): QueryOf<PublishParams>,
    Body(input): Body<PublishPriceList>,
) -> Result<(Option<Extension<Unchanged>>, Answer<PublishedPriceList>), Problem> {
    let mut invalid = Invalid::default();
    invalid.name("name", &input.name, 200);
    let effective_from = input.effective_from.in_zone(Tz::UTC);
    invalid.time("effective_from", Some(effective_from));
    invalid.into_result()?;
    let rates = parse_rates(input.rates)?;
    let _turn = app.shares.of_price_list(by.company_id()).await?;
    let dry_run = dry_run.unwrap_or_default();
    // The calls of the list's period are priced.
    let _share = if effective_from < now() { Some(app.shares.of_expensive(by.company_id()).await?) } else { None };
    let unpriced = without_rate(&rates);
    let list = |id, reprices: Option<Repriced>, rates, created_at| {
        let (name, reprices) = (input.name.clone(), reprices.map(RepricesView::from));
        PublishedPriceList { id, dry_run, name, effective_from, rates, unpriced, reprices, created_at }
    };
    if dry_run {
        let reprices = app.services.try_price_list(by.company_id(), effective_from, &rates).await?;
        return Ok((Some(Extension(Unchanged)), Answer::ok(app.store.head().position(), list(None, Some(reprices), rates, None))));
    }
    let published = app.services.publish_price_list(&by.op(), input.name.clone(), effective_from, rates.clone()).await?;
    let (published, reprices) = published;
    Ok((None, Answer::of_new(published, |given| list(Some(given.id), reprices, rates, Some(given.created_at)))))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WithdrawParams {
    /// true: only answer what the withdrawal would change; the list stays
    #[param(default = false)]
    dry_run: Option<bool>,
}

/// A withdrawal and what it changes.
#[derive(Serialize, ToSchema)]
#[schema(as = Withdrawal)]
struct WithdrawalView {
    /// Id of the price list
    id: Uuid,
    /// Whether nothing was withdrawn
    dry_run: bool,
    /// The calls whose bills the withdrawal changes; null if the list's period has too many calls to price them in time, or if the list was
    /// withdrawn already
    reprices: Option<RepricesView>,
    /// Components for which the list that takes its place has no rate: their usage costs nothing. All components, if no list is left
    #[schema(value_type = Vec<ComponentName>)]
    unpriced: Vec<Component>,
    /// When the list was withdrawn; null for a dry run
    withdrawn_at: Option<DateTime<Utc>>,
}

/// Withdraw a price list.
///
/// It prices nothing any more, as if it had never been published: what was used in its period is priced by the list before it, and bills say so.
/// The list stays readable. `dry_run=true` answers the same and withdraws nothing.
#[utoipa::path(post, path = "/price-lists/{id}/withdraw", operation_id = "withdraw_price_list", tag = "prices", security(("bearer" = ["admin"])), params(("id" = Uuid, Path), WithdrawParams),
    responses((status = 200, body = WithdrawalView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 412, body = Problem)))]
async fn withdraw(
    State(app): State<App>,
    by: By<Admin>,
    Id(id): Id,
    QueryOf(WithdrawParams { dry_run }): QueryOf<WithdrawParams>,
) -> Result<(Option<Extension<Unchanged>>, Answer<WithdrawalView>), Problem> {
    let _turn = app.shares.of_price_list(by.company_id()).await?;
    let _share = app.shares.of_expensive(by.company_id()).await?;
    if dry_run.unwrap_or_default() {
        let Withdrawal { reprices, unpriced } = app.services.try_withdrawal(by.company_id(), id).await?;
        let withdrawal = WithdrawalView { id, dry_run: true, reprices: reprices.map(RepricesView::from), unpriced, withdrawn_at: None };
        return Ok((Some(Extension(Unchanged)), Answer::ok(app.store.head().position(), withdrawal)));
    }
    let withdrawn = app.services.withdraw_price_list(&by.op(), id).await?;
    let view = |given: Versioned<Withdrawal>| {
        let Withdrawal { reprices, unpriced } = given.value;
        let reprices = reprices.map(RepricesView::from);
        WithdrawalView { id, dry_run: false, reprices, unpriced, withdrawn_at: Some(given.updated_at) }
    };
    Ok((None, Answer::of(withdrawn, view)))
}
