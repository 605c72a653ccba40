//! What calls would have cost under other rates: the ledger's usage, priced anew. Nothing is written.

use std::collections::HashMap;

use domain::price::{self, Component, Rate};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Billed, Costs, costs_of, query};
use crate::call_metrics::Scope;

/// Calls that are looked at in one go.
const CALLS: i64 = 1_000;

/// What the calls in the scope cost, and what they would have cost under `rates`. `progress` hears how many are done.
pub async fn what_if(pool: &PgPool, scope: &Scope, rates: &[Rate], mut progress: impl FnMut(u64)) -> Result<(Costs, Costs), sqlx::Error> {
    let (mut actual, mut other) = (Costs::default(), Costs::default());
    let (mut after, mut done) = (Uuid::nil(), 0);
    loop {
        let ids = query::calls_in(pool, scope, after, CALLS).await?;
        let Some(last) = ids.last() else { return Ok((actual, other)) };
        after = *last;
        for cost in query::of_calls(pool, scope.company_id, &ids).await? {
            actual.add(&cost.component, cost.cost);
        }
        reprice(pool, scope.company_id, &ids, rates, &mut other).await?;
        done += ids.len() as u64;
        progress(done);
    }
}

async fn reprice(pool: &PgPool, company_id: Uuid, ids: &[Uuid], rates: &[Rate], costs: &mut Costs) -> Result<(), sqlx::Error> {
    let usage = query::usage_of_calls(pool, company_id, ids).await?;
    let named = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    let mut by_call: HashMap<Uuid, Vec<Billed<'_>>> = HashMap::new();
    for used in &usage {
        let Ok(component) = used.component.parse::<Component>() else { continue };
        let rate = price::choose(rates, component, named(&used.provider).as_deref(), named(&used.model).as_deref());
        by_call.entry(used.call_id).or_default().push(Billed { component, provider: &used.provider, quantity: used.quantity, rate });
    }
    for billed in by_call.values() {
        costs_of(billed).iter().for_each(|((component, _), cost)| costs.add(&component.to_string(), *cost));
    }
    Ok(())
}
