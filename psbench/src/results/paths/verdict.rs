//! Which path to take, in plain sentences.

use std::collections::BTreeSet;

use super::words::{listed, place, spread, times};
use super::{BreakEven, Crossing, PEER, PathRatio, THROUGH_GATEWAYS};
use crate::plan::Method;
use crate::results::comparison::{indistinct, keeps_pace};
use crate::results::{Estimate, Results, Summary};
use crate::units::{Size, human};

/// Below, intervals are not those of 95 %.
pub const ROUNDS_FOR_95: usize = 6;

/// What the comparison means; absent before the first trial.
pub(in crate::results) fn sentences(results: &Results) -> Option<String> {
    let workers: BTreeSet<u32> = results.summaries.iter().map(|summary| summary.workers).collect();
    let mut parts = Vec::new();
    for &count in &workers {
        let of_count: Vec<_> = results.summaries.iter().filter(|summary| summary.workers == count).collect();
        let found = Finding { results, workers: count, summaries: of_count };
        let advice: Vec<_> = [Reach::Direct, Reach::Gateways].iter().filter_map(|reach| found.advice(*reach)).collect();
        if workers.len() > 1 && !advice.is_empty() {
            parts.push(format!("With {count} workers:"));
        }
        parts.extend(advice);
        parts.extend(found.unfinished());
    }
    let left_out = |path: &crate::sweep::UnusablePath| format!("{} could not be used.", path.path);
    parts.extend(results.unusable_paths.iter().map(left_out));
    let fewest = results.summaries.iter().map(|summary| summary.trials).min()?;
    if fewest < ROUNDS_FOR_95 {
        let rounds = if fewest == 1 { "One round".to_owned() } else { format!("{fewest} rounds") };
        parts.push(format!("{rounds} only: --repeat {ROUNDS_FOR_95} or more tells chance from difference."));
    }
    Some(parts.join(" "))
}

/// From where workers fetch what proxies lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// From where it was stored.
    Direct,
    /// Through SciStream's gateways.
    Gateways,
}

impl Reach {
    fn of(path: &str) -> Self {
        if path.starts_with(THROUGH_GATEWAYS) { Self::Gateways } else { Self::Direct }
    }

    fn condition(self) -> &'static str {
        match self {
            Self::Direct => "Where workers reach the data directly",
            Self::Gateways => "Through gateways",
        }
    }
}

/// What was found with one number of workers.
struct Finding<'a> {
    results: &'a Results,
    workers: u32,
    summaries: Vec<&'a Summary>,
}

impl Finding<'_> {
    /// Which path to take of those that lead through gateways, or of those that don't; absent where there are none with figures.
    fn advice(&self, reach: Reach) -> Option<String> {
        let is_candidate = |summary: &&&Summary| summary.method == Method::Proxy && Reach::of(summary.way()) == reach;
        let candidates: Vec<_> = self.summaries.iter().filter(is_candidate).filter(|it| it.has_figures()).collect();
        let size = candidates.iter().map(|summary| summary.data_size_bytes).max()?;
        let of_size = candidates.into_iter().filter(|summary| summary.data_size_bytes == size);
        let (goodput, best) = of_size
            .clone()
            .filter_map(|summary| Some((summary.goodput_bytes_per_s?, *summary)))
            .max_by(|(one, _), (other, _)| one.median.total_cmp(&other.median))?;
        let condition = reach.condition();
        let (base, at) = (self.broker(reach).filter(|base| self.was_tried(base, size)), self.measured(size));
        if self.all_keep_pace() {
            return self.by_latency(condition, of_size.copied(), base, &at);
        }
        // How it compares with peer is told more exactly.
        let ties = of_size.filter(|other| ![best.way(), PEER].contains(&other.way()));
        let ties = ties.filter(|other| other.goodput_bytes_per_s.is_some_and(|other| indistinct(&goodput, &other)));
        let ties: Vec<_> = ties.map(|summary| summary.way()).collect();
        let mut sentence = match base {
            Some(base) => self.against(condition, best, base, size),
            None => format!("{condition}, {} is the fastest at {at}: {}/s", best.way(), human::bytes(goodput.median)),
        };
        if best.way() != PEER
            && let Some(to_peer) = self.goodput(best.way(), PEER, size)
        {
            sentence += &format!("; it reaches {} of {PEER} there", times(&to_peer));
        }
        if !ties.is_empty() {
            let verb = if ties.len() == 1 { "is" } else { "are" };
            sentence += &format!("; {} {verb} within its spread", listed(&ties));
        }
        Some(sentence + ".")
    }

    /// The path for items in full that goes the same way as these.
    fn broker(&self, reach: Reach) -> Option<&str> {
        let in_full = || self.summaries.iter().filter(|summary| summary.method == Method::Default).map(|it| it.way());
        let through_gateways = |path: &&str| path.contains(THROUGH_GATEWAYS) == (reach == Reach::Gateways);
        in_full().find(through_gateways).or_else(|| in_full().next())
    }

    /// Whether there is an answer, even if it is that it does not work; a sweep that the user ended may not have come so far.
    fn was_tried(&self, path: &str, size: u64) -> bool {
        let mut of_size =
            self.summaries.iter().filter(|summary| (summary.way(), summary.data_size_bytes) == (path, size));
        of_size.any(|summary| summary.has_figures() || !summary.is_well())
    }

    /// The best of the candidates against the broker.
    fn against(&self, condition: &str, best: &Summary, base: &str, size: u64) -> String {
        let (path, at) = (best.way(), self.measured(size));
        let same =
            |found: &&super::PathBreakEven| (found.workers, &*found.path, &*found.to) == (self.workers, path, base);
        let found = self.results.break_evens.iter().find(same).and_then(|found| found.break_even);
        let (carries, found) = match (self.goodput(path, base, size), found) {
            (Some(ratio), Some(found)) => (times(&ratio), found),
            (Some(ratio), None) => {
                return format!("{condition}, {path} carries {} as much as {base} at {at}", times(&ratio));
            }
            (None, found) => return Self::without(condition, path, base, &at, found),
        };
        match found.from {
            Crossing::Above(_) => format!(
                "{condition}, leave items of every size to {base}: the fastest other path, {path}, carries {carries} as much at {at}"
            ),
            Crossing::Below(smallest) => {
                let first = self.goodput(path, base, smallest).filter(|_| smallest != size);
                let more = match first {
                    Some(first) => {
                        format!("{} as much as {base} at {} and {carries}", times(&first), self.measured(smallest))
                    }
                    None => format!("{carries} as much as {base}"),
                };
                if self.keeps_pace_below(path, smallest) {
                    return format!(
                        "{condition}, send items from {} up by proxy over {path}: it carries {more} at {at}; smaller ones keep the pace \
                         that was asked for either way",
                        self.measured(smallest)
                    );
                }
                format!("{condition}, send items of every size by proxy over {path}: it carries {more} at {at}")
            }
            from @ Crossing::At(_) => format!(
                "{condition}, send items from {} up by proxy over {path}: it overtakes {base} there{} and carries {carries} as much at {at}",
                place(from),
                spread(&found)
            ),
        }
    }

    /// The best of the candidates, at a size at which the broker has nothing to compare it with.
    fn without(condition: &str, path: &str, base: &str, at: &str, found: Option<BreakEven>) -> String {
        let Some(found) = found else { return format!("{condition}, take {path}: {base} did not finish there") };
        match found.from {
            Crossing::Above(largest) => format!(
                "{condition}, leave items up to {:#} to {base}, and send those of {at} by proxy over {path}: {base} did not finish there",
                Size::from_bytes(largest)
            ),
            Crossing::Below(_) => format!(
                "{condition}, send items of every size by proxy over {path}: it carries more than {base}, which did not finish at {at}"
            ),
            from @ Crossing::At(_) => format!(
                "{condition}, send items from {} up by proxy over {path}: it overtakes {base} there{}, which did not finish at {at}",
                place(from),
                spread(&found)
            ),
        }
    }

    /// Where every path keeps the pace that was asked for, goodput is the schedule's.
    fn by_latency<'b>(
        &self,
        condition: &str,
        candidates: impl Iterator<Item = &'b Summary>,
        base: Option<&str>,
        at: &str,
    ) -> Option<String> {
        let (latency, best) = candidates
            .filter_map(|summary| Some((summary.end_to_end_p50_ns?, summary)))
            .min_by(|(one, _), (other, _)| one.median.total_cmp(&other.median))?;
        let ratio = base.and_then(|base| {
            let ratio = self.results.path_ratio(best.way(), base, self.workers, best.data_size_bytes)?.end_to_end_p50?;
            Some(format!(", {} that of {base}", times(&ratio)))
        });
        Some(format!(
            "{condition}, every path keeps the pace, and items arrive soonest over {}: a median of {} at {at}{}.",
            best.way(),
            human::nanoseconds(latency.median),
            ratio.unwrap_or_default()
        ))
    }

    fn all_keep_pace(&self) -> bool {
        self.summaries.iter().filter(|summary| summary.has_figures()).all(|summary| keeps_pace(summary))
    }

    fn keeps_pace_below(&self, path: &str, size: u64) -> bool {
        let below = |summary: &&&Summary| summary.way() == path && summary.data_size_bytes < size;
        self.summaries.iter().filter(below).any(|summary| keeps_pace(summary))
    }

    fn goodput(&self, path: &str, to: &str, size: u64) -> Option<Estimate> {
        self.results.path_ratio(path, to, self.workers, size).and_then(|PathRatio { goodput, .. }| *goodput)
    }

    /// Paths with trials that lost items or failed, a sentence each.
    fn unfinished(&self) -> Vec<String> {
        let mut paths: Vec<(&str, Vec<String>)> = Vec::new();
        for summary in self.summaries.iter().filter(|summary| !summary.is_well()) {
            let at = format!(
                "{} ({} of {} items)",
                self.measured(summary.data_size_bytes),
                summary.finished,
                summary.planned
            );
            match paths.iter_mut().find(|(path, _)| *path == summary.way()) {
                Some((_, sizes)) => sizes.push(at),
                None => paths.push((summary.way(), vec![at])),
            }
        }
        paths.into_iter().map(|(path, sizes)| format!("{path} did not finish at {}.", sizes.join(", "))).collect()
    }

    fn measured(&self, size: u64) -> String {
        format!("{:#}", Size::from_bytes(size))
    }
}

#[cfg(test)]
mod tests {
    use crate::results::{Status, sample};

    const SIZES: [u64; 2] = [100_000, 10_000_000];

    /// The verdict on six rounds of these paths' rates at the two sizes; what a round has in common varies.
    fn verdict(paths: &[(&str, [f64; 2])]) -> String {
        let mut results = sample::empty();
        results.options.paths = paths.iter().map(|(path, _)| (*path).into()).collect();
        for round in 0..6 {
            for (place, size) in SIZES.into_iter().enumerate() {
                for (path, rates) in paths {
                    let rate = rates[place] * (1.0 + 0.1 * f64::from(round));
                    results.push(sample::of_path(path, size, round, rate));
                }
            }
        }
        results.verdict.unwrap()
    }

    #[test]
    fn says_from_which_size_on_which_path_is_to_be_taken() {
        assert_eq!(
            verdict(&[
                ("broker", [200.0, 100.0]),
                ("shm", [100.0, 200.0]),
                ("redis", [9.0, 190.0]),
                ("peer", [100.0, 120.0])
            ]),
            "Where workers reach the data directly, send items from 1.00 MB up by proxy over shm: it overtakes broker there (97 %: 1.00 MB \
             to 1.00 MB) and carries 2.00× (2.00 to 2.00) as much at 10 MB; it reaches 1.67× (1.67 to 1.67) of peer there; redis is \
             within its spread."
        );
        assert_eq!(
            verdict(&[
                ("broker", [200.0, 100.0]),
                ("scistream:copy", [300.0, 900.0]),
                ("scistream:tls", [200.0, 300.0])
            ]),
            "Through gateways, send items of every size by proxy over scistream:copy: it carries 1.50× (1.50 to 1.50) as much as broker at \
             100 kB and 9.00× (9.00 to 9.00) at 10 MB."
        );
        assert_eq!(
            verdict(&[("broker", [200.0, 100.0]), ("broker-via-scistream", [20.0, 10.0]), ("scistream", [10.0, 8.0])]),
            "Through gateways, leave items of every size to broker-via-scistream: the fastest other path, scistream, carries 0.80× (0.80 \
             to 0.80) as much at 10 MB."
        );
        assert_eq!(
            verdict(&[("shm", [200.0, 900.0]), ("peer", [100.0, 100.0])]),
            "Where workers reach the data directly, shm is the fastest at 10 MB: 11.2 GB/s; it reaches 9.00× (9.00 to 9.00) of peer there."
        );
    }

    #[test]
    fn latency_decides_where_all_keep_pace() {
        let mut results = sample::empty();
        results.options.paths = ["broker", "peer"].map(Into::into).to_vec();
        for (path, p50) in [("broker", 30_000_000), ("peer", 12_000_000)] {
            let mut trial = sample::of_path(path, 1_000_000, 0, 298.0);
            trial.rates.as_mut().unwrap().scheduled_items_per_s = Some(300.0);
            trial.latency.get_mut("end_to_end").unwrap().p50_ns = p50;
            results.push(trial);
        }
        assert_eq!(
            results.verdict.unwrap(),
            "Where workers reach the data directly, every path keeps the pace, and items arrive soonest over peer: a median of 12.0 ms at \
             1 MB, 0.40× that of broker. One round only: --repeat 6 or more tells chance from difference."
        );
    }

    #[test]
    fn sizes_at_which_all_keep_pace_tell_nothing_of_goodput() {
        let mut results = sample::empty();
        results.options.paths = ["broker", "shm"].map(Into::into).to_vec();
        for round in 0..6 {
            for (size, broker) in [(1_000, 59.9), (10_000, 60.1), (10_000_000, 20.0)] {
                for (path, rate) in [("broker", broker), ("shm", 60.0)] {
                    let mut trial = sample::of_path(path, size, round, rate);
                    trial.rates.as_mut().unwrap().scheduled_items_per_s = Some(60.0);
                    results.push(trial);
                }
            }
        }
        assert_eq!(
            results.verdict.unwrap(),
            "Where workers reach the data directly, send items from 10 MB up by proxy over shm: it carries 3.00× (3.00 to 3.00) as much as \
             broker at 10 MB; smaller ones keep the pace that was asked for either way."
        );
    }

    /// Of rounds in which the broker finishes nothing at the larger size: what it carries at the smaller one, where shm carries 100.
    fn lost_at_the_larger_size(broker: f64) -> String {
        let mut results = sample::empty();
        results.options.paths = ["broker", "shm"].map(Into::into).to_vec();
        for round in 0..6 {
            for size in [10_000, 100_000, 10_000_000] {
                for (path, rate) in [("broker", if size == 100_000 { broker } else { 150.0 }), ("shm", 100.0)] {
                    let mut trial = sample::of_path(path, size, round, rate);
                    if path == "broker" && size == 10_000_000 {
                        trial.status = Status::Failed;
                        trial.rates = None;
                        trial.items.finished = 0;
                    }
                    results.push(trial);
                }
            }
        }
        results.verdict.unwrap()
    }

    #[test]
    fn items_are_not_left_to_a_broker_that_does_not_finish_them() {
        assert_eq!(
            lost_at_the_larger_size(200.0),
            "Where workers reach the data directly, leave items up to 100 kB to broker, and send those of 10 MB by proxy over shm: broker \
             did not finish there. broker did not finish at 10 MB (0 of 1200 items)."
        );
        assert_eq!(
            lost_at_the_larger_size(50.0),
            "Where workers reach the data directly, send items from 23.4 kB up by proxy over shm: it overtakes broker there (97 %: 23.4 kB \
             to 23.4 kB), which did not finish at 10 MB. broker did not finish at 10 MB (0 of 1200 items)."
        );
    }

    #[test]
    fn a_sweep_that_the_user_ended_tells_what_it_measured() {
        let mut results = sample::empty();
        results.options.paths = ["broker", "shm", "peer"].map(Into::into).to_vec();
        for (path, round, rate) in [("shm", 0, 200.0), ("peer", 0, 100.0), ("shm", 1, 200.0)] {
            results.push(sample::of_path(path, 1_000_000, round, rate));
        }
        results.trials[2].status = Status::Interrupted;
        let mut broker = sample::of_path("broker", 1_000_000, 0, 300.0);
        broker.status = Status::Interrupted;
        results.push(broker);
        assert_eq!(
            results.verdict.unwrap(),
            "Where workers reach the data directly, shm is the fastest at 1 MB: 200 MB/s; it reaches 2.00× of peer there. One round only: \
             --repeat 6 or more tells chance from difference."
        );
    }

    #[test]
    fn what_did_not_run_is_said() {
        let mut results = sample::empty();
        results.options.paths = ["broker", "peer", "redis"].map(Into::into).to_vec();
        let problem = "cannot connect".into();
        results.unusable_paths.push(crate::sweep::UnusablePath { path: "redis".into(), problem });
        for round in 0..6 {
            for path in ["broker", "peer"] {
                let mut trial = sample::of_path(path, 1_000_000, round, 100.0);
                if path == "broker" {
                    trial.status = Status::Incomplete;
                    trial.items.finished = 150;
                }
                results.push(trial);
            }
        }
        assert_eq!(
            results.verdict.unwrap(),
            "Where workers reach the data directly, take peer: broker did not finish there. broker did not finish at 1 MB (900 of 1200 \
             items). redis could not be used."
        );
    }
}
