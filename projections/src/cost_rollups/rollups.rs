//! Writes calls into the ledger and adds what changed to the rollups.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use domain::price;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Billed, LedgerCall, Lists, UsageKey, costs_of};
use crate::{call_metrics::RollupKey, projection::ApplyError};

/// A row of `call_costs` to be.
struct Cost {
    company_id: Uuid,
    call_id: Uuid,
    component: String,
    provider: String,
    cost: Decimal,
}

/// Rollup rows to add to: cost and how many calls.
type Deltas = BTreeMap<(RollupKey, String, String), (Decimal, i64)>;

/// Puts `after` in the place of `before`; calls that are only in `before` stay as they are.
pub(super) async fn replace(
    db: &mut PgConnection,
    before: &HashMap<Uuid, LedgerCall>,
    after: &[&LedgerCall],
    lists: &HashMap<Uuid, Lists>,
) -> Result<(), ApplyError> {
    let none = Lists::default();
    let mut deltas = Deltas::new();
    let old: Vec<_> = after.iter().filter_map(|call| before.get(&call.call_id)).collect();
    subtract_old(db, &old, &mut deltas).await?;
    let mut costs = Vec::new();
    let mut usage = Vec::new();
    for call in after {
        let lists = lists.get(&call.company_id).unwrap_or(&none);
        let whole = call.whole_usage(lists);
        let billed: Vec<_> = whole.iter().map(|(key, quantity)| bill(key, *quantity, lists)).collect();
        for ((component, provider), cost) in costs_of(&billed) {
            let (component, provider) = (component.to_string(), provider.to_owned());
            let delta = deltas.entry((call.key(), component.clone(), provider.clone())).or_default();
            *delta = (delta.0.saturating_add(cost), delta.1 + i64::from(component == "livekit"));
            costs.push(Cost { company_id: call.company_id, call_id: call.call_id, component, provider, cost });
        }
        let priced: Vec<_> = billed.iter().map(|b| b.rate.is_some()).collect();
        usage.extend(whole.into_iter().zip(priced).map(|((key, quantity), priced)| (*call, key, quantity, priced)));
    }
    save_calls(db, after).await?;
    save_usage(db, &usage).await?;
    save_costs(db, &costs).await?;
    save_rollups(db, deltas).await?;
    Ok(())
}

fn bill<'a>(key: &'a UsageKey, quantity: Decimal, lists: &'a Lists) -> Billed<'a> {
    let name = |text: &'a str| Some(text).filter(|t| !t.is_empty());
    let rate = price::choose(lists.rates(key.price_list_id), key.component, name(&key.provider), name(&key.model));
    Billed { component: key.component, provider: &key.provider, quantity, rate }
}

/// What the calls have counted for so far no longer counts.
async fn subtract_old(db: &mut PgConnection, old: &[&LedgerCall], deltas: &mut Deltas) -> Result<(), sqlx::Error> {
    if old.is_empty() {
        return Ok(());
    }
    let by_id: HashMap<_, _> = old.iter().map(|call| (call.call_id, call)).collect();
    let companies: Vec<_> = old.iter().map(|call| call.company_id).collect();
    let ids: Vec<_> = old.iter().map(|call| call.call_id).collect();
    let rows = sqlx::query!(
        "delete from call_costs where (company_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))
         returning call_id, component, provider, cost",
        &companies,
        &ids
    );
    for row in rows.fetch_all(&mut *db).await? {
        if let Some(call) = by_id.get(&row.call_id) {
            let livekit = i64::from(row.component == "livekit");
            let delta = deltas.entry((call.key(), row.component, row.provider)).or_default();
            *delta = (delta.0.saturating_sub(row.cost), delta.1 - livekit);
        }
    }
    sqlx::query!("delete from call_usage where (company_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))", &companies, &ids)
        .execute(db)
        .await?;
    Ok(())
}

async fn save_calls(db: &mut PgConnection, calls: &[&LedgerCall]) -> Result<(), sqlx::Error> {
    fn column<T>(calls: &[&LedgerCall], of: impl Fn(&LedgerCall) -> T) -> Vec<T> {
        calls.iter().map(|call| of(call)).collect()
    }
    sqlx::query!(
        "insert into cost_calls (company_id, call_id, campaign_id, skillbase_id, started_at, duration_sec, first_usage_at, last_usage_at)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::numeric[], $7::timestamptz[], $8::timestamptz[])
         on conflict (company_id, call_id) do update
            set campaign_id = excluded.campaign_id, skillbase_id = excluded.skillbase_id, started_at = excluded.started_at,
                duration_sec = excluded.duration_sec, first_usage_at = excluded.first_usage_at, last_usage_at = excluded.last_usage_at",
        &column(calls, |c| c.company_id),
        &column(calls, |c| c.call_id),
        &column(calls, |c| c.campaign_id) as &[Option<Uuid>],
        &column(calls, |c| c.skillbase_id) as &[Option<Uuid>],
        &column(calls, |c| c.started_at),
        &column(calls, |c| c.duration_sec) as &[Option<Decimal>],
        &column(calls, |c| c.first_usage_at),
        &column(calls, |c| c.last_usage_at)
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn save_usage(db: &mut PgConnection, usage: &[(&LedgerCall, UsageKey, Decimal, bool)]) -> Result<(), sqlx::Error> {
    fn column<T>(rows: &[(&LedgerCall, UsageKey, Decimal, bool)], of: impl Fn(&(&LedgerCall, UsageKey, Decimal, bool)) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    sqlx::query!(
        "insert into call_usage (company_id, call_id, component, provider, model, price_list_id, quantity, priced)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::numeric[], $8::bool[])",
        &column(usage, |r| r.0.company_id),
        &column(usage, |r| r.0.call_id),
        &column(usage, |r| r.1.component.to_string()),
        &column(usage, |r| r.1.provider.clone()),
        &column(usage, |r| r.1.model.clone()),
        &column(usage, |r| r.1.price_list_id),
        &column(usage, |r| r.2.normalize()),
        &column(usage, |r| r.3)
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn save_costs(db: &mut PgConnection, costs: &[Cost]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into call_costs (company_id, call_id, component, provider, cost)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::numeric[])",
        &costs.iter().map(|c| c.company_id).collect::<Vec<_>>(),
        &costs.iter().map(|c| c.call_id).collect::<Vec<_>>(),
        &costs.iter().map(|c| c.component.clone()).collect::<Vec<_>>(),
        &costs.iter().map(|c| c.provider.clone()).collect::<Vec<_>>(),
        &costs.iter().map(|c| c.cost).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn save_rollups(db: &mut PgConnection, deltas: Deltas) -> Result<(), sqlx::Error> {
    let deltas: Vec<_> = deltas.into_iter().filter(|(_, delta)| *delta != (Decimal::ZERO, 0)).collect();
    let hours: Vec<DateTime<Utc>> = deltas.iter().map(|((key, ..), _)| key.hour).collect();
    sqlx::query!(
        "insert into cost_rollups as r (company_id, hour, campaign_id, skillbase_id, component, provider, cost, call_count)
         select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::numeric[], $8::bigint[])
         on conflict (company_id, hour, campaign_id, skillbase_id, component, provider) do update
            set cost = trim_scale(r.cost + excluded.cost), call_count = r.call_count + excluded.call_count",
        &deltas.iter().map(|((key, ..), _)| key.company_id).collect::<Vec<_>>(),
        &hours,
        &deltas.iter().map(|((key, ..), _)| key.campaign_id).collect::<Vec<_>>(),
        &deltas.iter().map(|((key, ..), _)| key.skillbase_id).collect::<Vec<_>>(),
        &deltas.iter().map(|((_, component, _), _)| component.clone()).collect::<Vec<_>>(),
        &deltas.iter().map(|((.., provider), _)| provider.clone()).collect::<Vec<_>>(),
        &deltas.iter().map(|(_, (cost, _))| *cost).collect::<Vec<_>>(),
        &deltas.iter().map(|(_, (_, calls))| *calls).collect::<Vec<_>>()
    )
    .execute(&mut *db)
    .await?;
    // Rows that came back to nothing are as if they had never been, whatever way led there.
    let touched: Vec<_> = deltas.iter().filter(|(_, (cost, calls))| cost.is_sign_negative() || *calls < 0).collect();
    sqlx::query!(
        "delete from cost_rollups where cost = 0 and call_count = 0
            and (company_id, hour) in (select * from unnest($1::uuid[], $2::timestamptz[]))",
        &touched.iter().map(|((key, ..), _)| key.company_id).collect::<Vec<_>>(),
        &touched.iter().map(|((key, ..), _)| key.hour).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}
