//! The trials of one point of the matrix together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Estimate, Status, TrialRecord};
use crate::plan::Method;

/// One point of the matrix. The figures are of trials that ended by themselves (complete or incomplete) and finished an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Workers, the generators included.
    pub workers: u32,
    /// Item size, bytes.
    pub data_size_bytes: u64,
    /// The stream method.
    pub method: Method,
    /// The path; absent where none are compared.
    pub path: Option<String>,
    /// Trials, those without figures included.
    pub trials: usize,
    /// The worst end of a trial.
    pub status: Status,
    /// Items planned in all trials.
    pub planned: u64,
    /// Items of all trials that finished.
    pub finished: u64,
    /// Items of all trials that finished past their deadline.
    pub late: u64,
    /// Items of all trials that were lost.
    pub lost: u64,
    /// Items of all trials that failed.
    pub failed: u64,
    /// Whether the workers kept up in every trial whose broker told; absent where none did.
    pub sustained: Option<bool>,
    /// Rate at which items were due, per second; absent when they were due at once.
    pub scheduled_items_per_s: Option<f64>,
    /// The most items that were let be under way at a time, where items were due at once: then latencies are those of a queue of that length.
    pub max_inflight_items: Option<u64>,
    /// Finished items per second.
    pub items_per_s: Option<Estimate>,
    /// Goodput, bytes per second.
    pub goodput_bytes_per_s: Option<Estimate>,
    /// Median of an item's time from due to done, ns.
    pub end_to_end_p50_ns: Option<Estimate>,
    /// Its 95th percentile, ns.
    pub end_to_end_p95_ns: Option<Estimate>,
    /// Its 99th percentile, ns.
    pub end_to_end_p99_ns: Option<Estimate>,
    /// Smoothed variation of transit time (RFC 3550 §6.4.1), ns.
    pub jitter_rfc3550_ns: Option<Estimate>,
    /// Bytes that passed through the dispatcher, received and sent.
    pub dispatcher_bytes: Option<Estimate>,
    /// CPU seconds per 10⁹ payload bytes.
    pub cpu_seconds_per_gb: Option<Estimate>,
}

impl Summary {
    /// What people know it by: its path, or its method where no paths are compared.
    pub fn way(&self) -> &str {
        self.path.as_deref().unwrap_or(self.method.name())
    }

    /// Whether nothing went wrong: a trial that the user ended says nothing of its path.
    pub(crate) fn is_well(&self) -> bool {
        matches!(self.status, Status::Complete | Status::Interrupted)
    }

    /// Whether its figures are those of complete trials alone.
    pub(crate) fn has_figures(&self) -> bool {
        self.is_well() && self.goodput_bytes_per_s.is_some()
    }

    fn of(trials: &[&TrialRecord], point: Point<'_>) -> Self {
        let (workers, data_size_bytes, method, path) = point;
        let counted: Vec<_> = trials
            .iter()
            .filter(|trial| matches!(trial.status, Status::Complete | Status::Incomplete))
            .filter(|trial| trial.rates.is_some())
            .collect();
        let estimate = |figure: &dyn Fn(&TrialRecord) -> Option<f64>| {
            Estimate::of(counted.iter().filter_map(|trial| figure(trial)))
        };
        let latency = |trial: &TrialRecord, percentile: fn(&super::Latency) -> u64| {
            trial.end_to_end().map(|latency| percentile(latency) as f64)
        };
        Self {
            workers,
            data_size_bytes,
            method,
            path: path.map(Into::into),
            trials: trials.len(),
            status: trials
                .iter()
                .map(|trial| trial.status)
                .max_by_key(|status| severity(*status))
                .unwrap_or(Status::Failed),
            planned: trials.iter().map(|trial| trial.items.planned).sum(),
            finished: trials.iter().map(|trial| trial.items.finished).sum(),
            late: trials.iter().map(|trial| trial.items.late).sum(),
            lost: trials.iter().map(|trial| trial.items.lost).sum(),
            failed: trials.iter().map(|trial| trial.items.failed).sum(),
            sustained: trials
                .iter()
                .filter_map(|trial| trial.broker.as_ref()?.lag.as_ref()?.sustained)
                .reduce(|all, this| all && this),
            scheduled_items_per_s: counted.iter().find_map(|trial| trial.rates?.scheduled_items_per_s),
            max_inflight_items: trials.iter().find_map(|trial| trial.max_inflight_items),
            items_per_s: estimate(&|trial| Some(trial.rates?.items_per_s)),
            goodput_bytes_per_s: estimate(&|trial| trial.rates?.goodput_bytes_per_s),
            end_to_end_p50_ns: estimate(&|trial| latency(trial, |latency| latency.p50_ns)),
            end_to_end_p95_ns: estimate(&|trial| latency(trial, |latency| latency.p95_ns)),
            end_to_end_p99_ns: estimate(&|trial| latency(trial, |latency| latency.p99_ns)),
            jitter_rfc3550_ns: estimate(&|trial| Some(trial.jitter?.jitter_rfc3550_ns)),
            dispatcher_bytes: estimate(&|trial| {
                Some((trial.dispatcher_bytes.received + trial.dispatcher_bytes.sent) as f64)
            }),
            cpu_seconds_per_gb: estimate(&|trial| trial.cpu_seconds_per_gb),
        }
    }
}

/// Workers, size, method, path.
type Point<'a> = (u32, u64, Method, Option<&'a str>);

/// A summary for each point, in the order of its first trial.
pub(super) fn summarise(trials: &[TrialRecord]) -> Vec<Summary> {
    let mut points: Vec<(Point<'_>, Vec<&TrialRecord>)> = Vec::new();
    for trial in trials {
        let point = (trial.workers, trial.data_size_bytes, trial.method, trial.path.as_deref());
        match points.iter_mut().find(|(known, _)| *known == point) {
            Some((_, of_point)) => of_point.push(trial),
            None => points.push((point, vec![trial])),
        }
    }
    points.iter().map(|(point, of_point)| Summary::of(of_point, *point)).collect()
}

fn severity(status: Status) -> u8 {
    match status {
        Status::Complete => 0,
        Status::Interrupted => 1,
        Status::Incomplete => 2,
        Status::Failed => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sample;

    #[test]
    fn repetitions_of_a_point_come_together() {
        let trials: Vec<_> = [10.0, 30.0, 20.0]
            .into_iter()
            .flat_map(|rate| [Method::Default, Method::Proxy].map(|method| sample::trial(method, 1_000_000, rate)))
            .collect();
        let summaries = summarise(&trials);
        assert_eq!(summaries.len(), 2);
        for summary in summaries {
            assert_eq!(summary.trials, 3);
            assert_eq!(summary.items_per_s.unwrap().median, 20.0);
            assert_eq!(summary.status, Status::Complete);
        }
    }

    #[test]
    fn failed_and_interrupted_trials_give_no_figures_but_show() {
        let mut failed = sample::trial(Method::Proxy, 1, 1.0);
        failed.status = Status::Failed;
        failed.items.lost = 3;
        let mut interrupted = sample::trial(Method::Proxy, 1, 2.0);
        interrupted.status = Status::Interrupted;
        let summaries = summarise(&[sample::trial(Method::Proxy, 1, 100.0), failed, interrupted]);
        let [summary] = &summaries[..] else { panic!("{summaries:?}") };
        assert_eq!(summary.items_per_s.unwrap().n, 1);
        assert_eq!((summary.trials, summary.status, summary.lost), (3, Status::Failed, 3));
    }
}
