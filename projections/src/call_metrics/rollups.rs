//! The totals of calls: adds the difference between the calls' rows before and after a page.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use domain::{
    count,
    latency::{Histogram, Latency, bucket},
    outcome::{Outcome, OutcomeCounts},
};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use strum::IntoEnumIterator;
use uuid::Uuid;

use super::{CallMetricsRow, RollupKey, array_text};
use crate::engine::ApplyError;

#[derive(Clone, Debug, Default)]
struct CallDelta {
    call_count: i64,
    ended_count: i64,
    turn_count: i64,
    interruption_count: i64,
    stt: (Decimal, i64),
    llm_input: (i64, i64),
    llm_output: (i64, i64),
    tts: (i64, i64),
    duration_sec: Decimal,
    outcomes: OutcomeCounts,
}

#[derive(Clone, Debug)]
struct LatencySums {
    count: i64,
    sum_us: Decimal,
    min_us: i64,
    max_us: i64,
    histogram: Histogram,
}

impl Default for LatencySums {
    fn default() -> Self {
        Self { count: 0, sum_us: Decimal::ZERO, min_us: i64::MAX, max_us: i64::MIN, histogram: Histogram::default() }
    }
}

#[derive(Default)]
struct Deltas {
    calls: BTreeMap<RollupKey, CallDelta>,
    latencies: BTreeMap<(RollupKey, Latency), LatencySums>,
}

impl Deltas {
    fn add(&mut self, row: &CallMetricsRow, sign: i64) {
        let key = row.key();
        let delta = self.calls.entry(key).or_default();
        delta.call_count += sign;
        delta.ended_count += sign * i64::from(row.duration_sec.is_some());
        delta.turn_count += sign * row.turn_count;
        delta.interruption_count += sign * row.interruption_count;
        delta.duration_sec += Decimal::from(sign) * row.duration_sec.unwrap_or_default();
        if let Some(seconds) = row.stt_duration_sec {
            delta.stt = (delta.stt.0 + Decimal::from(sign) * seconds, delta.stt.1 + sign);
        }
        let sums = [
            (&mut delta.llm_input, row.llm_input_tokens),
            (&mut delta.llm_output, row.llm_output_tokens),
            (&mut delta.tts, row.tts_characters),
        ];
        for (sum, value) in sums {
            if let Some(value) = value {
                *sum = (sum.0 + sign * value, sum.1 + sign);
            }
        }
        delta.outcomes.add(row.outcome.as_deref(), sign);
        for latency in Latency::iter() {
            self.add_latency(key, latency, row.latency(latency), sign);
        }
    }

    fn add_latency(&mut self, key: RollupKey, latency: Latency, values: &[i64], sign: i64) {
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return };
        let sums = self.latencies.entry((key, latency)).or_default();
        sums.count += sign * count::to_i64(values.len());
        sums.sum_us += Decimal::from(sign * values.iter().sum::<i64>());
        // A value that leaves cannot be removed from an extreme; calls that move are read again, see `mend_extremes`.
        if sign > 0 {
            sums.min_us = sums.min_us.min(*min);
            sums.max_us = sums.max_us.max(*max);
        }
        values.iter().for_each(|value| sums.histogram.add(bucket(*value), sign));
    }

    /// The changes for whole campaigns.
    fn campaigns(&self) -> BTreeMap<(Uuid, Uuid), CallDelta> {
        let mut campaigns: BTreeMap<_, CallDelta> = BTreeMap::new();
        for (key, delta) in self.calls.iter().filter(|(key, _)| !key.campaign_id.is_nil()) {
            let campaign = campaigns.entry((key.company_id, key.campaign_id)).or_default();
            campaign.call_count += delta.call_count;
            campaign.ended_count += delta.ended_count;
            campaign.duration_sec += delta.duration_sec;
        }
        campaigns
    }
}

/// Adds the difference between the rows `before` and `after` to the rollups.
pub(super) async fn add(
    db: &mut PgConnection,
    before: &HashMap<Uuid, CallMetricsRow>,
    after: &HashMap<Uuid, CallMetricsRow>,
) -> Result<(), ApplyError> {
    let mut deltas = Deltas::default();
    let mut left = BTreeSet::new();
    for (id, row) in after {
        if let Some(old) = before.get(id) {
            if old == row {
                continue;
            }
            deltas.add(old, -1);
            if old.key() != row.key() {
                left.insert(old.key());
            }
        }
        deltas.add(row, 1);
    }
    save_campaigns(db, deltas.campaigns()).await?;
    save_calls(db, deltas.calls.into_iter().collect()).await?;
    save_latencies(db, deltas.latencies).await?;
    for key in left {
        mend_extremes(db, key).await?;
    }
    Ok(())
}

async fn save_campaigns(db: &mut PgConnection, deltas: BTreeMap<(Uuid, Uuid), CallDelta>) -> Result<(), sqlx::Error> {
    let (companies, campaigns): (Vec<_>, Vec<_>) = deltas.keys().copied().unzip();
    sqlx::query!(
        "insert into campaign_calls as c (company_id, campaign_id, call_count, ended_count, duration_sec)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::numeric[])
         on conflict (company_id, campaign_id) do update
            set call_count = c.call_count + excluded.call_count, ended_count = c.ended_count + excluded.ended_count,
                duration_sec = trim_scale(c.duration_sec + excluded.duration_sec)",
        &companies,
        &campaigns,
        &deltas.values().map(|d| d.call_count).collect::<Vec<_>>(),
        &deltas.values().map(|d| d.ended_count).collect::<Vec<_>>(),
        &deltas.values().map(|d| d.duration_sec.normalize()).collect::<Vec<_>>()
    )
    .execute(&mut *db)
    .await?;
    let left = deltas.iter().filter(|(_, delta)| delta.call_count < 0).map(|(key, _)| *key);
    let (companies, campaigns): (Vec<_>, Vec<_>) = left.unzip();
    if !campaigns.is_empty() {
        let emptied = sqlx::query!(
            "delete from campaign_calls
              where (company_id, campaign_id) in (select * from unnest($1::uuid[], $2::uuid[])) and call_count = 0",
            &companies,
            &campaigns
        );
        emptied.execute(db).await?;
    }
    Ok(())
}

/// Columns of rollup keys.
struct Keys {
    companies: Vec<Uuid>,
    hours: Vec<DateTime<Utc>>,
    campaigns: Vec<Uuid>,
    skillbases: Vec<Uuid>,
}

impl Keys {
    fn of<'a>(keys: impl Iterator<Item = &'a RollupKey> + Clone) -> Self {
        Self {
            companies: keys.clone().map(|k| k.company_id).collect(),
            hours: keys.clone().map(|k| k.hour).collect(),
            campaigns: keys.clone().map(|k| k.campaign_id).collect(),
            skillbases: keys.map(|k| k.skillbase_id).collect(),
        }
    }
}

async fn save_calls(db: &mut PgConnection, deltas: Vec<(RollupKey, CallDelta)>) -> Result<(), sqlx::Error> {
    fn column<T>(deltas: &[(RollupKey, CallDelta)], of: impl Fn(&CallDelta) -> T) -> Vec<T> {
        deltas.iter().map(|(_, delta)| of(delta)).collect()
    }
    let deltas = &deltas[..];
    let keys = Keys::of(deltas.iter().map(|(key, _)| key));
    let outcome = |outcome: Outcome| column(deltas, |d| d.outcomes.of(outcome));
    sqlx::query!(
        "insert into call_rollups as r (company_id, hour, campaign_id, skillbase_id, call_count, ended_count, turn_count, interruption_count,
                stt_duration_sec, stt_calls, llm_input_tokens, llm_input_calls, llm_output_tokens, llm_output_calls, tts_characters, tts_calls,
                duration_sec, success, fail, voicemail, no_answer, busy)
         select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                $9::numeric[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[],
                $17::numeric[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[])
         on conflict (company_id, hour, campaign_id, skillbase_id) do update
            set call_count = r.call_count + excluded.call_count, ended_count = r.ended_count + excluded.ended_count,
                turn_count = r.turn_count + excluded.turn_count, interruption_count = r.interruption_count + excluded.interruption_count,
                stt_duration_sec = trim_scale(r.stt_duration_sec + excluded.stt_duration_sec), stt_calls = r.stt_calls + excluded.stt_calls,
                llm_input_tokens = r.llm_input_tokens + excluded.llm_input_tokens, llm_input_calls = r.llm_input_calls + excluded.llm_input_calls,
                llm_output_tokens = r.llm_output_tokens + excluded.llm_output_tokens,
                llm_output_calls = r.llm_output_calls + excluded.llm_output_calls,
                tts_characters = r.tts_characters + excluded.tts_characters, tts_calls = r.tts_calls + excluded.tts_calls,
                duration_sec = trim_scale(r.duration_sec + excluded.duration_sec), success = r.success + excluded.success, fail = r.fail + excluded.fail,
                voicemail = r.voicemail + excluded.voicemail, no_answer = r.no_answer + excluded.no_answer, busy = r.busy + excluded.busy",
        &keys.companies,
        &keys.hours,
        &keys.campaigns,
        &keys.skillbases,
        &column(deltas, |d| d.call_count),
        &column(deltas, |d| d.ended_count),
        &column(deltas, |d| d.turn_count),
        &column(deltas, |d| d.interruption_count),
        &column(deltas, |d| d.stt.0.normalize()),
        &column(deltas, |d| d.stt.1),
        &column(deltas, |d| d.llm_input.0),
        &column(deltas, |d| d.llm_input.1),
        &column(deltas, |d| d.llm_output.0),
        &column(deltas, |d| d.llm_output.1),
        &column(deltas, |d| d.tts.0),
        &column(deltas, |d| d.tts.1),
        &column(deltas, |d| d.duration_sec.normalize()),
        &outcome(Outcome::Success),
        &outcome(Outcome::Fail),
        &outcome(Outcome::Voicemail),
        &outcome(Outcome::NoAnswer),
        &outcome(Outcome::Busy)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Adds to the existing rows; under the projection's lease no other process writes them.
async fn save_latencies(db: &mut PgConnection, mut sums: BTreeMap<(RollupKey, Latency), LatencySums>) -> Result<(), sqlx::Error> {
    if sums.is_empty() {
        return Ok(());
    }
    add_saved(db, &mut sums).await?;
    let keys = Keys::of(sums.keys().map(|(key, _)| key));
    sqlx::query!(
        "insert into latency_rollups (company_id, hour, campaign_id, skillbase_id, latency, count, sum_us, min_us, max_us, buckets, counts)
         select a, b, c, d, e, f, g, h, i, j::int[], k::bigint[]
           from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::numeric[], $8::bigint[], $9::bigint[],
                       $10::text[], $11::text[]) as t(a, b, c, d, e, f, g, h, i, j, k)
         on conflict (company_id, hour, campaign_id, skillbase_id, latency) do update
            set count = excluded.count, sum_us = excluded.sum_us, min_us = excluded.min_us, max_us = excluded.max_us,
                buckets = excluded.buckets, counts = excluded.counts",
        &keys.companies,
        &keys.hours,
        &keys.campaigns,
        &keys.skillbases,
        &sums.keys().map(|(_, latency)| latency.to_string()).collect::<Vec<_>>(),
        &sums.values().map(|s| s.count).collect::<Vec<_>>(),
        &sums.values().map(|s| s.sum_us).collect::<Vec<_>>(),
        &sums.values().map(|s| s.min_us).collect::<Vec<_>>(),
        &sums.values().map(|s| s.max_us).collect::<Vec<_>>(),
        &sums.values().map(|s| array_text(s.histogram.buckets().map(|(bucket, _)| bucket))).collect::<Vec<_>>(),
        &sums.values().map(|s| array_text(s.histogram.buckets().map(|(_, count)| count))).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn add_saved(db: &mut PgConnection, sums: &mut BTreeMap<(RollupKey, Latency), LatencySums>) -> Result<(), sqlx::Error> {
    let keys = Keys::of(sums.keys().map(|(key, _)| key));
    let rows = sqlx::query!(
        "select company_id, hour, campaign_id, skillbase_id, latency, count, sum_us, min_us, max_us, buckets, counts
           from latency_rollups
          where (company_id, hour, campaign_id, skillbase_id, latency) in
                (select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[]))",
        &keys.companies,
        &keys.hours,
        &keys.campaigns,
        &keys.skillbases,
        &sums.keys().map(|(_, latency)| latency.to_string()).collect::<Vec<_>>()
    );
    for row in rows.fetch_all(db).await? {
        let key = RollupKey { company_id: row.company_id, hour: row.hour, campaign_id: row.campaign_id, skillbase_id: row.skillbase_id };
        let latency = row.latency.parse().map_err(|_| sqlx::Error::Decode(format!("{} is not a latency", row.latency).into()))?;
        // Rows are found by the combinations of two lists of columns: some belong to none of the sums.
        let Some(sums) = sums.get_mut(&(key, latency)) else { continue };
        sums.count += row.count;
        sums.sum_us += row.sum_us;
        sums.min_us = sums.min_us.min(row.min_us);
        sums.max_us = sums.max_us.max(row.max_us);
        row.buckets.into_iter().zip(row.counts).for_each(|(bucket, count)| sums.histogram.add(bucket, count));
    }
    Ok(())
}

/// A call left these rollups (its start or campaign became known): deletes the latencies that no call has any more, and finds the extremes
/// of the rest again among the calls that stay.
async fn mend_extremes(db: &mut PgConnection, key: RollupKey) -> Result<(), sqlx::Error> {
    let RollupKey { company_id, hour, campaign_id, skillbase_id } = key;
    for latency in Latency::iter() {
        sqlx::query!(
            "update latency_rollups r set min_us = m.min_us, max_us = m.max_us
               from (select min(v) as min_us, max(v) as max_us
                       from call_metrics c,
                            unnest(case $5::text when 'ttfb_stt' then c.ttfb_stt_us when 'latency_llm' then c.latency_llm_us
                                                 when 'ttfb_tts' then c.ttfb_tts_us else c.eou_latency_us end) v
                      where c.company_id = $1 and c.started_at >= $2 and c.started_at < $2 + interval '1 hour'
                        and coalesce(c.campaign_id, '00000000-0000-0000-0000-000000000000') = $3
                        and coalesce(c.skillbase_id, '00000000-0000-0000-0000-000000000000') = $4) m
              where r.company_id = $1 and r.hour = $2 and r.campaign_id = $3 and r.skillbase_id = $4 and r.latency = $5 and m.min_us is not null",
            company_id,
            hour,
            campaign_id,
            skillbase_id,
            latency.to_string()
        )
        .execute(&mut *db)
        .await?;
    }
    sqlx::query!(
        "delete from latency_rollups where company_id = $1 and hour = $2 and campaign_id = $3 and skillbase_id = $4 and count = 0",
        company_id,
        hour,
        campaign_id,
        skillbase_id
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from call_rollups where company_id = $1 and hour = $2 and campaign_id = $3 and skillbase_id = $4 and call_count = 0",
        company_id,
        hour,
        campaign_id,
        skillbase_id
    )
    .execute(&mut *db)
    .await?;
    Ok(())
}
