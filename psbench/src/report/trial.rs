//! A trial in one line.

use crate::results::{Status, TrialRecord};
use crate::units::{Size, human};

/// What a trial measures: `proxy 10 MB, 4 workers`.
pub fn name(way: &str, data_size_bytes: u64, workers: u32) -> String {
    format!("{way} {:#}, {workers} workers", Size::from_bytes(data_size_bytes))
}

/// How it ended and how fast it was; what was not measured is left out.
pub fn outcome(trial: &TrialRecord) -> String {
    let mut parts =
        vec![format!("{}: {} of {} items", status(trial.status), trial.items.finished, trial.items.planned)];
    if trial.items.late > 0 {
        parts.push(format!("{} late", trial.items.late));
    }
    if let Some(rates) = &trial.rates {
        parts.push(format!("{} items/s", human::number(rates.items_per_s)));
        parts.extend(rates.goodput_bytes_per_s.map(|rate| format!("{}/s", human::bytes(rate))));
    }
    if let Some(latency) = trial.end_to_end() {
        let [p50, p99] = [latency.p50_ns, latency.p99_ns].map(|ns| human::nanoseconds(ns as f64));
        let queue = trial.max_inflight_items.map(|items| format!(" with up to {items} items under way"));
        parts.push(format!("p50 {p50}, p99 {p99}{}", queue.unwrap_or_default()));
    }
    parts.join(", ")
}

/// The word for an end.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Complete => "complete",
        Status::Incomplete => "incomplete",
        Status::Interrupted => "interrupted",
        Status::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Method;
    use crate::results::sample;

    #[test]
    fn a_line_tells_what_was_measured() {
        let mut trial = sample::trial(Method::Proxy, 10_000_000, 281.0);
        assert_eq!(name(trial.way(), trial.data_size_bytes, trial.workers), "proxy 10 MB, 4 workers");
        assert_eq!(
            outcome(&trial),
            "complete: 200 of 200 items, 281 items/s, 2.81 GB/s, p50 11.9 ms, p99 15.0 ms with up to 32 items under way"
        );
        trial.items.late = 30;
        assert!(outcome(&trial).starts_with("complete: 200 of 200 items, 30 late, 281 items/s"), "{}", outcome(&trial));
        trial.items.late = 0;
        (trial.rates, trial.status) = (None, Status::Failed);
        trial.latency.clear();
        assert_eq!(outcome(&trial), "failed: 200 of 200 items");
    }
}
