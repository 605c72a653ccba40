//! Questions to the ledger: whole hours are answered from the rollups, what is left at the edges from the calls themselves.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::price::Component;
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use crate::call_metrics::{GroupBy, Scope};

/// One call's cost of one component from one provider.
pub struct CallCost {
    pub call_id: Uuid,
    pub component: String,
    pub cost: Decimal,
}

pub async fn of_calls(pool: &PgPool, company_id: Uuid, call_ids: &[Uuid]) -> Result<Vec<CallCost>, sqlx::Error> {
    sqlx::query_as!(
        CallCost,
        "select call_id, component, cost from call_costs where company_id = $1 and call_id = any($2)",
        company_id,
        call_ids
    )
    .fetch_all(pool)
    .await
}

/// What costs are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostGroupBy {
    Calls(GroupBy),
    Component,
    Provider,
}

impl CostGroupBy {
    fn sql(self) -> String {
        match self {
            Self::Calls(by) => by.to_string(),
            Self::Component => "component".to_owned(),
            Self::Provider => "provider".to_owned(),
        }
    }
}

/// Costs by component.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    pub stt: Decimal,
    pub llm: Decimal,
    pub tts: Decimal,
    pub livekit: Decimal,
}

impl Costs {
    pub fn total(&self) -> Decimal {
        self.stt.saturating_add(self.llm).saturating_add(self.tts).saturating_add(self.livekit)
    }

    /// Adds to the component of that name.
    pub fn add(&mut self, component: &str, cost: Decimal) {
        let sum = match component.parse() {
            Ok(Component::Stt) => &mut self.stt,
            Ok(Component::LlmInput | Component::LlmOutput) => &mut self.llm,
            Ok(Component::Tts) => &mut self.tts,
            Ok(Component::Livekit) | Err(_) => &mut self.livekit,
        };
        *sum = sum.saturating_add(cost);
    }
}

/// Usage that no rate prices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unpriced {
    pub component: String,
    pub provider: Option<String>,
    pub model: Option<String>,
}

/// What a group's calls cost.
#[derive(Clone, Debug, Default)]
pub struct CostRow {
    pub costs: Costs,
    pub call_count: i64,
    pub unpriced: BTreeMap<Unpriced, Decimal>,
}

/// Costs by group; the key is `None` for what has none, and for everything when `group_by` is `None`.
pub async fn costs(pool: &PgPool, scope: &Scope, group_by: Option<CostGroupBy>) -> Result<BTreeMap<Option<String>, CostRow>, sqlx::Error> {
    let by_time = matches!(group_by, Some(CostGroupBy::Calls(GroupBy::Hour | GroupBy::Day)));
    let (from, to) = scope.bounds();
    let whole = scope.whole_hours(by_time);
    let mut groups: BTreeMap<Option<String>, CostRow> = BTreeMap::new();
    let rows = sqlx::query!(
        r#"select case when $1 = 'hour' then hour when $1 = 'day' then date_trunc('day', hour, $2) end as at,
                  case when $1 = 'campaign' then campaign_id when $1 = 'skillbase' then skillbase_id end as id,
                  case when $1 = 'component' then component when $1 = 'provider' then provider end as name,
                  component as "component!", sum(cost) as "cost!", sum(call_count)::bigint as "call_count!"
             from (select hour, campaign_id, skillbase_id, component, provider, cost, call_count
                     from cost_rollups where company_id = $3 and hour >= $4 and hour < $5
                   union all
                   select case when $1 = 'hour' then date_trunc('hour', c.started_at, $2) else c.started_at end,
                          coalesce(c.campaign_id, '00000000-0000-0000-0000-000000000000'),
                          coalesce(c.skillbase_id, '00000000-0000-0000-0000-000000000000'),
                          k.component, k.provider, k.cost, (k.component = 'livekit')::int
                     from cost_calls c join call_costs k on k.company_id = c.company_id and k.call_id = c.call_id
                    where c.company_id = $3 and ((c.started_at >= $6 and c.started_at < $4) or (c.started_at >= $5 and c.started_at < $7))) r
            where ($8::uuid is null or campaign_id = $8) and ($9::uuid is null or skillbase_id = $9)
            group by 1, 2, 3, 4"#,
        group_by.map(CostGroupBy::sql),
        scope.timezone.name(),
        scope.company_id,
        whole.0,
        whole.1,
        from,
        to,
        scope.campaign_id,
        scope.skillbase_id
    );
    for row in rows.fetch_all(pool).await? {
        let group = groups.entry(key(scope, group_by, row.at, row.id, row.name)).or_default();
        group.costs.add(&row.component, row.cost);
        group.call_count += row.call_count;
    }
    for row in unpriced(pool, scope, group_by).await? {
        let (key, unpriced, quantity) = row;
        *groups.entry(key).or_default().unpriced.entry(unpriced).or_default() += quantity;
    }
    Ok(groups)
}

fn key(scope: &Scope, group_by: Option<CostGroupBy>, at: Option<DateTime<Utc>>, id: Option<Uuid>, name: Option<String>) -> Option<String> {
    match (group_by?, at) {
        (CostGroupBy::Calls(by), Some(at)) => by.key(at, None, None, scope.timezone),
        (CostGroupBy::Calls(_), None) => id.filter(|id| !id.is_nil()).map(|id| id.to_string()),
        (CostGroupBy::Component | CostGroupBy::Provider, _) => name.filter(|name| !name.is_empty()),
    }
}

/// Usage without a rate in the scope, with its group. There is rarely any.
async fn unpriced(
    pool: &PgPool,
    scope: &Scope,
    group_by: Option<CostGroupBy>,
) -> Result<Vec<(Option<String>, Unpriced, Decimal)>, sqlx::Error> {
    let (from, to) = scope.bounds();
    let rows = sqlx::query!(
        "select c.started_at, c.campaign_id, c.skillbase_id, u.component, u.provider, u.model, u.quantity
           from call_usage u join cost_calls c on c.company_id = u.company_id and c.call_id = u.call_id
          where u.company_id = $1 and not u.priced and u.quantity > 0 and c.started_at >= $2 and c.started_at < $3
            and ($4::uuid is null or c.campaign_id = $4) and ($5::uuid is null or c.skillbase_id = $5)",
        scope.company_id,
        from,
        to,
        scope.campaign_id,
        scope.skillbase_id
    );
    let named = |text: String| Some(text).filter(|t| !t.is_empty());
    let rows = rows.fetch_all(pool).await?.into_iter().map(|row| {
        let key = match group_by {
            None => None,
            Some(CostGroupBy::Calls(by)) => by.key(row.started_at, row.campaign_id, row.skillbase_id, scope.timezone),
            Some(CostGroupBy::Component) => Some(row.component.clone()),
            Some(CostGroupBy::Provider) => named(row.provider.clone()),
        };
        (key, Unpriced { component: row.component, provider: named(row.provider), model: named(row.model) }, row.quantity)
    });
    Ok(rows.collect())
}

/// Ids above `after` of the calls in the scope: for what-if questions, which look at every call once.
pub(super) async fn calls_in(pool: &PgPool, scope: &Scope, after: Uuid, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    let (from, to) = scope.bounds();
    sqlx::query_scalar!(
        "select call_id from cost_calls
          where company_id = $1 and started_at >= $2 and started_at < $3 and ($4::uuid is null or campaign_id = $4) and call_id > $5
          order by call_id limit $6",
        scope.company_id,
        from,
        to,
        scope.campaign_id,
        after,
        limit
    )
    .fetch_all(pool)
    .await
}

/// What a call used of something, whatever list priced it.
pub(super) struct CallUsage {
    pub call_id: Uuid,
    pub component: String,
    pub provider: String,
    pub model: String,
    pub quantity: Decimal,
}

pub(super) async fn usage_of_calls(pool: &PgPool, company_id: Uuid, call_ids: &[Uuid]) -> Result<Vec<CallUsage>, sqlx::Error> {
    sqlx::query_as!(
        CallUsage,
        r#"select call_id, component, provider, model, sum(quantity) as "quantity!" from call_usage
            where company_id = $1 and call_id = any($2) group by 1, 2, 3, 4"#,
        company_id,
        call_ids
    )
    .fetch_all(pool)
    .await
}
