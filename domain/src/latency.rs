//! Latencies: exact percentiles of a few values, and mergeable histograms of many.
//!
//! The histogram has logarithmic buckets with ratio γ = (1 + α) / (1 − α), as in DDSketch (Masson, Rim and Lee, VLDB 2019):
//! any value of a bucket is within α of the bucket's representative, and histograms merge by adding counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The four latencies of a turn.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Latency {
    /// Caller's speech to the first transcript byte.
    TtfbStt,
    /// Request to the language model's first token.
    LatencyLlm,
    /// Text to the first byte of speech.
    TtfbTts,
    /// Turn start to playback start.
    EouLatency,
}

/// Largest relative error of a percentile taken from a histogram.
pub const RELATIVE_ERROR: f64 = 0.01;

fn gamma() -> f64 {
    (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)
}

/// The bucket of a latency in microseconds: 0 for zero, else `1 + ⌈log_γ value⌉`.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the logarithm of an i64 fits an i32")]
pub fn bucket(value_us: i64) -> i32 {
    if value_us <= 0 { 0 } else { 1 + ((value_us as f64).ln() / gamma().ln()).ceil() as i32 }
}

/// The value that stands for a bucket, in microseconds: `2 γ^i / (γ + 1)`.
pub fn bucket_value(bucket: i32) -> f64 {
    if bucket <= 0 { 0.0 } else { 2.0 * gamma().powi(bucket - 1) / (gamma() + 1.0) }
}

/// Rank of the `q`-quantile among `count` values, from 1: the smallest with at least `q · count` values at or below it.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "counts are far below 2^52")]
fn nearest_rank(count: u64, q: f64) -> u64 {
    ((q * count as f64).ceil() as u64).clamp(1, count)
}

/// Exact nearest-rank percentile of `sorted` values; `None` when there are none.
pub fn percentile(sorted: &[i64], q: f64) -> Option<i64> {
    let rank = nearest_rank(u64::try_from(sorted.len()).ok().filter(|n| *n > 0)?, q);
    sorted.get(usize::try_from(rank).ok()? - 1).copied()
}

/// Counts by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(BTreeMap<i32, i64>);

impl Histogram {
    /// Adds `count` to a bucket's count; `count` may be negative.
    pub fn add(&mut self, bucket: i32, count: i64) {
        *self.0.entry(bucket).or_default() += count;
    }

    /// The buckets that are not empty, ascending, with their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, i64)> {
        self.0.iter().map(|(bucket, count)| (*bucket, *count)).filter(|(_, count)| *count != 0)
    }

    /// Nearest-rank percentile in microseconds, within [`RELATIVE_ERROR`]; `None` when empty.
    pub fn percentile(&self, q: f64) -> Option<f64> {
        let count = self.0.values().sum::<i64>();
        let rank = nearest_rank(u64::try_from(count).ok().filter(|n| *n > 0)?, q);
        let mut seen = 0;
        self.0.iter().find_map(|(bucket, n)| {
            seen += n;
            (u64::try_from(seen).ok()? >= rank).then(|| bucket_value(*bucket))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearest_rank_takes_a_value_that_is_there() {
        let values = [10, 20, 30, 40];
        assert_eq!(percentile(&values, 0.5), Some(20));
        assert_eq!(percentile(&values, 0.95), Some(40));
        assert_eq!(percentile(&values[..1], 0.99), Some(10));
        assert_eq!(percentile(&[], 0.5), None);
    }

    proptest! {
        #[test]
        fn a_histogram_is_within_one_percent_of_the_exact_percentile(mut values in prop::collection::vec(prop_oneof![0..2_000_i64, 0..5_000_000_i64, 0..10_000_000_000_i64], 1..400), q in 0.0..1.0) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.add(bucket(*value), 1);
            }
            values.sort_unstable();
            let exact = percentile(&values, q).unwrap() as f64;
            let estimate = histogram.percentile(q).unwrap();
            prop_assert!((estimate - exact).abs() <= exact * RELATIVE_ERROR * 1.000_001, "{} for {}", estimate, exact);
        }
    }
}
