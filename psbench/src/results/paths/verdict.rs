//! Which path to take, in plain sentences.

use std::collections::BTreeSet;

use super::{BreakEven, Crossing, PEER, PathRatio, THROUGH_GATEWAYS};
use crate::plan::Method;
use crate::results::comparison::{indistinct, keeps_pace};
use crate::results::{Estimate, Results, Status, Summary};
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
        let candidates: Vec<_> = self.summaries.iter().filter(is_candidate).filter(|it| is_complete(it)).collect();
        let size = candidates.iter().map(|summary| summary.data_size_bytes).max()?;
        let of_size = candidates.into_iter().filter(|summary| summary.data_size_bytes == size);
        let (goodput, best) = of_size
            .clone()
            .filter_map(|summary| Some((summary.goodput_bytes_per_s?, *summary)))
            .max_by(|(one, _), (other, _)| one.median.total_cmp(&other.median))?;
        let condition = reach.condition();
        let (base, at) = (self.broker(reach), self.measured(size));
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

    /// The best of the candidates against the broker.
    fn against(&self, condition: &str, best: &Summary, base: &str, size: u64) -> String {
        let (path, at) = (best.way(), self.measured(size));
        let carries = self.goodput(path, base, size).map(|ratio| times(&ratio));
        let carries = carries.unwrap_or_else(|| "an unknown number of times".into());
        let same =
            |found: &&super::PathBreakEven| (found.workers, &*found.path, &*found.to) == (self.workers, path, base);
        let Some(found) = self.results.break_evens.iter().find(same).and_then(|found| found.break_even) else {
            return format!("{condition}, take {path}: {base} did not finish there");
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
                format!("{condition}, send items of every size by proxy over {path}: it carries {more} at {at}")
            }
            from @ Crossing::At(_) => format!(
                "{condition}, send items from {} up by proxy over {path}: it overtakes {base} there{} and carries {carries} as much at {at}",
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
        self.summaries.iter().filter(|summary| is_complete(summary)).all(|summary| keeps_pace(summary))
    }

    fn goodput(&self, path: &str, to: &str, size: u64) -> Option<Estimate> {
        self.results.path_ratio(path, to, self.workers, size).and_then(|PathRatio { goodput, .. }| *goodput)
    }

    /// Paths with trials that are not complete, a sentence each.
    fn unfinished(&self) -> Vec<String> {
        let mut paths: Vec<(&str, Vec<String>)> = Vec::new();
        for summary in self.summaries.iter().filter(|summary| !is_complete(summary)) {
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

fn is_complete(summary: &Summary) -> bool {
    summary.status == Status::Complete
}

/// A ratio with its interval: `3.12× (3.05 to 3.20)`.
fn times(ratio: &Estimate) -> String {
    let median = format!("{}×", human::number(ratio.median));
    match &ratio.interval {
        Some(interval) => format!("{median} ({} to {})", human::number(interval.low), human::number(interval.high)),
        None => median,
    }
}

/// A break-even size in words: what was measured is told exactly, what lies between with three digits.
pub fn place(crossing: Crossing) -> String {
    match crossing {
        Crossing::Below(size) => format!("below {:#}", Size::from_bytes(size)),
        Crossing::At(size) => human::bytes(size as f64),
        Crossing::Above(size) => format!("above {:#}", Size::from_bytes(size)),
    }
}

/// The interval of a break-even size, with a space in front; empty for one round.
fn spread(found: &BreakEven) -> String {
    found.interval.map_or_else(String::new, |interval| {
        format!(" ({:.0} %: {} to {})", interval.coverage * 100.0, place(interval.low), place(interval.high))
    })
}

fn listed(names: &[&str]) -> String {
    match names {
        [several @ .., last] if !several.is_empty() => format!("{} and {last}", several.join(", ")),
        names => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sample;

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
