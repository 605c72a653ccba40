//! Queries on the metrics: the rollups answer whole hours, the calls themselves answer the rest at the edges.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    count,
    latency::{Histogram, Latency, bucket},
    outcome::OutcomeCounts,
};
use futures::{TryStreamExt as _, stream::BoxStream};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use strum::IntoEnumIterator;
use uuid::Uuid;

use super::{CallMetricsRow, plus};
use crate::{
    analytics::{GroupBy, Scope},
    cost_rollups::Costs,
};

/// A call's metrics with its costs, which come from the ledger.
pub async fn get_with_costs(
    db: &mut PgConnection,
    company_id: Uuid,
    call_id: Uuid,
) -> Result<Option<(CallMetricsRow, Costs)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select m.campaign_id, m.skillbase_id, m.started_at, m.turn_count, m.interruption_count, m.stt_duration_sec, m.llm_input_tokens,
                  m.llm_output_tokens, m.tts_characters, m.ttfb_stt_us, m.latency_llm_us, m.ttfb_tts_us, m.eou_latency_us, m.duration_sec,
                  m.outcome, coalesce(c.cost_stt, 0) as "stt!", coalesce(c.cost_llm, 0) as "llm!", coalesce(c.cost_tts, 0) as "tts!",
                  coalesce(c.cost_livekit, 0) as "livekit!"
             from call_metrics m left join cost_calls c on c.company_id = m.company_id and c.call_id = m.call_id
            where m.company_id = $1 and m.call_id = $2"#,
        company_id,
        call_id
    );
    Ok(row.fetch_optional(db).await?.map(|row| {
        let metrics = CallMetricsRow {
            company_id,
            call_id,
            campaign_id: row.campaign_id,
            skillbase_id: row.skillbase_id,
            started_at: row.started_at,
            turn_count: row.turn_count,
            interruption_count: row.interruption_count,
            stt_duration_sec: row.stt_duration_sec,
            llm_input_tokens: row.llm_input_tokens,
            llm_output_tokens: row.llm_output_tokens,
            tts_characters: row.tts_characters,
            ttfb_stt_us: row.ttfb_stt_us,
            latency_llm_us: row.latency_llm_us,
            ttfb_tts_us: row.ttfb_tts_us,
            eou_latency_us: row.eou_latency_us,
            duration_sec: row.duration_sec,
            outcome: row.outcome,
        };
        (metrics, Costs { stt: row.stt, llm: row.llm, tts: row.tts, livekit: row.livekit })
    }))
}

pub async fn of_calls(db: &mut PgConnection, company_id: Uuid, call_ids: &[Uuid]) -> Result<Vec<CallMetricsRow>, sqlx::Error> {
    sqlx::query_as!(
        CallMetricsRow,
        "select company_id, call_id, campaign_id, skillbase_id, started_at, turn_count, interruption_count, stt_duration_sec, llm_input_tokens,
                llm_output_tokens, tts_characters, ttfb_stt_us, latency_llm_us, ttfb_tts_us, eou_latency_us, duration_sec, outcome
           from call_metrics where company_id = $1 and call_id = any($2)",
        company_id,
        call_ids
    )
    .fetch_all(db)
    .await
}

#[derive(Clone, Debug, Default)]
pub struct LatencyAggregate {
    pub count: i64,
    pub sum_us: Decimal,
    pub min_us: Option<i64>,
    pub max_us: Option<i64>,
    pub histogram: Histogram,
}

/// The totals of a group of calls.
#[derive(Clone, Debug, Default)]
pub struct Aggregate {
    pub call_count: i64,
    pub ended_count: i64,
    pub turn_count: i64,
    pub interruption_count: i64,
    pub stt_duration_sec: Option<Decimal>,
    pub llm_input_tokens: Option<i64>,
    pub llm_output_tokens: Option<i64>,
    pub tts_characters: Option<i64>,
    pub duration_sec: Decimal,
    pub outcomes: OutcomeCounts,
    pub latencies: BTreeMap<Latency, LatencyAggregate>,
}

impl Aggregate {
    fn add_call(&mut self, row: &CallMetricsRow) {
        self.call_count += 1;
        self.ended_count += i64::from(row.duration_sec.is_some());
        self.turn_count += row.turn_count;
        self.interruption_count += row.interruption_count;
        plus(&mut self.stt_duration_sec, row.stt_duration_sec);
        plus(&mut self.llm_input_tokens, row.llm_input_tokens);
        plus(&mut self.llm_output_tokens, row.llm_output_tokens);
        plus(&mut self.tts_characters, row.tts_characters);
        self.duration_sec += row.duration_sec.unwrap_or_default();
        self.outcomes.add(row.outcome.as_deref(), 1);
        for latency in Latency::iter() {
            let values = row.latency(latency);
            let sums = self.latencies.entry(latency).or_default();
            sums.add(count::to_i64(values.len()), values.iter().copied().map(Decimal::from).sum(), values.first(), values.last());
            values.iter().for_each(|value| sums.histogram.add(bucket(*value), 1));
        }
    }
}

impl LatencyAggregate {
    fn add(&mut self, count: i64, sum_us: Decimal, min_us: Option<&i64>, max_us: Option<&i64>) {
        self.count += count;
        self.sum_us += sum_us;
        self.min_us = self.min_us.into_iter().chain(min_us.copied()).min();
        self.max_us = self.max_us.into_iter().chain(max_us.copied()).max();
    }
}

/// Aggregates by group, from one [`snapshot`](crate::snapshot); the key is `None` for calls without one, and for everything when `group_by`
/// is `None`.
pub async fn aggregate(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<GroupBy>,
) -> Result<BTreeMap<Option<String>, Aggregate>, sqlx::Error> {
    let by_time = matches!(group_by, Some(GroupBy::Hour | GroupBy::Day));
    let hours = scope.whole_hours(by_time);
    let mut groups: BTreeMap<Option<String>, Aggregate> = BTreeMap::new();
    let key_of = |hour: Option<DateTime<Utc>>, id: Option<Uuid>| match (group_by, hour) {
        (Some(by), Some(hour)) => by.key(hour, None, None, scope.timezone),
        _ => id.filter(|id| !id.is_nil()).map(|id| id.to_string()),
    };
    add_rollups(db, scope, group_by, hours, &mut groups, key_of).await?;
    add_latencies(db, scope, group_by, hours, &mut groups, key_of).await?;
    let mut edges = edge_calls(db, scope, hours);
    while let Some(row) = edges.try_next().await? {
        let key = group_by.and_then(|by| by.key(row.started_at, row.campaign_id, row.skillbase_id, scope.timezone));
        groups.entry(key).or_default().add_call(&row);
    }
    Ok(groups)
}

type Hours = (DateTime<Utc>, DateTime<Utc>);

async fn add_rollups(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<GroupBy>,
    hours: Hours,
    groups: &mut BTreeMap<Option<String>, Aggregate>,
    key_of: impl Fn(Option<DateTime<Utc>>, Option<Uuid>) -> Option<String>,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query!(
        r#"select case when $1 = 'hour' then hour when $1 = 'day' then date_trunc('day', hour, $2) end as hour,
                  case when $1 = 'campaign' then campaign_id when $1 = 'skillbase' then skillbase_id end as id,
                  sum(call_count)::bigint as "call_count!", sum(ended_count)::bigint as "ended_count!", sum(turn_count)::bigint as "turn_count!",
                  sum(interruption_count)::bigint as "interruption_count!",
                  case when sum(stt_calls) > 0 then sum(stt_duration_sec) end as stt_duration_sec,
                  case when sum(llm_input_calls) > 0 then sum(llm_input_tokens)::bigint end as llm_input_tokens,
                  case when sum(llm_output_calls) > 0 then sum(llm_output_tokens)::bigint end as llm_output_tokens,
                  case when sum(tts_calls) > 0 then sum(tts_characters)::bigint end as tts_characters,
                  sum(duration_sec) as "duration_sec!", sum(success)::bigint as "success!", sum(fail)::bigint as "fail!",
                  sum(voicemail)::bigint as "voicemail!", sum(no_answer)::bigint as "no_answer!", sum(busy)::bigint as "busy!"
             from call_rollups
            where company_id = $3 and hour >= $4 and hour < $5 and ($6::uuid is null or campaign_id = $6) and ($7::uuid is null or skillbase_id = $7)
            group by 1, 2
           having sum(call_count) > 0"#,
        group_by.map(|by| by.to_string()),
        scope.timezone.name(),
        scope.company_id,
        hours.0,
        hours.1,
        scope.campaign_id,
        scope.skillbase_id
    );
    for row in rows.fetch_all(&mut *db).await? {
        let group = groups.entry(key_of(row.hour, row.id)).or_default();
        group.call_count += row.call_count;
        group.ended_count += row.ended_count;
        group.turn_count += row.turn_count;
        group.interruption_count += row.interruption_count;
        plus(&mut group.stt_duration_sec, row.stt_duration_sec);
        plus(&mut group.llm_input_tokens, row.llm_input_tokens);
        plus(&mut group.llm_output_tokens, row.llm_output_tokens);
        plus(&mut group.tts_characters, row.tts_characters);
        group.duration_sec += row.duration_sec;
        group.outcomes +=
            OutcomeCounts { success: row.success, fail: row.fail, voicemail: row.voicemail, no_answer: row.no_answer, busy: row.busy };
    }
    Ok(())
}

async fn add_latencies(
    db: &mut PgConnection,
    scope: &Scope,
    group_by: Option<GroupBy>,
    hours: Hours,
    groups: &mut BTreeMap<Option<String>, Aggregate>,
    key_of: impl Fn(Option<DateTime<Utc>>, Option<Uuid>) -> Option<String>,
) -> Result<(), sqlx::Error> {
    let rows = sqlx::query!(
        r#"select case when $1 = 'hour' then hour when $1 = 'day' then date_trunc('day', hour, $2) end as hour,
                  case when $1 = 'campaign' then campaign_id when $1 = 'skillbase' then skillbase_id end as id,
                  latency, count, sum_us, min_us, max_us, buckets, counts
             from latency_rollups
            where company_id = $3 and hour >= $4 and hour < $5 and ($6::uuid is null or campaign_id = $6) and ($7::uuid is null or skillbase_id = $7)
              and count > 0"#,
        group_by.map(|by| by.to_string()),
        scope.timezone.name(),
        scope.company_id,
        hours.0,
        hours.1,
        scope.campaign_id,
        scope.skillbase_id
    );
    let mut rows = rows.fetch(db);
    while let Some(row) = rows.try_next().await? {
        if let Ok(latency) = row.latency.parse::<Latency>() {
            let sums = groups.entry(key_of(row.hour, row.id)).or_default().latencies.entry(latency).or_default();
            sums.add(row.count, row.sum_us, Some(&row.min_us), Some(&row.max_us));
            row.buckets.into_iter().zip(row.counts).for_each(|(bucket, count)| sums.histogram.add(bucket, count));
        }
    }
    Ok(())
}

/// The calls inside the bounds but outside the whole hours.
fn edge_calls<'a>(db: &'a mut PgConnection, scope: &'a Scope, hours: Hours) -> BoxStream<'a, Result<CallMetricsRow, sqlx::Error>> {
    let (from, to) = scope.bounds();
    sqlx::query_as!(
        CallMetricsRow,
        "select company_id, call_id, campaign_id, skillbase_id, started_at, turn_count, interruption_count, stt_duration_sec, llm_input_tokens,
                llm_output_tokens, tts_characters, ttfb_stt_us, latency_llm_us, ttfb_tts_us, eou_latency_us, duration_sec, outcome
           from call_metrics
          where company_id = $1 and ((started_at >= $2 and started_at < $4) or (started_at >= $5 and started_at < $3))
            and ($6::uuid is null or campaign_id = $6) and ($7::uuid is null or skillbase_id = $7)",
        scope.company_id,
        from,
        to,
        hours.0,
        hours.1,
        scope.campaign_id,
        scope.skillbase_id
    )
    .fetch(db)
}
