//! How paths compare, round by round.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BreakEven, Crossing, PEER};
use crate::plan::Method;
use crate::results::comparison::trial_keeps_pace;
use crate::results::{Estimate, Status, TrialRecord};

/// A path against another one, for one size and number of workers. Every round gives one ratio, of two trials that ran close to each other;
/// only complete trials compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathRatio {
    /// Workers, the generators included.
    pub workers: u32,
    /// Item size, bytes.
    pub data_size_bytes: u64,
    /// The path.
    pub path: String,
    /// What it is compared with: the path whose figure divides.
    pub to: String,
    /// Ratio of goodputs; absent where no round has both.
    pub goodput: Option<Estimate>,
    /// Ratio of median end-to-end latencies, likewise.
    pub end_to_end_p50: Option<Estimate>,
}

/// From which size on a path carries more than the broker does, for one number of workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathBreakEven {
    /// Workers, the generators included.
    pub workers: u32,
    /// The path.
    pub path: String,
    /// The path through the broker.
    pub to: String,
    /// By goodput, at sizes at which not both keep the pace that was asked for: there goodput is the schedule's. Absent where there are
    /// none, or no round has all that were measured on both.
    pub break_even: Option<BreakEven>,
}

/// All ratios to `peer` and to the broker, and the break-even sizes, of `paths` in their order.
pub(in crate::results) fn compare(paths: &[String], trials: &[TrialRecord]) -> (Vec<PathRatio>, Vec<PathBreakEven>) {
    let complete = Complete::of(trials);
    let in_full = |path: &str| trials.iter().any(|trial| trial.way() == path && trial.method == Method::Default);
    let (brokers, others): (Vec<&str>, Vec<&str>) = paths.iter().map(String::as_str).partition(|path| in_full(path));
    let mut ratios = Vec::new();
    let mut break_evens = Vec::new();
    for &workers in &complete.workers {
        for &size in &complete.sizes {
            for path in paths {
                let bases =
                    brokers.iter().copied().chain(paths.iter().map(String::as_str).filter(|path| *path == PEER));
                for to in bases.filter(|to| to != path) {
                    let ratio =
                        |figure| Estimate::of(complete.ratios((path, to), (workers, size), figure).into_values());
                    let (goodput, end_to_end_p50) = (ratio(goodput), ratio(latency));
                    let (path, to) = (path.clone(), to.to_owned());
                    ratios.push(PathRatio { workers, data_size_bytes: size, path, to, goodput, end_to_end_p50 });
                }
            }
        }
        for path in &others {
            for to in &brokers {
                let break_even = complete.break_even((path, to), workers);
                break_evens.push(PathBreakEven { workers, path: (*path).into(), to: (*to).into(), break_even });
            }
        }
    }
    (ratios, break_evens)
}

type Figure = fn(&TrialRecord) -> Option<f64>;

fn goodput(trial: &TrialRecord) -> Option<f64> {
    trial.rates?.goodput_bytes_per_s
}

fn latency(trial: &TrialRecord) -> Option<f64> {
    Some(trial.end_to_end()?.p50_ns as f64)
}

/// The trials that finished all of their items, by workers, size and path, then by round.
struct Complete<'a> {
    workers: BTreeSet<u32>,
    sizes: BTreeSet<u64>,
    trials: BTreeMap<(u32, u64, &'a str), BTreeMap<u32, &'a TrialRecord>>,
}

impl<'a> Complete<'a> {
    fn of(all: &'a [TrialRecord]) -> Self {
        let mut trials: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for trial in all.iter().filter(|trial| trial.status == Status::Complete) {
            let point = (trial.workers, trial.data_size_bytes, trial.way());
            trials.entry(point).or_default().insert(trial.repeat, trial);
        }
        Self {
            workers: all.iter().map(|trial| trial.workers).collect(),
            sizes: all.iter().map(|trial| trial.data_size_bytes).collect(),
            trials,
        }
    }

    /// The ratio in each round that has both figures, above 0.
    fn ratios(&self, (of, to): (&str, &str), (workers, size): (u32, u64), figure: Figure) -> BTreeMap<u32, f64> {
        let Some((of, to)) = self.trials.get(&(workers, size, of)).zip(self.trials.get(&(workers, size, to))) else {
            return BTreeMap::new();
        };
        let ratio = |(round, trial): (&u32, &&TrialRecord)| {
            let (of, to) = figure(trial).zip(figure(to.get(round)?))?;
            (of > 0.0 && to > 0.0).then(|| (*round, of / to))
        };
        of.iter().filter_map(ratio).collect()
    }

    fn keep_pace(&self, (of, to): (&str, &str), workers: u32, size: u64) -> bool {
        let mut trials = [of, to].into_iter().filter_map(|path| self.trials.get(&(workers, size, path))).flatten();
        trials.all(|(_, trial)| trial_keeps_pace(trial))
    }

    /// From the rounds that have all sizes at which both were ever measured: with sizes missing, one would say something else. Without
    /// those at which both keep pace in every round, of which chance would say who carries more.
    fn break_even(&self, paths: (&str, &str), workers: u32) -> Option<BreakEven> {
        let by_size = self.sizes.iter().map(|size| (*size, self.ratios(paths, (workers, *size), goodput)));
        let by_size = by_size.filter(|(size, ratios)| !ratios.is_empty() && !self.keep_pace(paths, workers, *size));
        let by_size: Vec<_> = by_size.collect();
        let rounds: BTreeSet<u32> = by_size.iter().flat_map(|(_, ratios)| ratios.keys().copied()).collect();
        let crossing = |round: u32| {
            let curve = by_size.iter().map(|(size, ratios)| Some((*size, *ratios.get(&round)?)));
            Crossing::of(&curve.collect::<Option<Vec<_>>>()?)
        };
        BreakEven::of(rounds.into_iter().filter_map(crossing).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::results::sample;

    const BROKER: &str = "broker";
    const PATHS: [&str; 3] = [BROKER, "shm", PEER];

    fn paths() -> Vec<String> {
        PATHS.map(Into::into).to_vec()
    }

    /// `rate`: items per second of a path at a size in a round.
    fn trials(sizes: &[u64], rounds: u32, rate: impl Fn(&str, u64, u32) -> f64) -> Vec<TrialRecord> {
        let mut trials = Vec::new();
        for round in 0..rounds {
            for &size in sizes {
                for path in PATHS {
                    trials.push(sample::of_path(path, size, round, rate(path, size, round)));
                }
            }
        }
        trials
    }

    proptest! {
        /// What a whole round has in common, such as a busy machine, is in no ratio.
        #[test]
        fn drift_between_rounds_leaves_no_trace(drift in proptest::collection::vec(0.2..5.0f64, 6)) {
            let rate = |path: &str, size: u64, round: u32| {
                let own = match path {
                    BROKER => 100.0,
                    "shm" => 100.0 * (size as f64 / 1e6).sqrt(),
                    _ => 50.0,
                };
                own * drift[round as usize]
            };
            let (ratios, break_evens) = compare(&paths(), &trials(&[100_000, 10_000_000], 6, rate));
            let ratio = ratios.iter().find(|ratio| (&*ratio.path, &*ratio.to) == ("shm", PEER)).unwrap();
            let interval = ratio.goodput.unwrap().interval.unwrap();
            prop_assert!(interval.high - interval.low < 1e-9);
            let shm = break_evens.iter().find(|found| found.path == "shm").unwrap().break_even.unwrap();
            prop_assert_eq!((shm.rounds, shm.from), (6, Crossing::At(1_000_000)));
            let peer = break_evens.iter().find(|found| found.path == PEER).unwrap().break_even.unwrap();
            prop_assert_eq!(peer.from, Crossing::Above(10_000_000));
        }
    }

    #[test]
    fn each_path_is_compared_with_peer_and_broker() {
        let (ratios, break_evens) = compare(&paths(), &trials(&[1_000], 2, |_, _, _| 10.0));
        let pairs: Vec<_> = ratios.iter().map(|ratio| (&*ratio.path, &*ratio.to)).collect();
        assert_eq!(pairs, [(BROKER, PEER), ("shm", BROKER), ("shm", PEER), (PEER, BROKER)]);
        let pairs: Vec<_> = break_evens.iter().map(|found| (&*found.path, &*found.to)).collect();
        assert_eq!(pairs, [("shm", BROKER), (PEER, BROKER)]);
    }

    #[test]
    fn where_both_keep_pace_chance_does_not_decide() {
        // Noise at the two smaller sizes, at which the schedule is what both do; at the third the broker falls behind.
        let rate = |path: &str, size: u64, round: u32| match (path, size) {
            (BROKER, 100_000) => 20.0,
            (BROKER, _) => 60.1,
            _ => 60.0 + 0.2 * f64::from(round % 2),
        };
        let mut trials = trials(&[1_000, 10_000, 100_000], 4, rate);
        for trial in &mut trials {
            trial.rates.as_mut().unwrap().scheduled_items_per_s = Some(60.0);
        }
        let shm =
            |trials: &[TrialRecord]| compare(&paths(), trials).1[0].break_even.map(|found| (found.rounds, found.from));
        assert_eq!(shm(&trials), Some((4, Crossing::Below(100_000))));
        trials.retain(|trial| trial.data_size_bytes < 100_000);
        assert_eq!(shm(&trials), None);
    }

    #[test]
    fn rounds_and_sizes_that_are_not_complete_are_left_out() {
        let mut trials =
            trials(&[1_000, 10_000, 100_000], 3, |path, size, _| if path == BROKER { 1e4 } else { size as f64 });
        for trial in &mut trials {
            // The broker never does the largest size; in one round it does not do the middle one either.
            if trial.way() == BROKER
                && (trial.data_size_bytes == 100_000 || (trial.data_size_bytes, trial.repeat) == (10_000, 1))
            {
                trial.status = Status::Incomplete;
            }
        }
        let (ratios, break_evens) = compare(&paths(), &trials);
        let to_broker = |size| {
            let is_it = |ratio: &&PathRatio| (&*ratio.path, &*ratio.to, ratio.data_size_bytes) == ("shm", BROKER, size);
            ratios.iter().find(is_it).unwrap().goodput.map(|ratio| ratio.n)
        };
        assert_eq!([1_000, 10_000, 100_000].map(to_broker), [Some(3), Some(2), None]);
        let found = break_evens[0].break_even.unwrap();
        assert_eq!((found.rounds, found.from), (2, Crossing::At(10_000)));
    }
}
