//! What calls would have cost under other rates. Nothing is written.

use std::collections::BTreeMap;

use domain::price::{self, Component, Rate};
use eventstore::database::Access;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Billed, Costs, Line, Unpriced, costs_of, ledger, lists::Lists, query};
use crate::{analytics::Scope, engine::ApplyError};

/// Calls that are read in one batch.
const CALLS: i64 = 1_000;

/// The source of the usage that is priced again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageFrom {
    /// From the ledger's bills.
    Ledger,
    /// From the log: every call is folded again, turn by turn.
    Log,
}

/// Costs of the same calls under two sets of rates.
#[derive(Debug, Default)]
pub struct WhatIf {
    /// Number of calls.
    pub calls: u64,
    /// What the calls cost.
    pub actual: Costs,
    /// What they would have cost under the other rates.
    pub other: Costs,
    /// Usage for which the other rates have no rate.
    pub unpriced: BTreeMap<Unpriced, Decimal>,
}

/// Prices the calls in the scope under `rates`. `progress` gets the number of calls that are done.
pub async fn what_if(
    access: &Access,
    scope: &Scope,
    rates: &[Rate],
    usage_from: UsageFrom,
    mut progress: impl FnMut(u64),
) -> Result<WhatIf, ApplyError> {
    let mut found = WhatIf::default();
    let mut after = Uuid::nil();
    // The ledger at one moment, and the log up to the position that the ledger had read by then.
    let mut db = crate::snapshot(access, Some(scope.company_id), &[super::READ_MODEL]).await?;
    let until = sqlx::query_scalar!("select position from projection_checkpoints where name = 'cost_rollups'");
    let until = until.fetch_optional(&mut *db).await?.unwrap_or_default();
    loop {
        let bills = query::bills_in(&mut db, scope, after, CALLS).await?;
        let Some((last, _)) = bills.last() else { return Ok(found) };
        after = *last;
        found.calls += bills.len() as u64;
        for line in bills.iter().flat_map(|(_, lines)| lines) {
            found.actual.add(line.component, line.cost);
        }
        let usage = match usage_from {
            UsageFrom::Ledger => bills,
            UsageFrom::Log => replayed(&mut db, scope.company_id, bills, until).await?,
        };
        for (_, lines) in &usage {
            found.reprice(lines, rates);
        }
        progress(found.calls);
    }
}

/// The bills of the same calls, folded from the log; only their usage is needed.
async fn replayed(
    db: &mut PgConnection,
    company_id: Uuid,
    bills: Vec<(Uuid, Vec<Line>)>,
    until: i64,
) -> Result<Vec<(Uuid, Vec<Line>)>, ApplyError> {
    let ids: Vec<_> = bills.into_iter().map(|(id, _)| id).collect();
    let calls = ledger::refold(db, company_id, &ids, until, &Lists::default()).await?;
    Ok(calls.into_values().map(|call| (call.call_id, call.lines)).collect())
}

impl WhatIf {
    /// Adds the cost of one call under the other rates.
    fn reprice(&mut self, lines: &[Line], rates: &[Rate]) {
        // Pieces that different lists priced are one usage under the other rates.
        let mut usage: BTreeMap<(Component, Option<&str>, Option<&str>), Decimal> = BTreeMap::new();
        for line in lines {
            for piece in &line.usage {
                *usage.entry((line.component, line.provider.as_deref(), piece.model.as_deref())).or_default() += piece.quantity;
            }
        }
        let mut billed = Vec::with_capacity(usage.len());
        for ((component, provider, model), quantity) in usage {
            let rate = price::choose(rates, component, provider, model);
            if rate.is_none() && quantity > Decimal::ZERO {
                let unpriced = Unpriced { component, provider: provider.map(str::to_owned), model: model.map(str::to_owned) };
                *self.unpriced.entry(unpriced).or_default() += quantity;
            }
            billed.push(Billed { component, provider, quantity, rate });
        }
        costs_of(&billed).iter().for_each(|((component, _), cost)| self.other.add(*component, *cost));
    }
}
