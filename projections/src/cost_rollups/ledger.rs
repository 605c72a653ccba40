//! The ledger's own tables: lists, calls and their usage.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use domain::{Decider, Fact, call::Call, price::Component};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{LedgerCall, List, Lists, UsageKey};
use crate::projection::{ApplyError, Recorded};

pub(super) async fn save_list(db: &mut PgConnection, company_id: Uuid, list: &List) -> Result<(), ApplyError> {
    let rates = serde_json::to_value(&list.rates).map_err(|e| ApplyError::Contradiction(e.to_string()))?;
    sqlx::query!(
        "insert into cost_price_lists (company_id, price_list_id, effective_from, position, rates) values ($1, $2, $3, $4, $5)",
        company_id,
        list.id,
        list.effective_from,
        list.position,
        rates
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The lists of some companies.
pub(super) async fn lists(db: &mut PgConnection, companies: Vec<Uuid>) -> Result<HashMap<Uuid, Lists>, ApplyError> {
    let rows = sqlx::query!(
        "select company_id, price_list_id, effective_from, position, rates from cost_price_lists where company_id = any($1)",
        &companies
    );
    let mut lists: HashMap<Uuid, Vec<List>> = HashMap::new();
    for row in rows.fetch_all(db).await? {
        let rates = serde_json::from_value(row.rates).map_err(|e| ApplyError::Contradiction(format!("price list: {e}")))?;
        let list = List { id: row.price_list_id, effective_from: row.effective_from, position: row.position, rates };
        lists.entry(row.company_id).or_default().push(list);
    }
    Ok(lists.into_iter().map(|(company, lists)| (company, Lists::new(lists))).collect())
}

/// The calls with their usage.
pub(super) async fn load(db: &mut PgConnection, keys: Vec<(Uuid, Uuid)>) -> Result<HashMap<Uuid, LedgerCall>, ApplyError> {
    let (companies, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let calls = sqlx::query!(
        "select company_id, call_id, campaign_id, skillbase_id, started_at, duration_sec, first_usage_at, last_usage_at
           from cost_calls where (company_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))",
        &companies,
        &ids
    );
    let calls = calls.fetch_all(&mut *db).await?.into_iter().map(|row| {
        let call = LedgerCall {
            company_id: row.company_id,
            call_id: row.call_id,
            campaign_id: row.campaign_id,
            skillbase_id: row.skillbase_id,
            started_at: row.started_at,
            duration_sec: row.duration_sec,
            first_usage_at: row.first_usage_at,
            last_usage_at: row.last_usage_at,
            usage: BTreeMap::new(),
        };
        (row.call_id, call)
    });
    let mut calls: HashMap<Uuid, LedgerCall> = calls.collect();
    let usage = sqlx::query!(
        "select call_id, component, provider, model, price_list_id, quantity from call_usage
          where component <> 'livekit' and (company_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))",
        &companies,
        &ids
    );
    for row in usage.fetch_all(db).await? {
        let component: Component =
            row.component.parse().map_err(|_| ApplyError::Contradiction(format!("component '{}'", row.component)))?;
        let key = UsageKey { component, provider: row.provider, model: row.model, price_list_id: row.price_list_id };
        if let Some(call) = calls.get_mut(&row.call_id) {
            call.usage.insert(key, row.quantity);
        }
    }
    Ok(calls)
}

/// Ids above `after` of the calls that used anything in `[from, until)`.
pub(super) async fn calls_using(
    db: &mut PgConnection,
    company_id: Uuid,
    from: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select call_id from cost_calls
          where company_id = $1 and last_usage_at >= $2 and ($3::timestamptz is null or first_usage_at < $3) and call_id > $4
          order by call_id limit $5",
        company_id,
        from,
        until,
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// The calls folded from the log again, up to a position, under `lists`.
pub(super) async fn refold(
    db: &mut PgConnection,
    company_id: Uuid,
    ids: &[Uuid],
    until: i64,
    lists: &HashMap<Uuid, Lists>,
) -> Result<HashMap<Uuid, LedgerCall>, ApplyError> {
    let none = Lists::default();
    let lists = lists.get(&company_id).unwrap_or(&none);
    let streams: Vec<_> = ids.iter().map(|id| format!("{}-{id}", Call::CATEGORY)).collect();
    let rows = sqlx::query!(
        r#"select position, stream, version, event_type, schema_version, payload::text as "payload!", occurred_at, recorded_at
             from events where stream = any($1) and position <= $2 order by position"#,
        &streams,
        until
    );
    let mut calls: HashMap<Uuid, LedgerCall> = HashMap::new();
    for row in rows.fetch_all(db).await? {
        let unreadable = |reason: String| ApplyError::Contradiction(format!("position {}: {reason}", row.position));
        let fact =
            Fact::decode(Call::CATEGORY, &row.event_type, row.schema_version, &row.payload).map_err(|e| unreadable(e.to_string()))?;
        let id = row.stream.split_once('-').and_then(|(_, id)| Uuid::try_parse(id).ok()).ok_or_else(|| unreadable("stream".into()))?;
        let event = Recorded {
            position: row.position,
            id,
            version: row.version,
            company_id,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            fact,
        };
        if let Fact::Call(fact) = &event.fact {
            calls.entry(id).or_insert_with(|| LedgerCall::new(&event)).fold(&event, fact, lists);
        }
    }
    Ok(calls)
}
