//! The cost ledger: what each call used and costs, and the totals of the calls. Each turn is priced by the list that was in force when it
//! happened. A list that is published later for an earlier date prices the turns that it covers again, and so does the withdrawal of a list;
//! the ledger stores what that changed.

mod as_of;
mod bill;
mod ledger;
mod lists;
mod preview;
mod query;
mod rollups;
mod what_if;

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact,
    call::{Call, CallEvent},
    price::{Component, Rate},
    price_list::{PriceList, PriceListEvent},
};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

pub use as_of::{AS_OF_READS, CostsAsOf, bill_as_of, costs_as_of};
pub use bill::{Billed, Costs, Line, Piece, costs_of};
pub use preview::{ListChange, Repriced, preview};
pub use query::{
    CallCosts, Change, CostGroupBy, CostRow, NamedList, Repricing, Unpriced, bill_of, costs, count, lists_of, of_calls, repricings_of,
};
pub use what_if::{UsageFrom, WhatIf, what_if};

use crate::{
    call_metrics::RollupKey,
    engine::{ApplyError, Projection, ReadModel, Recorded, Table},
};
use bill::{Usage, UsageKey};
use lists::{List, Lists};

pub const READ_MODEL: ReadModel = ReadModel::new("cost_rollups");

pub struct CostRollups;

/// A call in the ledger.
#[derive(Clone, Debug, PartialEq)]
struct LedgerCall {
    company_id: Uuid,
    call_id: Uuid,
    campaign_id: Option<Uuid>,
    skillbase_id: Option<Uuid>,
    started_at: DateTime<Utc>,
    duration_sec: Option<Decimal>,
    first_usage_at: DateTime<Utc>,
    last_usage_at: DateTime<Utc>,
    /// Without LiveKit's usage, which follows from start and duration.
    usage: Usage,
    /// The bill as it is stored; older than `usage` until the call is billed again.
    lines: Vec<Line>,
}

impl LedgerCall {
    fn new(event: &Recorded) -> Self {
        Self {
            company_id: event.company_id,
            call_id: event.id,
            campaign_id: None,
            skillbase_id: None,
            started_at: event.recorded_at,
            duration_sec: None,
            first_usage_at: event.occurred_at,
            last_usage_at: event.occurred_at,
            usage: Usage::new(),
            lines: Vec::new(),
        }
    }

    fn used_at(&mut self, at: DateTime<Utc>) {
        self.first_usage_at = self.first_usage_at.min(at);
        self.last_usage_at = self.last_usage_at.max(at);
    }

    fn fold(&mut self, event: &Recorded, fact: &CallEvent, lists: &Lists) {
        match fact {
            CallEvent::CallDialed(subject) | CallEvent::CallStarted { subject, .. } => {
                (self.campaign_id, self.skillbase_id) = (subject.campaign_id, subject.skillbase_id);
                if let CallEvent::CallStarted { started_at, .. } = fact {
                    self.started_at = *started_at;
                    self.used_at(*started_at);
                }
            }
            CallEvent::TurnRecorded(turn) => {
                self.used_at(event.occurred_at);
                let price_list_id = lists.in_force(event.occurred_at);
                turn.usage().for_each(|used| bill::add(&mut self.usage, &used, price_list_id));
            }
            CallEvent::CallEnded(end) => self.duration_sec = Some(end.duration_sec),
            CallEvent::CallOutcomeClassified(_) => {}
        }
    }

    /// All usage including LiveKit's: a call that has not ended has used no LiveKit yet.
    fn whole_usage(&self, lists: &Lists) -> Usage {
        let price_list_id = lists.in_force(self.started_at);
        let livekit = UsageKey { component: Component::Livekit, provider: None, model: None, price_list_id };
        let mut usage = self.usage.clone();
        usage.insert(livekit, self.duration_sec.unwrap_or_default());
        usage
    }

    fn key(&self) -> RollupKey {
        RollupKey::new(self.company_id, self.started_at, self.campaign_id, self.skillbase_id)
    }
}

crate::register!(CostRollups);

#[async_trait]
impl Projection for CostRollups {
    fn read_model(&self) -> ReadModel {
        READ_MODEL
    }

    fn version(&self) -> i32 {
        3
    }

    fn tables(&self) -> &'static [Table] {
        const {
            &[
                Table::by("cost_rollups", "hour"),
                Table::by("cost_calls", "started_at"),
                Table::by("call_repricings", "repriced_at"),
                Table::new("campaign_costs"),
                Table::by("cost_price_lists", "effective_from"),
            ]
        }
    }

    fn categories(&self) -> &'static [&'static str] {
        &[Call::CATEGORY, PriceList::CATEGORY]
    }

    /// A list for the past prices calls again, and a withdrawal may.
    fn may_take_long(&self, event: &Recorded) -> bool {
        match &event.fact {
            Fact::PriceList(PriceListEvent::PriceListPublished { effective_from, .. }) => *effective_from < event.recorded_at,
            Fact::PriceList(PriceListEvent::PriceListWithdrawn {}) => true,
            _ => false,
        }
    }

    async fn apply(&self, db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
        // A new or a withdrawn list ends a stretch of calls: the turns that it covers are priced again before the next call is folded.
        for stretch in events.chunk_by(|_, next| !matches!(next.fact, Fact::PriceList(_))) {
            let (lists, calls): (Vec<&Recorded>, Vec<&Recorded>) = stretch.iter().partition(|e| matches!(e.fact, Fact::PriceList(_)));
            for event in lists {
                match &event.fact {
                    Fact::PriceList(PriceListEvent::PriceListPublished { effective_from, rates, .. }) => {
                        let list = List { id: event.id, effective_from: *effective_from, position: event.position };
                        publish(db, event, list, rates).await?;
                    }
                    Fact::PriceList(PriceListEvent::PriceListWithdrawn {}) => withdraw(db, event).await?,
                    _ => {}
                }
            }
            if !calls.is_empty() {
                apply_calls(db, &calls).await?;
            }
        }
        Ok(())
    }
}

async fn apply_calls(db: &mut PgConnection, events: &[&Recorded]) -> Result<(), ApplyError> {
    let lists = ledger::lists(db, events.iter().map(|event| event.company_id).collect()).await?;
    let none = Lists::default();
    let before = ledger::load(db, events.iter().filter(|e| e.version > 1).map(|e| (e.company_id, e.id)).collect()).await?;
    let mut after = before.clone();
    for event in events {
        let Fact::Call(fact) = &event.fact else { continue };
        if matches!(fact, CallEvent::CallDialed(_) | CallEvent::CallStarted { .. }) {
            after.entry(event.id).or_insert_with(|| LedgerCall::new(event));
        }
        let call = after.get_mut(&event.id).ok_or_else(|| ApplyError::Contradiction(format!("call {} has not begun", event.id)))?;
        call.fold(event, fact, lists.get(&event.company_id).unwrap_or(&none));
    }
    let mut changed: Vec<_> = after.into_values().filter(|call| before.get(&call.call_id) != Some(call)).collect();
    let bills = changed.iter_mut().map(|call| {
        let lists = lists.get(&call.company_id).unwrap_or(&none);
        (call, lists)
    });
    ledger::bill(db, bills.collect()).await?;
    rollups::replace(db, &before, &changed).await?;
    Ok(ledger::save(db, &changed).await?)
}

/// Calls that are priced again in one batch.
const REPRICE_CALLS: i64 = 500;

/// Adds the list and prices the turns that it covers again.
async fn publish(db: &mut PgConnection, published: &Recorded, list: List, rates: &[Rate]) -> Result<(), ApplyError> {
    let company_id = published.company_id;
    ledger::save_list(db, company_id, &list, rates).await?;
    let lists = lists_in_force(db, company_id).await?;
    reprice(db, published, &lists, list.effective_from, lists.end_of(list.id)).await
}

/// Removes the list from those in force and prices the turns that it covered again.
async fn withdraw(db: &mut PgConnection, withdrawn: &Recorded) -> Result<(), ApplyError> {
    let (company_id, id) = (withdrawn.company_id, withdrawn.id);
    let before = lists_in_force(db, company_id).await?;
    let list = before.get(id).ok_or_else(|| ApplyError::Contradiction(format!("price list {id} is not published")))?;
    ledger::withdraw_list(db, company_id, id).await?;
    let lists = lists_in_force(db, company_id).await?;
    reprice(db, withdrawn, &lists, list.effective_from, before.end_of(id)).await
}

async fn lists_in_force(db: &mut PgConnection, company_id: Uuid) -> Result<Lists, ApplyError> {
    Ok(ledger::lists(db, vec![company_id]).await?.remove(&company_id).unwrap_or_default())
}

/// Prices again what calls used in `[from, until)`, from the log: the ledger itself does not store single turns. `of_list` is the event that
/// is the reason.
async fn reprice(
    db: &mut PgConnection,
    of_list: &Recorded,
    lists: &Lists,
    from: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
) -> Result<(), ApplyError> {
    let company_id = of_list.company_id;
    let mut after = Uuid::nil();
    loop {
        let ids = ledger::calls_using(db, company_id, from, until, after, REPRICE_CALLS).await?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = *last;
        let before = ledger::load(db, ids.iter().map(|id| (company_id, *id)).collect()).await?;
        let again = ledger::refold(db, company_id, &ids, of_list.position, lists).await?;
        let again: Vec<_> = again.into_values().filter(|call| before.get(&call.call_id) != Some(call)).collect();
        rollups::replace(db, &before, &again).await?;
        ledger::save(db, &again).await?;
        ledger::explain(db, of_list, &before, &again).await?;
    }
}

/// Calls by id.
type Calls = HashMap<Uuid, LedgerCall>;
