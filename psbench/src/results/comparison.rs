//! The two methods beside each other at one point of the matrix.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Estimate, Status, Summary, TrialRecord};
use crate::plan::Method;

/// Throughputs that differ by less than this part are even.
pub(super) const EVEN_THROUGHPUT: f64 = 0.05;
/// Latencies that differ by less than this part are even: near saturation, where the default pacing works, they wander.
const EVEN_LATENCY: f64 = 0.2;
/// A method that reaches this part of the scheduled rate keeps pace: its throughput is the schedule's, not its own.
const KEEPS_PACE: f64 = 0.98;
/// The intervals of fewer measurements are too wide to tell anything.
pub(super) const MEASUREMENTS_FOR_OVERLAP: usize = 3;

/// The proxy method against the default method, for one size and number of workers. Only complete trials compare: a method that
/// lost items did less work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Workers, the generator included.
    pub workers: u32,
    /// Item size, bytes.
    pub data_size_bytes: u64,
    /// Median goodput of proxy over that of default; absent when either has none, or a trial that is not complete.
    pub goodput_ratio: Option<f64>,
    /// Median items per second, likewise. They count the start of the generator too, goodput does not.
    pub items_per_s_ratio: Option<f64>,
    /// Median end-to-end latency (its 50th percentile), likewise.
    pub end_to_end_p50_ratio: Option<f64>,
    /// Which is better.
    pub outcome: Outcome,
    /// By what; absent when neither is better.
    pub decided_by: Option<Measure>,
}

/// Which method is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The proxy method.
    Proxy,
    /// The default method.
    Default,
    /// Neither: throughputs within 5 %, latencies within 20 %, or confidence intervals from three measurements or more overlap.
    Even,
    /// One of them has a trial that is not complete, or no figures.
    Unknown,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Goodput; items per second where there is none.
    Throughput,
    /// Median end-to-end latency, where both methods keep the scheduled pace.
    Latency,
}

/// A comparison for each size and number of workers at which both methods ran; none where paths are compared.
pub(super) fn compare(summaries: &[Summary]) -> Vec<Comparison> {
    let of = |method| summaries.iter().filter(move |summary| summary.method == method && summary.path.is_none());
    of(Method::Default)
        .filter_map(|default| {
            let same_point =
                |proxy: &&Summary| (proxy.workers, proxy.data_size_bytes) == (default.workers, default.data_size_bytes);
            of(Method::Proxy).find(same_point).map(|proxy| Comparison::of(default, proxy))
        })
        .collect()
}

impl Comparison {
    fn of(default: &Summary, proxy: &Summary) -> Self {
        let complete = [default, proxy].iter().all(|summary| summary.status == Status::Complete);
        let pair = |figure: fn(&Summary) -> Option<Estimate>| figure(default).zip(figure(proxy)).filter(|_| complete);
        let goodput = pair(|summary| summary.goodput_bytes_per_s);
        let items = pair(|summary| summary.items_per_s);
        let latency = pair(|summary| summary.end_to_end_p50_ns);
        let (outcome, decided_by) = match better(goodput.or(items), EVEN_THROUGHPUT, f64::gt) {
            Outcome::Even if keeps_pace(default) && keeps_pace(proxy) => match better(latency, EVEN_LATENCY, f64::lt) {
                Outcome::Unknown | Outcome::Even => (Outcome::Even, None),
                outcome => (outcome, Some(Measure::Latency)),
            },
            outcome @ (Outcome::Even | Outcome::Unknown) => (outcome, None),
            outcome => (outcome, Some(Measure::Throughput)),
        };
        Self {
            workers: default.workers,
            data_size_bytes: default.data_size_bytes,
            goodput_ratio: ratio(goodput),
            items_per_s_ratio: ratio(items),
            end_to_end_p50_ratio: ratio(latency),
            outcome,
            decided_by,
        }
    }

    /// The ratio that decided; absent when neither method is better.
    pub(super) fn deciding_ratio(&self) -> Option<f64> {
        match self.decided_by? {
            Measure::Throughput => self.goodput_ratio.or(self.items_per_s_ratio),
            Measure::Latency => self.end_to_end_p50_ratio,
        }
    }
}

/// The same figure of default and proxy.
type Pair = Option<(Estimate, Estimate)>;

fn better(figures: Pair, even: f64, than: fn(&f64, &f64) -> bool) -> Outcome {
    let Some((default, proxy)) = figures else { return Outcome::Unknown };
    let (low, high) = (default.median.min(proxy.median), default.median.max(proxy.median));
    if high <= low * (1.0 + even) || indistinct(&default, &proxy) {
        Outcome::Even
    } else if than(&proxy.median, &default.median) {
        Outcome::Proxy
    } else {
        Outcome::Default
    }
}

/// Whether the measurements don't tell the two apart.
pub(super) fn indistinct(one: &Estimate, other: &Estimate) -> bool {
    one.n.min(other.n) >= MEASUREMENTS_FOR_OVERLAP
        && one.interval.zip(other.interval).is_some_and(|(one, other)| one.overlaps(&other))
}

fn ratio(figures: Pair) -> Option<f64> {
    let (default, proxy) = figures?;
    (default.median > 0.0).then(|| proxy.median / default.median)
}

pub(super) fn keeps_pace(summary: &Summary) -> bool {
    let goodput = summary.goodput_bytes_per_s.map(|goodput| goodput.median);
    is_the_schedules(goodput, summary.scheduled_items_per_s, summary.data_size_bytes)
}

/// The same of one trial.
pub(super) fn trial_keeps_pace(trial: &TrialRecord) -> bool {
    let Some(rates) = trial.rates else { return false };
    is_the_schedules(rates.goodput_bytes_per_s, rates.scheduled_items_per_s, trial.data_size_bytes)
}

fn is_the_schedules(goodput: Option<f64>, scheduled_items_per_s: Option<f64>, data_size_bytes: u64) -> bool {
    let scheduled = scheduled_items_per_s.map(|rate| rate * data_size_bytes as f64);
    goodput.zip(scheduled).is_some_and(|(goodput, scheduled)| goodput >= KEEPS_PACE * scheduled)
}
