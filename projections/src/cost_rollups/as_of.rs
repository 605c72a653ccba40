//! Costs as of a time in the past. The ledger stores present bills only: the calls are folded from the log again, up to the last event that
//! was recorded until then, and billed under the lists that were published by then. So an answer as of a time is the one that the ledger
//! gave at that time.

use std::collections::BTreeMap;

use domain::price::Component;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{CallCosts, CostGroupBy, CostRow, Costs, LedgerCall, Line, Repricing, Unpriced, ledger, query};
use crate::{
    analytics::{AsOf, Scope},
    engine::{ApplyError, ReadModel},
};

/// What [`costs_as_of`] and [`bill_as_of`] read, beside the log.
pub const AS_OF_READS: &[ReadModel] = &[super::READ_MODEL, crate::calls::READ_MODEL];

/// Calls that are folded in one batch.
const CALLS: i64 = 500;

/// The costs of some calls.
#[derive(Debug, Default)]
pub struct CostsAsOf {
    pub totals: CostRow,
    /// By key; empty without `group_by`.
    pub groups: BTreeMap<Option<String>, CostRow>,
    /// Number of calls that had ended.
    pub ended_count: i64,
    /// Their duration.
    pub duration_sec: Decimal,
}

/// The costs of the calls that were in the scope at the time. It reads every event of each call, from one [`snapshot`](crate::snapshot).
pub async fn costs_as_of(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<CostGroupBy>,
    as_of: AsOf,
) -> Result<CostsAsOf, ApplyError> {
    let lists = ledger::lists_as_of(db, scope.company_id, as_of.position).await?;
    let mut found = CostsAsOf::default();
    let mut after = Uuid::nil();
    loop {
        let ids = query::calls_as_of(db, scope, as_of.moment, after, CALLS).await?;
        let Some(last) = ids.last() else { break };
        after = *last;
        let calls = ledger::refold(db, scope.company_id, &ids, as_of.position, &lists).await?;
        for call in calls.values().filter(|call| call.is_in(scope)) {
            found.add(call, scope, group_by);
        }
    }
    found.groups.retain(|_, row| !row.is_empty());
    Ok(found)
}

/// A call's bill and its repricings until then; `None` if there was no such call then.
pub async fn bill_as_of(
    db: &mut PgConnection,
    company_id: Uuid,
    call_id: Uuid,
    as_of: AsOf,
) -> Result<Option<(CallCosts, Vec<Repricing>)>, ApplyError> {
    if crate::calls::get(db, company_id, call_id).await?.is_none() {
        return Ok(None);
    }
    let lists = ledger::lists_as_of(db, company_id, as_of.position).await?;
    let mut calls = ledger::refold(db, company_id, &[call_id], as_of.position, &lists).await?;
    let Some(call) = calls.remove(&call_id) else { return Ok(None) };
    let repricings = query::repricings_of(db, company_id, call_id).await?;
    let repricings = repricings.into_iter().filter(|repricing| repricing.position <= as_of.position).collect();
    Ok(Some((CallCosts { costs: Costs::of(&call.lines), lines: call.lines }, repricings)))
}

impl LedgerCall {
    fn is_in(&self, scope: &Scope) -> bool {
        let (from, to) = scope.bounds();
        from <= self.started_at
            && self.started_at < to
            && scope.campaign_id.is_none_or(|id| self.campaign_id == Some(id))
            && scope.skillbase_id.is_none_or(|id| self.skillbase_id == Some(id))
    }
}

impl CostsAsOf {
    fn add(&mut self, call: &LedgerCall, scope: &Scope, group_by: Option<CostGroupBy>) {
        self.ended_count += i64::from(call.duration_sec.is_some());
        self.duration_sec += call.duration_sec.unwrap_or_default();
        for line in &call.lines {
            self.totals.add(line);
            if let Some(by) = group_by {
                self.groups.entry(key(by, call, line, scope)).or_default().add(line);
            }
        }
    }
}

fn key(group_by: CostGroupBy, call: &LedgerCall, line: &Line, scope: &Scope) -> Option<String> {
    match group_by {
        CostGroupBy::Calls(by) => by.key(call.started_at, call.campaign_id, call.skillbase_id, scope.timezone),
        CostGroupBy::Component => Some(line.component.to_string()),
        CostGroupBy::Provider => line.provider.clone(),
    }
}

impl CostRow {
    fn add(&mut self, line: &Line) {
        self.costs.add(line.component, line.cost);
        // Each call has one line of LiveKit.
        self.call_count += i64::from(line.component == Component::Livekit);
        for piece in line.usage.iter().filter(|piece| !piece.priced && piece.quantity > Decimal::ZERO) {
            let unpriced = Unpriced { component: line.component, provider: line.provider.clone(), model: piece.model.clone() };
            *self.unpriced.entry(unpriced).or_default() += piece.quantity;
        }
    }
}
