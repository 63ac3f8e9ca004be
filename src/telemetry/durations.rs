//! A histogram of durations. Observing takes no lock, and the buckets can be read back, which `prometheus_client`'s own
//! cannot do.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Durations(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// The upper limits of the buckets, in seconds; one more bucket has none.
    limits: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// In seconds: the bits of an `f64`.
    sum: AtomicU64,
}

impl Durations {
    pub fn new(limits: &'static [f64]) -> Self {
        let counts = (0..=limits.len()).map(|_| AtomicU64::new(0)).collect();
        Durations(Arc::new(Buckets { limits, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }))
    }

    pub fn observe(&self, took: Duration) {
        let Buckets { limits, counts, sum } = &*self.0;
        let seconds = took.as_secs_f64();
        let bucket = limits.iter().position(|limit| seconds <= *limit).unwrap_or(limits.len());
        if let Some(count) = counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let added = |bits| Some((f64::from_bits(bits) + seconds).to_bits());
        let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added); // never refused
    }

    /// How many durations each bucket has seen.
    pub fn counts(&self) -> Vec<u64> {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// The duration below which this share of the observed ones are, in seconds: a point between the limits of its bucket.
/// `None` if there are none; infinite beyond the last limit.
pub fn quantile(limits: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let wanted = all as f64 * share;
    let mut below = 0;
    for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        below += count;
        if below as f64 >= wanted {
            let from = at.checked_sub(1).and_then(|before| limits.get(before)).copied().unwrap_or(0.0);
            let Some(to) = limits.get(at).copied() else { return Some(f64::INFINITY) };
            let inside = (wanted - (below - count) as f64) / *count as f64;
            return Some(from + (to - from) * inside.clamp(0.0, 1.0));
        }
    }
    None
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let limits = self.0.limits.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = limits.zip(self.counts()).collect();
        let all = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, all, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_and_told() {
        let durations = Durations::new(&[0.001, 0.01]);
        for millis in [0, 1, 2, 3, 4, 5, 6, 7, 8, 500] {
            durations.observe(Duration::from_millis(millis));
        }
        assert_eq!(durations.counts(), [2, 7, 1]);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("d", "text", durations.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let sum = "d_sum 0.536\n";
        for line in [
            sum,
            "d_count 10\n",
            "d_bucket{le=\"0.001\"} 2\n",
            "d_bucket{le=\"0.01\"} 9\n",
            "d_bucket{le=\"+Inf\"} 10\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        let at = |share| quantile(&[0.001, 0.01], &durations.counts(), share).unwrap();
        for (share, expected) in [(0.2, 0.001), (0.55, 0.0055), (0.9, 0.01)] {
            assert!((at(share) - expected).abs() < 1e-9, "{share}: {}", at(share));
        }
        assert_eq!(quantile(&[0.001, 0.01], &durations.counts(), 1.0), Some(f64::INFINITY));
        assert_eq!(quantile(&[0.001, 0.01], &[0, 0, 0], 0.5), None);
    }
}
