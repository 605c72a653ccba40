//! Price lists.

use axum::extract::State;
use chrono::{DateTime, Utc};
use domain::{
    decimal,
    price::{Rate, validate_rates},
    price_list::{PriceList, PriceListCommand},
    validation::Invalid,
};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    app::App,
    auth::{Admin, By},
    extract::{Body, check_time},
    problem::Problem,
    queries::price_lists::PriceListView,
    words::{ComponentName, UnitName},
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(publish))
}

/// `price` for `per` units of a component, from one provider and model or from any.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateInput {
    #[schema(value_type = ComponentName, example = "stt")]
    component: domain::price::Component,
    provider: Option<String>,
    model: Option<String>,
    /// Exact, e.g. "0.0043"
    #[schema(value_type = String, example = "0.0043")]
    price: Value,
    per: u64,
    #[schema(value_type = UnitName, example = "second")]
    unit: domain::price::Unit,
}

/// Checks rates as they were given; paths are `rates[i]`.
pub fn parse_rates(inputs: Vec<RateInput>) -> Result<Vec<Rate>, Problem> {
    let mut invalid = Invalid::default();
    let rates: Vec<Rate> = inputs
        .into_iter()
        .enumerate()
        .map(|(i, input)| {
            let price = decimal::read_value(&input.price).unwrap_or_else(|error| {
                invalid.add(format!("rates[{i}].price"), error.to_string());
                Decimal::ZERO
            });
            Rate { component: input.component, provider: input.provider, model: input.model, price, per: input.per, unit: input.unit }
        })
        .collect();
    if let Err(Invalid(errors)) = validate_rates(&rates) {
        invalid.0.extend(errors);
    }
    invalid.into_result()?;
    Ok(rates)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PublishPriceList {
    name: String,
    effective_from: DateTime<Utc>,
    rates: Vec<RateInput>,
}

/// Publish a price list. It is in force from `effective_from` until the next list's; an earlier date reprices what it covers.
#[utoipa::path(post, path = "/price-lists", tag = "prices", security(("bearer" = ["admin"])), request_body = PublishPriceList,
    responses((status = 201, body = PriceListView), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn publish(State(app): State<App>, by: By<Admin>, Body(input): Body<PublishPriceList>) -> Result<Answer<PriceListView>, Problem> {
    let mut invalid = Invalid::default();
    invalid.name("name", &input.name, 200);
    check_time(&mut invalid, "effective_from", Some(input.effective_from));
    invalid.into_result()?;
    let rates = parse_rates(input.rates)?;
    let id: Uuid = by.ids.make("price_list");
    let command = PriceListCommand::Publish { name: input.name.clone(), effective_from: input.effective_from, rates: rates.clone() };
    let committed = app.store.execute::<PriceList>(&by.context(), id, command).await?;
    let loaded = app.store.load::<PriceList>(by.company_id(), id).await?;
    let view = PriceListView { id, name: input.name, effective_from: input.effective_from, rates, created_at: loaded.created_at };
    Ok(Answer::created(committed.position, view).version(committed.version))
}
