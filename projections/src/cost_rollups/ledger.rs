//! The ledger's own tables: lists, calls with their bills, and why bills changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use domain::{
    Decider, Fact,
    call::Call,
    price::{Component, Rate},
    price_list::{PriceList, PriceListEvent},
};
use rust_decimal::Decimal;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{
    Calls, LedgerCall,
    bill::{Costs, Line, Usage, UsageKey, lines},
    lists::{List, Lists, Rates},
    query::Change,
};
use crate::engine::{ApplyError, Recorded, read_streams};

pub(super) async fn save_list(db: &mut PgConnection, company_id: Uuid, list: &List, rates: &[Rate]) -> Result<(), ApplyError> {
    let rates = serde_json::to_value(rates).map_err(|e| ApplyError::Contradiction(e.to_string()))?;
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

/// Marks a list as withdrawn: it prices nothing any more, and repricings of the past still name it.
pub(super) async fn withdraw_list(db: &mut PgConnection, company_id: Uuid, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("update cost_price_lists set is_withdrawn = true where company_id = $1 and price_list_id = $2", company_id, id)
        .execute(db)
        .await?;
    Ok(())
}

/// The lists of some companies, without those that are withdrawn.
pub(super) async fn lists(db: &mut PgConnection, mut companies: Vec<Uuid>) -> Result<HashMap<Uuid, Lists>, ApplyError> {
    companies.sort_unstable();
    companies.dedup();
    let rows = sqlx::query!(
        "select company_id, price_list_id, effective_from, position from cost_price_lists where company_id = any($1) and not is_withdrawn",
        &companies
    );
    let mut lists: HashMap<Uuid, Vec<List>> = HashMap::new();
    for row in rows.fetch_all(db).await? {
        let list = List { id: row.price_list_id, effective_from: row.effective_from, position: row.position };
        lists.entry(row.company_id).or_default().push(list);
    }
    Ok(lists.into_iter().map(|(company, lists)| (company, Lists::new(lists))).collect())
}

/// The lists of a company as of a log position: those that were published until then and not withdrawn.
pub(super) async fn lists_as_of(db: &mut PgConnection, company_id: Uuid, until: i64) -> Result<Lists, ApplyError> {
    let published = sqlx::query!(
        "select price_list_id, effective_from, position, is_withdrawn from cost_price_lists where company_id = $1 and position <= $2",
        company_id,
        until
    );
    let published = published.fetch_all(&mut *db).await?;
    let withdrawn: Vec<_> = published.iter().filter(|row| row.is_withdrawn).map(|row| row.price_list_id).collect();
    let mut withdrawn_then = HashSet::new();
    let collect = |event: Recorded| {
        if let Fact::PriceList(PriceListEvent::PriceListWithdrawn {}) = &event.fact {
            withdrawn_then.insert(event.id);
        }
        Ok(())
    };
    read_streams(db, company_id, PriceList::CATEGORY, &withdrawn, until, collect).await?;
    let lists = published.into_iter().filter(|row| !withdrawn_then.contains(&row.price_list_id));
    let list = lists.map(|row| List { id: row.price_list_id, effective_from: row.effective_from, position: row.position });
    Ok(Lists::new(list.collect()))
}

/// Bills calls, each under the lists of its company. Only the rates of lists that a call used are read: a company may have many long lists.
pub(super) async fn bill(db: &mut PgConnection, calls: Vec<(&mut LedgerCall, &Lists)>) -> Result<(), ApplyError> {
    bill_with(db, calls, Rates::new()).await
}

/// Bills calls like [`bill`], with `rates` of lists that are not stored.
pub(super) async fn bill_with(db: &mut PgConnection, calls: Vec<(&mut LedgerCall, &Lists)>, mut rates: Rates) -> Result<(), ApplyError> {
    let used = calls.into_iter().map(|(call, lists)| (call.whole_usage(lists), call)).collect::<Vec<_>>();
    let lists_of = |(usage, call): &(Usage, &mut LedgerCall)| {
        let company_id = call.company_id;
        usage.keys().filter_map(|key| key.price_list_id).map(|list| (company_id, list)).collect::<Vec<_>>()
    };
    let (companies, lists): (Vec<_>, Vec<_>) = used.iter().flat_map(lists_of).collect::<HashSet<_>>().into_iter().unzip();
    let rows = sqlx::query!(
        "select price_list_id, rates from cost_price_lists
          where (company_id, price_list_id) in (select * from unnest($1::uuid[], $2::uuid[]))",
        &companies,
        &lists
    );
    for row in rows.fetch_all(db).await? {
        let list = serde_json::from_value(row.rates).map_err(|e| ApplyError::Contradiction(format!("price list: {e}")))?;
        rates.insert(row.price_list_id, list);
    }
    for (usage, call) in used {
        call.lines = lines(&usage, &rates);
    }
    Ok(())
}

/// The calls with their bills.
pub(super) async fn load(db: &mut PgConnection, mut keys: Vec<(Uuid, Uuid)>) -> Result<Calls, sqlx::Error> {
    keys.sort_unstable();
    keys.dedup();
    let (companies, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let calls = sqlx::query!(
        r#"select company_id, call_id, campaign_id, skillbase_id, started_at, duration_sec, first_usage_at, last_usage_at,
                  lines as "lines!: Json<Vec<Line>>"
             from cost_calls where (company_id, call_id) in (select * from unnest($1::uuid[], $2::uuid[]))"#,
        &companies,
        &ids
    );
    let calls = calls.fetch_all(db).await?.into_iter().map(|row| {
        let call = LedgerCall {
            company_id: row.company_id,
            call_id: row.call_id,
            campaign_id: row.campaign_id,
            skillbase_id: row.skillbase_id,
            started_at: row.started_at,
            duration_sec: row.duration_sec,
            first_usage_at: row.first_usage_at,
            last_usage_at: row.last_usage_at,
            usage: usage_of(&row.lines.0),
            lines: row.lines.0,
        };
        (row.call_id, call)
    });
    Ok(calls.collect())
}

/// The usage behind a bill, without LiveKit's.
pub(super) fn usage_of(lines: &[Line]) -> Usage {
    let pieces = lines.iter().filter(|line| line.component != Component::Livekit).flat_map(|line| {
        line.usage.iter().map(|piece| {
            let key = UsageKey {
                component: line.component,
                provider: line.provider.clone(),
                model: piece.model.clone(),
                price_list_id: piece.price_list_id,
            };
            (key, piece.quantity)
        })
    });
    pieces.collect()
}

pub(super) async fn save(db: &mut PgConnection, calls: &[LedgerCall]) -> Result<(), sqlx::Error> {
    fn column<T>(calls: &[LedgerCall], of: impl Fn(&LedgerCall) -> T) -> Vec<T> {
        calls.iter().map(of).collect()
    }
    let costs = column(calls, |c| Costs::of(&c.lines));
    let cost = |of: fn(&Costs) -> Decimal| costs.iter().map(|costs| of(costs).normalize()).collect::<Vec<_>>();
    sqlx::query!(
        "insert into cost_calls (company_id, call_id, campaign_id, skillbase_id, started_at, duration_sec, first_usage_at, last_usage_at,
                cost_stt, cost_llm, cost_tts, cost_livekit, lines, has_unpriced)
         select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::numeric[], $7::timestamptz[], $8::timestamptz[],
                $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::jsonb[], $14::bool[])
         on conflict (company_id, call_id) do update
            set campaign_id = excluded.campaign_id, skillbase_id = excluded.skillbase_id, started_at = excluded.started_at,
                duration_sec = excluded.duration_sec, first_usage_at = excluded.first_usage_at, last_usage_at = excluded.last_usage_at,
                cost_stt = excluded.cost_stt, cost_llm = excluded.cost_llm, cost_tts = excluded.cost_tts, cost_livekit = excluded.cost_livekit,
                lines = excluded.lines, has_unpriced = excluded.has_unpriced",
        &column(calls, |c| c.company_id),
        &column(calls, |c| c.call_id),
        &column(calls, |c| c.campaign_id) as &[Option<Uuid>],
        &column(calls, |c| c.skillbase_id) as &[Option<Uuid>],
        &column(calls, |c| c.started_at),
        &column(calls, |c| c.duration_sec) as &[Option<Decimal>],
        &column(calls, |c| c.first_usage_at),
        &column(calls, |c| c.last_usage_at),
        &cost(|c| c.stt),
        &cost(|c| c.llm),
        &cost(|c| c.tts),
        &cost(|c| c.livekit),
        &calls.iter().map(|c| Json(&c.lines)).collect::<Vec<_>>() as &[Json<&Vec<Line>>],
        &column(calls, |c| c.lines.iter().flat_map(|line| &line.usage).any(|piece| !piece.priced && !piece.quantity.is_zero()))
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores which calls a publication or a withdrawal priced again, with their bills before and after.
pub(super) async fn explain(db: &mut PgConnection, of_list: &Recorded, before: &Calls, after: &[LedgerCall]) -> Result<(), sqlx::Error> {
    let none = Vec::new();
    let changes = after.iter().map(|call| (call.call_id, changes(before.get(&call.call_id).map_or(&none, |b| &b.lines), &call.lines)));
    let (ids, changes): (Vec<_>, Vec<_>) = changes.filter(|(_, changes)| !changes.is_empty()).map(|(id, c)| (id, Json(c))).unzip();
    sqlx::query!(
        "insert into call_repricings (company_id, call_id, position, price_list_id, repriced_at, changes)
         select $1, call_id, $2, $3, $4, changes from unnest($5::uuid[], $6::jsonb[]) as t(call_id, changes)",
        of_list.company_id,
        of_list.position,
        of_list.id,
        of_list.recorded_at,
        &ids,
        &changes as &[Json<Vec<Change>>]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Lines whose lists or prices differ from before.
pub(super) fn changes(before: &[Line], after: &[Line]) -> Vec<Change> {
    let key = |line: &Line| (line.component, line.provider.clone());
    let before: BTreeMap<_, _> = before.iter().map(|line| (key(line), line)).collect();
    let is_used = |line: &Line| line.usage.iter().any(|piece| !piece.quantity.is_zero());
    let changes = after.iter().filter(|line| is_used(line)).filter_map(|line| {
        let old = before.get(&key(line)).filter(|old| **old != line)?;
        Some(Change {
            component: line.component,
            provider: line.provider.clone(),
            cost_before: old.cost,
            cost_after: line.cost,
            price_lists_before: old.price_lists(),
        })
    });
    changes.collect()
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

/// Folds the calls from the log again, up to a position, and bills them under `lists`.
pub(super) async fn refold(db: &mut PgConnection, company_id: Uuid, ids: &[Uuid], until: i64, lists: &Lists) -> Result<Calls, ApplyError> {
    let mut calls = refold_usage(db, company_id, ids, until, lists).await?;
    bill(db, calls.values_mut().map(|call| (call, lists)).collect()).await?;
    Ok(calls)
}

/// Folds the calls from the log again, up to a position, and leaves their bills empty.
pub(super) async fn refold_usage(
    db: &mut PgConnection,
    company_id: Uuid,
    ids: &[Uuid],
    until: i64,
    lists: &Lists,
) -> Result<Calls, ApplyError> {
    let mut calls = Calls::new();
    let fold = |event: Recorded| {
        if let Fact::Call(fact) = &event.fact {
            calls.entry(event.id).or_insert_with(|| LedgerCall::new(&event)).fold(&event, fact, lists);
        }
        Ok(())
    };
    read_streams(db, company_id, Call::CATEGORY, ids, until, fold).await?;
    Ok(calls)
}
