//! Rates as callers send them.

use domain::{
    decimal,
    price::{Rate, validate_rates},
    validation::Invalid,
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
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
    /// What is priced
    #[schema(value_type = ComponentName, example = "stt")]
    component: domain::price::Component,
    /// Only for this provider, as turns name it; absent: for any
    provider: Option<String>,
    /// Only for this model of the provider; absent: for any
    model: Option<String>,
    /// Exact decimal, e.g. "0.0043"
    #[schema(value_type = String, example = "0.0043")]
    price: Value,
    /// Without prime factors above 7, for example 1, 60, 1000 or 1000000
    per: u64,
    /// The unit that `per` counts
    #[schema(value_type = UnitName, example = "second")]
    unit: domain::price::Unit,
}

/// `price` for `per` units of a component, for one provider and model or for any
#[derive(Serialize, ToSchema)]
#[schema(as = Rate)]
pub struct RateView {
    /// What is priced
    component: ComponentName,
    /// Only for this provider; absent: for any
    provider: Option<String>,
    /// Only for this model of the provider; absent: for any
    model: Option<String>,
    /// An exact decimal
    #[schema(example = "0.0043")]
    price: String,
    /// How many units the price is for
    per: u64,
    /// The unit that `per` counts
    unit: UnitName,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::price::default_rates;
    use utoipa::{
        PartialSchema as _,
        openapi::{RefOr, Schema},
    };

    use super::*;

    #[test]
    fn the_document_has_the_fields_of_a_rate() {
        let RefOr::T(Schema::Object(described)) = RateView::schema() else { panic!("it is an object") };
        let rate = Rate { provider: Some("openai".to_owned()), model: Some("gpt-4o".to_owned()), ..default_rates().remove(0) };
        let written = serde_json::to_value(rate).unwrap();
        let written: BTreeSet<_> = written.as_object().unwrap().keys().collect();
        assert_eq!(described.properties.keys().collect::<BTreeSet<_>>(), written);
    }
}
