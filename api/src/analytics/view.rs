use std::collections::BTreeMap;

use domain::{
    count,
    latency::{Latency, percentile},
    outcome::OutcomeCounts,
    price::{Component, Unit},
};
use projections::{
    call_metrics::{Aggregate, CallMetricsRow, LatencyAggregate},
    cost_rollups::{CostRow, Costs, Unpriced},
};
use rust_decimal::Decimal;
use serde::Serialize;
use services::tables::Cell;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    numbers::{ms, seconds, share},
    tables::{Row, row},
    words::{ComponentName, CostGroupByName, GroupByName, OutcomeName, UnitName},
};

/// Usage without a rate, which costs nothing.
#[derive(Serialize, ToSchema)]
pub struct UnpricedView {
    /// What was used
    #[schema(value_type = ComponentName)]
    component: Component,
    /// The provider, as the turns name it
    provider: Option<String>,
    /// The model, as the turns name it
    model: Option<String>,
    /// In `unit`
    quantity: f64,
    /// The unit of `quantity`
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
    /// Time to the first byte from speech recognition: average, ms
    pub ttfb_stt_avg: Option<f64>,
    /// Time to the first byte from speech recognition: minimum, ms
    pub ttfb_stt_min: Option<f64>,
    /// Time to the first byte from speech recognition: maximum, ms
    pub ttfb_stt_max: Option<f64>,
    /// Time to the first byte from speech recognition: median, ms
    pub ttfb_stt_p50: Option<f64>,
    /// Time to the first byte from speech recognition: 95th percentile, ms
    pub ttfb_stt_p95: Option<f64>,
    /// Time to the first byte from speech recognition: 99th percentile, ms
    pub ttfb_stt_p99: Option<f64>,
    /// Time until the language model answered: average, ms
    pub latency_llm_avg: Option<f64>,
    /// Time until the language model answered: minimum, ms
    pub latency_llm_min: Option<f64>,
    /// Time until the language model answered: maximum, ms
    pub latency_llm_max: Option<f64>,
    /// Time until the language model answered: median, ms
    pub latency_llm_p50: Option<f64>,
    /// Time until the language model answered: 95th percentile, ms
    pub latency_llm_p95: Option<f64>,
    /// Time until the language model answered: 99th percentile, ms
    pub latency_llm_p99: Option<f64>,
    /// Time to the first byte from speech synthesis: average, ms
    pub ttfb_tts_avg: Option<f64>,
    /// Time to the first byte from speech synthesis: minimum, ms
    pub ttfb_tts_min: Option<f64>,
    /// Time to the first byte from speech synthesis: maximum, ms
    pub ttfb_tts_max: Option<f64>,
    /// Time to the first byte from speech synthesis: median, ms
    pub ttfb_tts_p50: Option<f64>,
    /// Time to the first byte from speech synthesis: 95th percentile, ms
    pub ttfb_tts_p95: Option<f64>,
    /// Time to the first byte from speech synthesis: 99th percentile, ms
    pub ttfb_tts_p99: Option<f64>,
    /// From the end of the utterance to the first sound of the answer: average, ms
    pub eou_latency_avg: Option<f64>,
    /// From the end of the utterance to the first sound of the answer: minimum, ms
    pub eou_latency_min: Option<f64>,
    /// From the end of the utterance to the first sound of the answer: maximum, ms
    pub eou_latency_max: Option<f64>,
    /// From the end of the utterance to the first sound of the answer: median, ms
    pub eou_latency_p50: Option<f64>,
    /// From the end of the utterance to the first sound of the answer: 95th percentile, ms
    pub eou_latency_p95: Option<f64>,
    /// From the end of the utterance to the first sound of the answer: 99th percentile, ms
    pub eou_latency_p99: Option<f64>,
}

row!(LatenciesView {
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
});

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
    /// Cost of speech recognition, an exact decimal
    pub cost_stt: Decimal,
    /// Cost of the language model, an exact decimal
    pub cost_llm: Decimal,
    /// Cost of speech synthesis, an exact decimal
    pub cost_tts: Decimal,
    /// Cost of LiveKit, an exact decimal
    pub cost_livekit: Decimal,
    /// The sum of the other costs, an exact decimal
    pub cost_total: Decimal,
}

row!(CostView { cost_stt, cost_llm, cost_tts, cost_livekit });

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

/// Costs of calls, in total or of a group. By component or provider, there are no costs by component and no number of calls, and only the
/// totals have `unpriced`
#[derive(Default, Serialize, ToSchema)]
pub struct CostFields {
    /// Cost of speech recognition, an exact decimal
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_stt: Option<Decimal>,
    /// Cost of the language model, an exact decimal
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_llm: Option<Decimal>,
    /// Cost of speech synthesis, an exact decimal
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_tts: Option<Decimal>,
    /// Cost of LiveKit, an exact decimal
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_livekit: Option<Decimal>,
    /// The whole cost, an exact decimal
    pub cost_total: Decimal,
    /// Number of calls
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_count: Option<i64>,
    /// Usage without a rate, which costs nothing
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpriced: Option<Vec<UnpricedView>>,
}

impl CostFields {
    /// The costs of whole calls.
    pub fn of_calls(row: &CostRow) -> Self {
        let CostView { cost_stt, cost_llm, cost_tts, cost_livekit, cost_total } = (&row.costs).into();
        Self {
            cost_stt: Some(cost_stt),
            cost_llm: Some(cost_llm),
            cost_tts: Some(cost_tts),
            cost_livekit: Some(cost_livekit),
            cost_total,
            call_count: Some(row.call_count),
            unpriced: Some(UnpricedView::all(&row.unpriced)),
        }
    }

    /// The costs of one component or provider.
    pub fn of_part(row: &CostRow) -> Self {
        Self { cost_total: row.costs.total().normalize(), ..Self::default() }
    }
}

/// A group and its figures
#[derive(Serialize, ToSchema)]
pub struct Group<T> {
    /// An hour (RFC 3339), a date, an id, or a name; null for calls without one, such as a call without a campaign
    pub key: Option<String>,
    /// The name of what the key identifies; absent for keys that are no ids
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(flatten)]
    pub fields: T,
}

/// Metrics in total and by group
#[derive(Serialize, ToSchema)]
pub struct MetricsView {
    /// What the groups are; absent without `group_by`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<GroupByName>)]
    pub group_by: Option<String>,
    /// Over all calls
    pub totals: AggregateView,
    /// In the order of their keys; absent without `group_by`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Group<AggregateView>>>,
}

/// Costs in total and by group; the groups sum exactly to the totals
#[derive(Serialize, ToSchema)]
pub struct CostsView {
    /// What the groups are; absent without `group_by`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<CostGroupByName>)]
    pub group_by: Option<String>,
    /// Over all calls
    pub totals: CostFields,
    /// In the order of their keys; absent without `group_by`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Group<CostFields>>>,
}

#[derive(Serialize, ToSchema)]
pub struct CallMetricsView {
    /// Id of the call
    pub call_id: Uuid,
    /// Number of recorded turns
    pub turn_count: i64,
    /// Turns in which the caller interrupted the agent
    pub interruption_count: i64,
    /// 0 to 1; 0 when there are no turns
    pub interruption_rate: f64,
    #[serde(flatten)]
    pub latencies: LatenciesView,
    /// Recognized speech in seconds; null when no turn has the value
    pub stt_duration_sec: Option<f64>,
    /// Tokens that the language model read; null when no turn has the value
    pub llm_input_tokens: Option<i64>,
    /// Tokens that the language model wrote; null when no turn has the value
    pub llm_output_tokens: Option<i64>,
    /// Characters that were spoken; null when no turn has the value
    pub tts_characters: Option<i64>,
    /// Duration of the call in seconds; null until it has ended
    pub duration_sec: Option<f64>,
    #[serde(flatten)]
    pub costs: CostView,
    /// How the call ended; null while it is not known
    #[schema(value_type = Option<OutcomeName>)]
    pub outcome: Option<String>,
}

/// Beside the call: without what the call itself shows.
impl Row for CallMetricsView {
    fn names() -> Vec<&'static str> {
        let before = vec!["turn_count", "interruption_count", "interruption_rate"];
        let after = vec!["stt_duration_sec", "llm_input_tokens", "llm_output_tokens", "tts_characters"];
        [before, LatenciesView::names(), after, CostView::names()].concat()
    }

    fn cells(&self) -> Vec<Cell> {
        let before = vec![self.turn_count.into(), self.interruption_count.into(), self.interruption_rate.into()];
        let used = [self.llm_input_tokens, self.llm_output_tokens, self.tts_characters].map(Cell::from);
        let after = [vec![self.stt_duration_sec.into()], used.into()].concat();
        [before, self.latencies.cells(), after, self.costs.cells()].concat()
    }
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
    /// Number of calls
    pub call_count: i64,
    /// Number of calls that have ended
    pub ended_count: i64,
    /// Number of recorded turns
    pub turn_count: i64,
    /// Turns in which the caller interrupted the agent
    pub interruption_count: i64,
    /// Interruptions ÷ turns, 0 to 1; 0 when there are no turns
    pub interruption_rate: f64,
    #[serde(flatten)]
    pub latencies: LatenciesView,
    /// Recognized speech in seconds; null when no turn has the value
    pub stt_duration_sec: Option<f64>,
    /// Tokens that the language model read; null when no turn has the value
    pub llm_input_tokens: Option<i64>,
    /// Tokens that the language model wrote; null when no turn has the value
    pub llm_output_tokens: Option<i64>,
    /// Characters that were spoken; null when no turn has the value
    pub tts_characters: Option<i64>,
    /// Sum over the ended calls; null when no call has ended
    pub duration_sec: Option<f64>,
    #[serde(flatten)]
    pub costs: CostView,
    /// Number of calls by outcome
    pub outcomes: OutcomesView,
}

#[derive(Default, Serialize, ToSchema)]
pub struct OutcomesView {
    /// With outcome success
    pub success: i64,
    /// With outcome fail
    pub fail: i64,
    /// With outcome voicemail
    pub voicemail: i64,
    /// With outcome no_answer
    pub no_answer: i64,
    /// With outcome busy
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
            ended_count: aggregate.ended_count,
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
