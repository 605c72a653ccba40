//! What calls would have cost under other rates. Nothing is written.

use std::collections::BTreeMap;

use domain::price::{self, Component, Rate};
use eventstore::database::Access;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Billed, Costs, Line, costs_of, ledger, lists::Lists, query};
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

/// What the calls in the scope cost, and what they would have cost under `rates`. `progress` gets the number of calls that are done.
pub async fn what_if(
    access: &Access,
    scope: &Scope,
    rates: &[Rate],
    usage_from: UsageFrom,
    mut progress: impl FnMut(u64),
) -> Result<(Costs, Costs), ApplyError> {
    let (mut actual, mut other) = (Costs::default(), Costs::default());
    let (mut after, mut done) = (Uuid::nil(), 0);
    // The ledger at one moment, and the log up to the position that the ledger had read by then.
    let mut db = crate::snapshot(access, Some(scope.company_id), &[super::READ_MODEL]).await?;
    let until = sqlx::query_scalar!("select position from projection_checkpoints where name = 'cost_rollups'");
    let until = until.fetch_optional(&mut *db).await?.unwrap_or_default();
    loop {
        let bills = query::bills_in(&mut db, scope, after, CALLS).await?;
        let Some((last, _)) = bills.last() else { return Ok((actual, other)) };
        after = *last;
        done += bills.len() as u64;
        for line in bills.iter().flat_map(|(_, lines)| lines) {
            actual.add(line.component, line.cost);
        }
        let usage = match usage_from {
            UsageFrom::Ledger => bills,
            UsageFrom::Log => replayed(&mut db, scope.company_id, bills, until).await?,
        };
        for (_, lines) in &usage {
            reprice(lines, rates, &mut other);
        }
        progress(done);
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

fn reprice(lines: &[Line], rates: &[Rate], costs: &mut Costs) {
    // Pieces that different lists priced are one usage under the other rates.
    let mut usage: BTreeMap<(Component, Option<&str>, Option<&str>), Decimal> = BTreeMap::new();
    for line in lines {
        for piece in &line.usage {
            *usage.entry((line.component, line.provider.as_deref(), piece.model.as_deref())).or_default() += piece.quantity;
        }
    }
    let billed = usage.into_iter().map(|((component, provider, model), quantity)| {
        let rate = price::choose(rates, component, provider, model);
        Billed { component, provider, quantity, rate }
    });
    costs_of(&billed.collect::<Vec<_>>()).iter().for_each(|((component, _), cost)| costs.add(*component, *cost));
}
