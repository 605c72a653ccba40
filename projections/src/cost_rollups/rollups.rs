//! Adds the changes of the ledger's calls to the rollups.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::price::Component;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Calls, LedgerCall};
use crate::{call_metrics::RollupKey, engine::ApplyError};

/// A cost and a number of calls, to be added.
#[derive(Clone, Copy, Default, PartialEq)]
struct Delta {
    cost: Decimal,
    calls: i64,
}

impl Delta {
    fn add(&mut self, cost: Decimal, calls: i64) {
        *self = Self { cost: self.cost.saturating_add(cost), calls: self.calls + calls };
    }

    /// Whether the row may have no calls left.
    fn takes_away(&self) -> bool {
        self.calls <= 0
    }
}

#[derive(Default)]
struct Deltas {
    rollups: BTreeMap<(RollupKey, Component, String), Delta>,
    campaigns: BTreeMap<(Uuid, Uuid), Delta>,
}

impl Deltas {
    /// Each call is counted once, at its livekit line.
    fn add(&mut self, call: &LedgerCall, sign: i64) {
        let key = call.key();
        for line in &call.lines {
            let (cost, calls) = (line.cost * Decimal::from(sign), sign * i64::from(line.component == Component::Livekit));
            let provider = line.provider.clone().unwrap_or_default();
            self.rollups.entry((key, line.component, provider)).or_default().add(cost, calls);
            if !key.campaign_id.is_nil() {
                self.campaigns.entry((key.company_id, key.campaign_id)).or_default().add(cost, calls);
            }
        }
    }
}

/// Replaces `before` by `after`; calls that are only in `before` stay unchanged.
pub(super) async fn replace(db: &mut PgConnection, before: &Calls, after: &[LedgerCall]) -> Result<(), ApplyError> {
    let mut deltas = Deltas::default();
    for call in after {
        if let Some(old) = before.get(&call.call_id) {
            deltas.add(old, -1);
        }
        deltas.add(call, 1);
    }
    deltas.rollups.retain(|_, delta| *delta != Delta::default());
    deltas.campaigns.retain(|_, delta| *delta != Delta::default());
    save_rollups(db, deltas.rollups).await?;
    save_campaigns(db, deltas.campaigns).await?;
    Ok(())
}

async fn save_rollups(db: &mut PgConnection, deltas: BTreeMap<(RollupKey, Component, String), Delta>) -> Result<(), sqlx::Error> {
    let hours: Vec<DateTime<Utc>> = deltas.keys().map(|(key, ..)| key.hour).collect();
    sqlx::query!(
        "insert into cost_rollups as r (company_id, hour, campaign_id, skillbase_id, component, provider, cost, call_count)
         select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::numeric[], $8::bigint[])
         on conflict (company_id, hour, campaign_id, skillbase_id, component, provider) do update
            set cost = trim_scale(r.cost + excluded.cost), call_count = r.call_count + excluded.call_count",
        &deltas.keys().map(|(key, ..)| key.company_id).collect::<Vec<_>>(),
        &hours,
        &deltas.keys().map(|(key, ..)| key.campaign_id).collect::<Vec<_>>(),
        &deltas.keys().map(|(key, ..)| key.skillbase_id).collect::<Vec<_>>(),
        &deltas.keys().map(|(_, component, _)| component.to_string()).collect::<Vec<_>>(),
        &deltas.keys().map(|(.., provider)| provider.clone()).collect::<Vec<_>>(),
        &deltas.values().map(|delta| delta.cost).collect::<Vec<_>>(),
        &deltas.values().map(|delta| delta.calls).collect::<Vec<_>>()
    )
    .execute(&mut *db)
    .await?;
    // A row that has no calls left is deleted, whatever changes led to that: it is as if the row had never existed.
    let touched: Vec<_> = deltas.iter().filter(|(_, delta)| delta.takes_away()).map(|((key, ..), _)| key).collect();
    if !touched.is_empty() {
        sqlx::query!(
            "delete from cost_rollups where cost = 0 and call_count = 0
                and (company_id, hour) in (select * from unnest($1::uuid[], $2::timestamptz[]))",
            &touched.iter().map(|key| key.company_id).collect::<Vec<_>>(),
            &touched.iter().map(|key| key.hour).collect::<Vec<_>>()
        )
        .execute(db)
        .await?;
    }
    Ok(())
}

async fn save_campaigns(db: &mut PgConnection, deltas: BTreeMap<(Uuid, Uuid), Delta>) -> Result<(), sqlx::Error> {
    let (companies, campaigns): (Vec<_>, Vec<_>) = deltas.keys().copied().unzip();
    sqlx::query!(
        "insert into campaign_costs as c (company_id, campaign_id, call_count, cost)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::numeric[])
         on conflict (company_id, campaign_id) do update
            set call_count = c.call_count + excluded.call_count, cost = trim_scale(c.cost + excluded.cost)",
        &companies,
        &campaigns,
        &deltas.values().map(|delta| delta.calls).collect::<Vec<_>>(),
        &deltas.values().map(|delta| delta.cost).collect::<Vec<_>>()
    )
    .execute(&mut *db)
    .await?;
    let left = deltas.iter().filter(|(_, delta)| delta.calls < 0).map(|(key, _)| *key);
    let (companies, campaigns): (Vec<_>, Vec<_>) = left.unzip();
    if !campaigns.is_empty() {
        let emptied = sqlx::query!(
            "delete from campaign_costs
              where (company_id, campaign_id) in (select * from unnest($1::uuid[], $2::uuid[])) and call_count = 0",
            &companies,
            &campaigns
        );
        emptied.execute(db).await?;
    }
    Ok(())
}
