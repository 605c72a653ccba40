//! Queries on the ledger: the rollups answer whole hours, the calls themselves answer the rest at the edges.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use domain::price::{Component, Rate};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Costs, Line};
use crate::analytics::{GroupBy, Scope};

/// The costs of some calls, by id.
pub async fn of_calls(db: &mut PgConnection, company_id: Uuid, call_ids: &[Uuid]) -> Result<HashMap<Uuid, Costs>, sqlx::Error> {
    let rows = sqlx::query!(
        "select call_id, cost_stt, cost_llm, cost_tts, cost_livekit from cost_calls where company_id = $1 and call_id = any($2)",
        company_id,
        call_ids
    );
    let costs = rows.fetch_all(db).await?.into_iter().map(|row| {
        let costs = Costs { stt: row.cost_stt, llm: row.cost_llm, tts: row.cost_tts, livekit: row.cost_livekit };
        (row.call_id, costs)
    });
    Ok(costs.collect())
}

/// A call's bill.
#[derive(Clone, Debug)]
pub struct CallCosts {
    pub costs: Costs,
    pub lines: Vec<Line>,
}

/// A call's bill, from one [`snapshot`](crate::snapshot) with its repricings.
pub async fn bill_of(db: &mut PgConnection, company_id: Uuid, call_id: Uuid) -> Result<Option<CallCosts>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select lines as "lines!: Json<Vec<Line>>" from cost_calls where company_id = $1 and call_id = $2"#,
        company_id,
        call_id
    );
    Ok(row.fetch_optional(db).await?.map(|row| CallCosts { costs: Costs::of(&row.lines), lines: row.lines.0 }))
}

/// Why a call's bill changed: a price list was published for a period in which the call took place, or withdrawn.
#[derive(Clone, Debug)]
pub struct Repricing {
    /// Position of the publication or withdrawal in the log.
    pub position: i64,
    pub is_withdrawal: bool,
    pub repriced_at: DateTime<Utc>,
    pub price_list_id: Uuid,
    pub effective_from: DateTime<Utc>,
    pub changes: Vec<Change>,
}

/// A line of a bill before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub component: Component,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub cost_before: Decimal,
    pub cost_after: Decimal,
    /// The lists that priced the line before.
    pub price_lists_before: Vec<Uuid>,
}

/// A call's repricings, oldest first.
pub async fn repricings_of(db: &mut PgConnection, company_id: Uuid, call_id: Uuid) -> Result<Vec<Repricing>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select r.position, r.position <> l.position as "is_withdrawal!", r.repriced_at, r.price_list_id, l.effective_from, r.changes as "changes!: Json<Vec<Change>>"
             from call_repricings r join cost_price_lists l on l.company_id = r.company_id and l.price_list_id = r.price_list_id
            where r.company_id = $1 and r.call_id = $2 order by r.position"#,
        company_id,
        call_id
    );
    let repricings = rows.fetch_all(db).await?.into_iter().map(|row| Repricing {
        position: row.position,
        is_withdrawal: row.is_withdrawal,
        repriced_at: row.repriced_at,
        price_list_id: row.price_list_id,
        effective_from: row.effective_from,
        changes: row.changes.0,
    });
    Ok(repricings.collect())
}

/// A price list that occurs in bills.
#[derive(Clone, Debug)]
pub struct NamedList {
    pub id: Uuid,
    /// `None` until the price lists' own read model has the list.
    pub name: Option<String>,
    pub effective_from: DateTime<Utc>,
    pub rates: Vec<Rate>,
}

/// The lists with these ids, as the ledger stores them.
pub async fn lists_of(db: &mut PgConnection, company_id: Uuid, ids: &[Uuid]) -> Result<Vec<NamedList>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select l.price_list_id, p.name as "name?", l.effective_from, l.rates as "rates!: Json<Vec<Rate>>"
             from cost_price_lists l left join price_lists p on p.company_id = l.company_id and p.price_list_id = l.price_list_id
            where l.company_id = $1 and l.price_list_id = any($2)"#,
        company_id,
        ids
    );
    let lists = rows.fetch_all(db).await?.into_iter().map(|row| NamedList {
        id: row.price_list_id,
        name: row.name,
        effective_from: row.effective_from,
        rates: row.rates.0,
    });
    Ok(lists.collect())
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

/// Usage without a rate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unpriced {
    pub component: Component,
    pub provider: Option<String>,
    pub model: Option<String>,
}

/// The cost of a group's calls.
#[derive(Clone, Debug, Default)]
pub struct CostRow {
    pub costs: Costs,
    pub call_count: i64,
    pub unpriced: BTreeMap<Unpriced, Decimal>,
}

impl CostRow {
    /// Whether it has no cost, no call and nothing unpriced.
    pub(super) fn is_empty(&self) -> bool {
        self.costs == Costs::default() && self.call_count == 0 && self.unpriced.is_empty()
    }
}

/// Costs by group, from one [`snapshot`](crate::snapshot); the key is `None` for calls without one, and for everything when `group_by` is
/// `None`.
pub async fn costs(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<CostGroupBy>,
) -> Result<BTreeMap<Option<String>, CostRow>, sqlx::Error> {
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
                          l.component, coalesce(l.provider, ''), l.cost, (l.component = 'livekit')::int
                     from cost_calls c, jsonb_to_recordset(c.lines) as l(component text, provider text, cost numeric)
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
    for row in rows.fetch_all(&mut *db).await? {
        let group = groups.entry(key(scope, group_by, row.at, row.id, row.name)).or_default();
        if let Ok(component) = row.component.parse() {
            group.costs.add(component, row.cost);
        }
        group.call_count += row.call_count;
    }
    for (key, unpriced, quantity) in unpriced(db, scope, group_by).await? {
        *groups.entry(key).or_default().unpriced.entry(unpriced).or_default() += quantity;
    }
    // The rollups have no rows of components that cost nothing; the calls at the edges do.
    groups.retain(|_, row| !row.is_empty());
    Ok(groups)
}

fn key(scope: &Scope, group_by: Option<CostGroupBy>, at: Option<DateTime<Utc>>, id: Option<Uuid>, name: Option<String>) -> Option<String> {
    match (group_by?, at) {
        (CostGroupBy::Calls(by), Some(at)) => by.key(at, None, None, scope.timezone),
        (CostGroupBy::Calls(_), None) => id.filter(|id| !id.is_nil()).map(|id| id.to_string()),
        (CostGroupBy::Component | CostGroupBy::Provider, _) => name.filter(|name| !name.is_empty()),
    }
}

/// Usage without a rate in the scope, with its group.
async fn unpriced(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<CostGroupBy>,
) -> Result<Vec<(Option<String>, Unpriced, Decimal)>, sqlx::Error> {
    let (from, to) = scope.bounds();
    let rows = sqlx::query!(
        r#"select case when $1 in ('hour', 'day') then date_trunc($1, c.started_at, $2) end as at,
                  case when $1 = 'campaign' then c.campaign_id when $1 = 'skillbase' then c.skillbase_id end as id,
                  case when $1 = 'component' then l.component when $1 = 'provider' then l.provider end as name,
                  l.component as "component!", l.provider, u.model, sum(u.quantity) as "quantity!"
             from cost_calls c, jsonb_to_recordset(c.lines) as l(component text, provider text, usage jsonb),
                  jsonb_to_recordset(l.usage) as u(model text, quantity numeric, priced boolean)
            where c.company_id = $3 and c.has_unpriced and c.started_at >= $4 and c.started_at < $5
              and ($6::uuid is null or c.campaign_id = $6) and ($7::uuid is null or c.skillbase_id = $7)
              and not u.priced and u.quantity > 0
            group by 1, 2, 3, 4, 5, 6"#,
        group_by.map(CostGroupBy::sql),
        scope.timezone.name(),
        scope.company_id,
        from,
        to,
        scope.campaign_id,
        scope.skillbase_id
    );
    let found = rows.fetch_all(db).await?.into_iter().map(|row| {
        let component = row.component.parse().map_err(|_| sqlx::Error::Decode(format!("{} is not a component", row.component).into()))?;
        let unpriced = Unpriced { component, provider: row.provider, model: row.model };
        Ok((key(scope, group_by, row.at, row.id, row.name), unpriced, row.quantity))
    });
    found.collect()
}

/// Ids above `after` of the calls that existed at `moment` and may have been in the scope then. A call may have had other starts before its
/// present one: each of them counts as a time of usage. Until a call has started, it counts as started when it was dialed.
pub(super) async fn calls_as_of(
    db: &mut PgConnection,
    scope: &Scope,
    moment: DateTime<Utc>,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (from, to) = scope.bounds();
    let ids = sqlx::query_scalar!(
        "select c.call_id from cost_calls c join calls k on k.company_id = c.company_id and k.call_id = c.call_id
          where c.company_id = $1 and k.created_at <= $2
            and ((c.last_usage_at >= $3 and c.first_usage_at < $4) or (k.created_at >= $3 and k.created_at < $4))
            and ($5::uuid is null or c.campaign_id = $5) and ($6::uuid is null or c.skillbase_id = $6) and c.call_id > $7
          order by c.call_id limit $8",
        scope.company_id,
        moment,
        from,
        to,
        scope.campaign_id,
        scope.skillbase_id,
        after,
        limit
    );
    ids.fetch_all(db).await
}

/// How many calls are in the scope.
pub async fn count(db: &mut PgConnection, scope: &Scope) -> Result<i64, sqlx::Error> {
    let (from, to) = scope.bounds();
    let count = sqlx::query_scalar!(
        r#"select count(*) as "n!" from cost_calls
            where company_id = $1 and started_at >= $2 and started_at < $3 and ($4::uuid is null or campaign_id = $4)"#,
        scope.company_id,
        from,
        to,
        scope.campaign_id
    );
    count.fetch_one(db).await
}

/// The bills of the calls in the scope with ids above `after`: for what-if queries, which read every call once.
pub(super) async fn bills_in(db: &mut PgConnection, scope: &Scope, after: Uuid, limit: i64) -> Result<Vec<(Uuid, Vec<Line>)>, sqlx::Error> {
    let (from, to) = scope.bounds();
    let rows = sqlx::query!(
        r#"select call_id, lines as "lines!: Json<Vec<Line>>" from cost_calls
            where company_id = $1 and started_at >= $2 and started_at < $3 and ($4::uuid is null or campaign_id = $4) and call_id > $5
            order by call_id limit $6"#,
        scope.company_id,
        from,
        to,
        scope.campaign_id,
        after,
        limit
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.call_id, row.lines.0)).collect())
}
