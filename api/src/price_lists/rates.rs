//! Rates as callers send them.

use domain::{
    decimal,
    price::{Rate, validate_rates},
    validation::Invalid,
};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    problem::Problem,
    words::{ComponentName, UnitName},
};

/// `price` for `per` units of a component, for one provider and model or for any.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateInput {
    #[schema(value_type = ComponentName, example = "stt")]
    component: domain::price::Component,
    provider: Option<String>,
    model: Option<String>,
    /// Exact decimal, e.g. "0.0043"
    #[schema(value_type = String, example = "0.0043")]
    price: Value,
    /// Without prime factors above 7, for example 1, 60, 1000 or 1000000
    per: u64,
    #[schema(value_type = UnitName, example = "second")]
    unit: domain::price::Unit,
}

/// Checks the given rates; the paths of problems are `rates[i]`.
pub fn parse_rates(inputs: Vec<RateInput>) -> Result<Vec<Rate>, Problem> {
    let mut invalid = Invalid::default();
    let rates: Vec<Rate> = inputs
        .into_iter()
        .enumerate()
        .map(|(i, input)| {
            let price = decimal::read_value(&input.price).unwrap_or_else(|error| {
                invalid.add(format!("rates[{i}].price"), error);
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
