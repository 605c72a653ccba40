//! What the publication or the withdrawal of a price list would change. Nothing is written.

use chrono::{DateTime, Utc};
use domain::price::Rate;
use eventstore::database::Access;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Calls, Costs, LedgerCall, REPRICE_CALLS,
    bill::{Usage, UsageKey},
    ledger,
    lists::{List, Lists, Rates},
    lists_in_force,
};
use crate::engine::ApplyError;

/// A change of a company's price lists.
#[derive(Clone, Copy, Debug)]
pub enum ListChange<'a> {
    Publish { effective_from: DateTime<Utc>, rates: &'a [Rate] },
    Withdraw { price_list_id: Uuid },
}

/// The calls whose bills a change of the price lists changes, and what they cost before and after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repriced {
    pub calls: u64,
    pub cost_before: Decimal,
    pub cost_after: Decimal,
}

/// The lists after the change, and the period whose usage it prices again.
struct Changed {
    lists: Lists,
    from: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
    /// The rates of a list that is not published yet.
    rates: Rates,
}

/// What the change would change in the bills, as the ledger has them now.
pub async fn preview(access: &Access, company_id: Uuid, change: ListChange<'_>) -> Result<Repriced, ApplyError> {
    let mut db = crate::snapshot(access, Some(company_id), &[super::READ_MODEL]).await?;
    let position = sqlx::query_scalar!("select position from projection_checkpoints where name = $1", super::READ_MODEL.name());
    let position = position.fetch_optional(&mut *db).await?.unwrap_or_default();
    let mut repriced = Repriced::default();
    let Some(changed) = Changed::by(change, lists_in_force(&mut db, company_id).await?) else { return Ok(repriced) };
    let mut after = Uuid::nil();
    loop {
        let ids = ledger::calls_using(&mut db, company_id, changed.from, changed.until, after, REPRICE_CALLS).await?;
        let Some(last) = ids.last() else { return Ok(repriced) };
        after = *last;
        let before = ledger::load(&mut db, ids.iter().map(|id| (company_id, *id)).collect()).await?;
        for call in changed.bills(&mut db, company_id, &before, position).await?.into_values() {
            repriced.add(&before, &call);
        }
    }
}

impl Changed {
    /// `None` if the ledger does not have the list that is to be withdrawn.
    fn by(change: ListChange<'_>, before: Lists) -> Option<Self> {
        match change {
            ListChange::Publish { effective_from, rates } => {
                let list = List { id: Uuid::nil(), effective_from, position: i64::MAX };
                let id = list.id;
                let lists = before.with(list);
                Some(Self { from: effective_from, until: lists.end_of(id), lists, rates: Rates::from([(id, rates.to_vec())]) })
            }
            ListChange::Withdraw { price_list_id } => {
                let from = before.get(price_list_id)?.effective_from;
                let until = before.end_of(price_list_id);
                Some(Self { from, until, lists: before.without(price_list_id), rates: Rates::new() })
            }
        }
    }

    /// The bills of the calls after the change. Calls that used nothing outside the period are priced from their bills; the others are
    /// folded from the log again, because a bill has no times.
    async fn bills(&self, db: &mut PgConnection, company_id: Uuid, before: &Calls, position: i64) -> Result<Calls, ApplyError> {
        let (inside, across): (Vec<_>, Vec<_>) = before.values().partition(|call| self.covers(call));
        let across: Vec<_> = across.into_iter().map(|call| call.call_id).collect();
        let mut calls = ledger::refold_usage(db, company_id, &across, position, &self.lists).await?;
        let price_list_id = self.lists.in_force(self.from);
        let of_list = |call: &LedgerCall| LedgerCall { usage: under(price_list_id, &call.usage), ..call.clone() };
        calls.extend(inside.into_iter().map(|call| (call.call_id, of_list(call))));
        ledger::bill_with(db, calls.values_mut().map(|call| (call, &self.lists)).collect(), self.rates.clone()).await?;
        Ok(calls)
    }

    fn covers(&self, call: &LedgerCall) -> bool {
        self.from <= call.first_usage_at && self.until.is_none_or(|until| call.last_usage_at < until)
    }
}

/// The usage under one list.
fn under(price_list_id: Option<Uuid>, usage: &Usage) -> Usage {
    let mut of_list = Usage::new();
    for (key, quantity) in usage {
        *of_list.entry(UsageKey { price_list_id, ..key.clone() }).or_default() += *quantity;
    }
    of_list
}

impl Repriced {
    fn add(&mut self, before: &Calls, after: &LedgerCall) {
        let lines = before.get(&after.call_id).map_or(&[][..], |call| &call.lines);
        if !ledger::changes(lines, &after.lines).is_empty() {
            self.calls += 1;
            self.cost_before += Costs::of(lines).total();
            self.cost_after += Costs::of(&after.lines).total();
        }
    }
}
