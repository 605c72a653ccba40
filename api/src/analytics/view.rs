use std::collections::BTreeMap;

use domain::{
    count,
    latency::{Latency, percentile},
    outcome::OutcomeCounts,
    price::{Component, Unit},
};
use projections::{
    call_metrics::{Aggregate, CallMetricsRow, LatencyAggregate},
    cost_rollups::{Costs, Unpriced},
};
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    numbers::{ms, seconds, share},
    words::{ComponentName, UnitName},
};

/// Usage without a rate, which costs nothing.
#[derive(Serialize, ToSchema)]
pub struct UnpricedView {
    #[schema(value_type = ComponentName)]
    component: Component,
    provider: Option<String>,
    model: Option<String>,
    /// In `unit`
    quantity: f64,
    #[schema(value_type = UnitName)]
    unit: Unit,
}

impl UnpricedView {
    pub fn all(unpriced: &BTreeMap<Unpriced, Decimal>) -> Vec<Self> {
        let view = |(what, quantity): (&Unpriced, &Decimal)| Self {
            component: what.component,
            provider: what.provider.clone(),
            model: what.model.clone(),
            quantity: seconds(*quantity),
            unit: what.component.usage_unit(),
        };
        unpriced.iter().map(view).collect()
    }
}

/// Measured latencies in milliseconds; null when no turn has the value.
#[derive(Default, Serialize, ToSchema)]
pub struct LatenciesView {
    pub ttfb_stt_avg: Option<f64>,
    pub ttfb_stt_min: Option<f64>,
    pub ttfb_stt_max: Option<f64>,
    pub ttfb_stt_p50: Option<f64>,
    pub ttfb_stt_p95: Option<f64>,
    pub ttfb_stt_p99: Option<f64>,
    pub latency_llm_avg: Option<f64>,
    pub latency_llm_min: Option<f64>,
    pub latency_llm_max: Option<f64>,
    pub latency_llm_p50: Option<f64>,
    pub latency_llm_p95: Option<f64>,
    pub latency_llm_p99: Option<f64>,
    pub ttfb_tts_avg: Option<f64>,
    pub ttfb_tts_min: Option<f64>,
    pub ttfb_tts_max: Option<f64>,
    pub ttfb_tts_p50: Option<f64>,
    pub ttfb_tts_p95: Option<f64>,
    pub ttfb_tts_p99: Option<f64>,
    pub eou_latency_avg: Option<f64>,
    pub eou_latency_min: Option<f64>,
    pub eou_latency_max: Option<f64>,
    pub eou_latency_p50: Option<f64>,
    pub eou_latency_p95: Option<f64>,
    pub eou_latency_p99: Option<f64>,
}

/// avg, min, max, p50, p95, p99
type Six = [Option<f64>; 6];

impl LatenciesView {
    fn new(of: impl Fn(Latency) -> Six) -> Self {
        let [ttfb_stt_avg, ttfb_stt_min, ttfb_stt_max, ttfb_stt_p50, ttfb_stt_p95, ttfb_stt_p99] = of(Latency::TtfbStt);
        let [latency_llm_avg, latency_llm_min, latency_llm_max, latency_llm_p50, latency_llm_p95, latency_llm_p99] =
            of(Latency::LatencyLlm);
        let [ttfb_tts_avg, ttfb_tts_min, ttfb_tts_max, ttfb_tts_p50, ttfb_tts_p95, ttfb_tts_p99] = of(Latency::TtfbTts);
        let [eou_latency_avg, eou_latency_min, eou_latency_max, eou_latency_p50, eou_latency_p95, eou_latency_p99] =
            of(Latency::EouLatency);
        Self {
            ttfb_stt_avg,
            ttfb_stt_min,
            ttfb_stt_max,
            ttfb_stt_p50,
            ttfb_stt_p95,
            ttfb_stt_p99,
            latency_llm_avg,
            latency_llm_min,
            latency_llm_max,
            latency_llm_p50,
            latency_llm_p95,
            latency_llm_p99,
            ttfb_tts_avg,
            ttfb_tts_min,
            ttfb_tts_max,
            ttfb_tts_p50,
            ttfb_tts_p95,
            ttfb_tts_p99,
            eou_latency_avg,
            eou_latency_min,
            eou_latency_max,
            eou_latency_p50,
            eou_latency_p95,
            eou_latency_p99,
        }
    }
}

/// Computes exact figures from the values of one call, which are sorted in ascending order, in microseconds.
fn exact(values: &[i64]) -> Six {
    let count = count::to_i64(values.len());
    let avg = share(values.iter().sum(), count).map(|us| us / 1_000.0);
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| percentile(values, q).map(ms));
    [avg, values.first().copied().map(ms), values.last().copied().map(ms), p50, p95, p99]
}

/// Figures over the turns of many calls: percentiles are exact to within 1 % and lie between minimum and maximum; all other figures are
/// exact.
fn merged(latency: Option<&LatencyAggregate>) -> Six {
    let Some(LatencyAggregate { count, sum_us, min_us: Some(min), max_us: Some(max), histogram }) = latency else { return [None; 6] };
    let avg = (*count > 0).then(|| seconds(sum_us / Decimal::from(*count)) / 1_000.0);
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| histogram.percentile(q).map(|us| (us / 1_000.0).clamp(ms(*min), ms(*max))));
    [avg, Some(ms(*min)), Some(ms(*max)), p50, p95, p99]
}

#[derive(Default, Serialize, ToSchema)]
pub struct CostView {
    pub cost_stt: Decimal,
    pub cost_llm: Decimal,
    pub cost_tts: Decimal,
    pub cost_livekit: Decimal,
    pub cost_total: Decimal,
}

impl From<&Costs> for CostView {
    fn from(costs: &Costs) -> Self {
        Self {
            cost_stt: costs.stt.normalize(),
            cost_llm: costs.llm.normalize(),
            cost_tts: costs.tts.normalize(),
            cost_livekit: costs.livekit.normalize(),
            cost_total: costs.total().normalize(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct CallMetricsView {
    pub call_id: Uuid,
    pub turn_count: i64,
    pub interruption_count: i64,
    /// 0 to 1; 0 when there are no turns
    pub interruption_rate: f64,
    #[serde(flatten)]
    pub latencies: LatenciesView,
    pub stt_duration_sec: Option<f64>,
    pub llm_input_tokens: Option<i64>,
    pub llm_output_tokens: Option<i64>,
    pub tts_characters: Option<i64>,
    pub duration_sec: Option<f64>,
    #[serde(flatten)]
    pub costs: CostView,
    pub outcome: Option<String>,
}

impl CallMetricsView {
    pub fn new(row: &CallMetricsRow, costs: &Costs) -> Self {
        Self {
            call_id: row.call_id,
            turn_count: row.turn_count,
            interruption_count: row.interruption_count,
            interruption_rate: share(row.interruption_count, row.turn_count).unwrap_or_default(),
            latencies: LatenciesView::new(|latency| exact(row.latency(latency))),
            stt_duration_sec: row.stt_duration_sec.map(seconds),
            llm_input_tokens: row.llm_input_tokens,
            llm_output_tokens: row.llm_output_tokens,
            tts_characters: row.tts_characters,
            duration_sec: row.duration_sec.map(seconds),
            costs: costs.into(),
            outcome: row.outcome.clone(),
        }
    }
}

/// Metrics over many calls. They are computed from all turns, not as averages of averages.
#[derive(Serialize, ToSchema)]
pub struct AggregateView {
    pub call_count: i64,
    pub turn_count: i64,
    pub interruption_count: i64,
    pub interruption_rate: f64,
    #[serde(flatten)]
    pub latencies: LatenciesView,
    pub stt_duration_sec: Option<f64>,
    pub llm_input_tokens: Option<i64>,
    pub llm_output_tokens: Option<i64>,
    pub tts_characters: Option<i64>,
    /// Sum over the ended calls; null when no call has ended
    pub duration_sec: Option<f64>,
    #[serde(flatten)]
    pub costs: CostView,
    pub outcomes: OutcomesView,
}

#[derive(Default, Serialize, ToSchema)]
pub struct OutcomesView {
    pub success: i64,
    pub fail: i64,
    pub voicemail: i64,
    pub no_answer: i64,
    pub busy: i64,
}

impl From<OutcomeCounts> for OutcomesView {
    fn from(counts: OutcomeCounts) -> Self {
        let OutcomeCounts { success, fail, voicemail, no_answer, busy } = counts;
        Self { success, fail, voicemail, no_answer, busy }
    }
}

impl AggregateView {
    pub fn new(aggregate: &Aggregate, costs: &Costs) -> Self {
        Self {
            call_count: aggregate.call_count,
            turn_count: aggregate.turn_count,
            interruption_count: aggregate.interruption_count,
            interruption_rate: share(aggregate.interruption_count, aggregate.turn_count).unwrap_or_default(),
            latencies: LatenciesView::new(|latency| merged(aggregate.latencies.get(&latency))),
            stt_duration_sec: aggregate.stt_duration_sec.map(seconds),
            llm_input_tokens: aggregate.llm_input_tokens,
            llm_output_tokens: aggregate.llm_output_tokens,
            tts_characters: aggregate.tts_characters,
            duration_sec: (aggregate.ended_count > 0).then(|| seconds(aggregate.duration_sec)),
            costs: costs.into(),
            outcomes: aggregate.outcomes.into(),
        }
    }
}
