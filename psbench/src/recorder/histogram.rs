//! Distributions of times.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};

use crate::clock::Nanos;
use crate::results::record::Latency;

/// Times between two stages. What is below zero, an error of clocks, is kept apart and never altered.
#[derive(Clone, Debug)]
pub(super) struct Times {
    times: Histogram<u64>,
    negative: Histogram<u64>,
}

impl Default for Times {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "0 to 5 digits are valid")]
        let empty = Histogram::new(3).expect("3 digits");
        Self { times: empty.clone(), negative: empty }
    }
}

impl Times {
    /// Records the time from one instant to a later one.
    pub(super) fn record(&mut self, from: Nanos, to: Nanos) {
        let (histogram, time) = if to >= from { (&mut self.times, to - from) } else { (&mut self.negative, from - to) };
        // The range grows by itself; only a time beyond what can be counted is recorded as the largest there is.
        if histogram.record(time).is_err() {
            histogram.saturating_record(time);
        }
    }

    /// The value below which a share of the times lies, ns.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        self.times.value_at_quantile(share)
    }

    /// The smallest time, ns.
    pub(super) fn min(&self) -> u64 {
        self.times.min()
    }

    /// What is written of it; `None` when nothing was recorded.
    pub(super) fn summary(&self) -> Option<Latency> {
        let Self { times, negative } = self;
        let any_negative = !negative.is_empty();
        (any_negative || !times.is_empty()).then(|| Latency {
            count: times.len(),
            negative_count: negative.len(),
            negative_max_ns: any_negative.then(|| negative.max()),
            min_ns: times.min(),
            mean_ns: times.mean(),
            stddev_ns: times.stdev(),
            p50_ns: times.value_at_quantile(0.5),
            p90_ns: times.value_at_quantile(0.9),
            p95_ns: times.value_at_quantile(0.95),
            p99_ns: times.value_at_quantile(0.99),
            p999_ns: times.value_at_quantile(0.999),
            max_ns: times.max(),
            clock_error_ns: None,
            hdr_base64: serialised(times),
            negative_hdr_base64: any_negative.then(|| serialised(negative)),
        })
    }
}

fn serialised(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Into memory this fails for no histogram of 64-bit counts.
    if let Err(error) = V2Serializer::new().serialize(histogram, &mut bytes) {
        tracing::warn!(?error, "a histogram could not be written");
    }
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;

    #[test]
    fn negative_times_are_counted_apart() {
        let mut times = Times::default();
        times.record(100, 400);
        times.record(400, 100);
        times.record(5, 5);
        let summary = times.summary().unwrap();
        assert_eq!((summary.count, summary.negative_count, summary.negative_max_ns), (2, 1, Some(300)));
        assert_eq!((summary.min_ns, summary.max_ns), (0, 300));
    }

    #[test]
    fn the_range_reaches_from_nanoseconds_to_days() {
        const DAY: Nanos = 86_400_000_000_000;
        for time in [1, 1_000, 1_000_000_000, DAY] {
            let mut times = Times::default();
            times.record(7, 7 + time);
            let p50 = times.summary().unwrap().p50_ns;
            assert!(p50.abs_diff(time) <= time / 1000, "{p50} for {time}");
        }
    }

    #[test]
    fn nothing_recorded_is_absent() {
        assert_eq!(Times::default().summary(), None);
    }

    #[test]
    fn the_whole_histogram_is_written() {
        let mut times = Times::default();
        (0..1000).for_each(|n| times.record(0, n * n));
        let bytes = STANDARD.decode(times.summary().unwrap().hdr_base64).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(read, times.times);
    }
}
