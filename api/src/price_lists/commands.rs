//! Price lists.

use axum::extract::State;
use chrono_tz::Tz;
use domain::{price::without_rate, validation::Invalid};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    auth::{Admin, By},
    extract::Body,
    price_lists::{
        queries::PriceListView,
        rates::{RateInput, parse_rates},
    },
    problem::Problem,
    state::App,
    times::WrittenTime,
};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(publish))
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

/// Publish a price list.
///
/// It is in force from `effective_from` until the date of the next list; a list with an earlier date changes the prices of the calls in its
/// period. A company's lists are published one after the other, a list with an earlier date once the costs include all events before it (503
/// if that takes more than a few seconds).
#[utoipa::path(post, path = "/price-lists", operation_id = "publish_price_list", tag = "prices", security(("bearer" = ["admin"])), request_body = PublishPriceList,
    responses((status = 201, body = PriceListView), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn publish(State(app): State<App>, by: By<Admin>, Body(input): Body<PublishPriceList>) -> Result<Answer<PriceListView>, Problem> {
    let mut invalid = Invalid::default();
    invalid.name("name", &input.name, 200);
    let effective_from = input.effective_from.in_zone(Tz::UTC);
    invalid.time("effective_from", Some(effective_from));
    invalid.into_result()?;
    let rates = parse_rates(input.rates)?;
    let _turn = app.shares.of_price_list(by.company_id()).await?;
    let published = app.services.publish_price_list(&by.op(), input.name.clone(), effective_from, rates.clone()).await?;
    Ok(Answer::of_new(published, |given| PriceListView {
        id: given.id,
        name: input.name,
        effective_from,
        unpriced: without_rate(&rates),
        rates,
        created_at: given.created_at,
    }))
}
