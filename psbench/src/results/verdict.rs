//! What a sweep means, in one line.

use super::comparison::{EVEN_THROUGHPUT, MEASUREMENTS_FOR_OVERLAP};
use super::{Comparison, Measure, Outcome, Status, Summary};
use crate::plan::Method;
use crate::units::{Size, human};

/// One line for people; absent before the first trial.
pub(super) fn sentence(summaries: &[Summary], comparisons: &[Comparison]) -> Option<String> {
    let first = summaries.first()?;
    if comparisons.is_empty() {
        let method = first.method.name();
        return Some(format!("Only the {method} method ran, so there is nothing to compare."));
    }
    let repeated = summaries.iter().any(|summary| summary.trials >= MEASUREMENTS_FOR_OVERLAP);
    let mut workers: Vec<_> = comparisons.iter().map(|comparison| comparison.workers).collect();
    workers.dedup();
    let parts: Vec<_> = workers
        .iter()
        .map(|count| {
            let mut series: Vec<_> = comparisons.iter().filter(|comparison| comparison.workers == *count).collect();
            series.sort_by_key(|comparison| comparison.data_size_bytes);
            let found: Vec<_> = KINDS
                .iter()
                .filter_map(|kind| Finding::of(*kind, &series))
                .map(|found| found.phrase(repeated, summaries))
                .collect();
            let place = if workers.len() == 1 { "Here".to_owned() } else { format!("With {count} workers") };
            format!("{place} {}.", found.join("; "))
        })
        .collect();
    Some(parts.join(" ") + hedge(summaries, comparisons))
}

/// What too few repetitions leave open, where anything was compared.
fn hedge(summaries: &[Summary], comparisons: &[Comparison]) -> &'static str {
    let compared = comparisons.iter().filter(|comparison| comparison.outcome != Outcome::Unknown);
    let fewest = compared.flat_map(|comparison| of_point(summaries, comparison)).map(|summary| summary.trials).min();
    match fewest {
        Some(1) => " One run each; --repeat 3 or more tells chance from difference.",
        Some(few) if few < MEASUREMENTS_FOR_OVERLAP => {
            " Two runs each; --repeat 3 or more tells chance from difference."
        }
        _ => "",
    }
}

/// What a comparison compares.
fn of_point<'a>(summaries: &'a [Summary], comparison: &Comparison) -> impl Iterator<Item = &'a Summary> {
    let point = (comparison.workers, comparison.data_size_bytes);
    summaries.iter().filter(move |summary| (summary.workers, summary.data_size_bytes) == point)
}

type Kind = (Outcome, Option<Measure>);

/// The kinds of findings, in the order of telling.
const KINDS: [Kind; 6] = [
    (Outcome::Proxy, Some(Measure::Throughput)),
    (Outcome::Proxy, Some(Measure::Latency)),
    (Outcome::Default, Some(Measure::Throughput)),
    (Outcome::Default, Some(Measure::Latency)),
    (Outcome::Even, None),
    (Outcome::Unknown, None),
];

/// Some of the sizes at one number of workers, with the same outcome.
struct Finding<'a> {
    kind: Kind,
    /// All sizes, ascending.
    series: &'a [&'a Comparison],
    /// Where in the series the outcome is this one; at least one place, ascending.
    places: Vec<usize>,
}

impl<'a> Finding<'a> {
    fn of(kind: Kind, series: &'a [&'a Comparison]) -> Option<Self> {
        let is_this = |comparison: &Comparison| (comparison.outcome, comparison.decided_by) == kind;
        let places: Vec<_> = (0..series.len()).filter(|place| is_this(series[*place])).collect();
        (!places.is_empty()).then_some(Self { kind, series, places })
    }

    fn phrase(&self, repeated: bool, summaries: &[Summary]) -> String {
        let (sizes, gains) = (self.sizes(), self.gains());
        match self.kind {
            (Outcome::Proxy, Some(Measure::Latency)) => {
                format!("both methods keep pace {sizes}, and proxies arrive sooner (median latency better {gains})")
            }
            (Outcome::Default, Some(Measure::Latency)) => {
                format!(
                    "both methods keep pace {sizes}, and items in full arrive sooner (median latency better {gains})"
                )
            }
            (Outcome::Proxy, _) => format!("proxies win {sizes} ({gains})"),
            (Outcome::Default, _) => format!("the default method wins {sizes} ({gains})"),
            (Outcome::Even, _) => {
                let spread = if repeated { ", or within the spread of the repetitions" } else { "" };
                format!("the two methods are even {sizes} (within {:.0} %{spread})", EVEN_THROUGHPUT * 100.0)
            }
            (Outcome::Unknown, _) => {
                let unfinished: Vec<_> = [Method::Default, Method::Proxy]
                    .into_iter()
                    .filter_map(|method| self.unfinished(method, summaries))
                    .collect();
                if unfinished.is_empty() {
                    return format!("there is nothing to compare {sizes}");
                }
                unfinished.join("; ")
            }
        }
    }

    /// At which sizes `method` has trials that are not complete; absent where there are none.
    fn unfinished(&self, method: Method, summaries: &[Summary]) -> Option<String> {
        let sizes: Vec<_> = self
            .places
            .iter()
            .flat_map(|place| of_point(summaries, self.series[*place]))
            .filter(|summary| summary.method == method && summary.status != Status::Complete)
            .map(|summary| {
                let size = Size::from_bytes(summary.data_size_bytes);
                format!("{size:#} ({} of {} items)", summary.finished, summary.planned)
            })
            .collect();
        (!sizes.is_empty()).then(|| format!("{} did not finish at {}", method.name(), sizes.join(", ")))
    }

    /// Where along the sizes this is.
    fn sizes(&self) -> String {
        let size = |place: &usize| size(self.series[*place]);
        let (all, last) = (self.series.len(), self.series.len() - 1);
        match &self.places[..] {
            places if all > 1 && places.len() == all => "at every size".to_owned(),
            [only] if *only == 0 || *only != last => format!("at {}", size(only)),
            places @ [from, .., to] if to - from + 1 == places.len() && *from == 0 => format!("up to {}", size(to)),
            places @ [from, ..] if last - from + 1 == places.len() => format!("from {} up", size(from)),
            places @ [from, .., to] if to - from + 1 == places.len() => format!("from {} to {}", size(from), size(to)),
            [several @ .., to] => {
                let several: Vec<_> = several.iter().map(size).collect();
                format!("at {} and {}", several.join(", "), size(to))
            }
            [] => String::new(),
        }
    }

    /// How much better the better method is at the smallest and at the largest of its sizes.
    fn gains(&self) -> String {
        let ends = match &self.places[..] {
            [from, .., to] => vec![*from, *to],
            places => places.to_vec(),
        };
        let gain = |place: usize| {
            let ratio = self.series[place].deciding_ratio()?;
            // Twice the rate and half the latency are the same gain.
            Some(format!("{}× at {}", human::number(ratio.max(1.0 / ratio)), size(self.series[place])))
        };
        ends.into_iter().filter_map(gain).collect::<Vec<_>>().join(", ")
    }
}

fn size(comparison: &Comparison) -> String {
    format!("{:#}", Size::from_bytes(comparison.data_size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sample;

    const SIZES: [u64; 3] = [100_000, 1_000_000, 10_000_000];

    /// The verdict on rates of (default, proxy) for each size.
    fn verdict(rates: &[(f64, f64)]) -> String {
        let mut results = sample::empty();
        for (size, (default, proxy)) in SIZES.into_iter().zip(rates) {
            results.push(sample::trial(Method::Default, size, *default));
            results.push(sample::trial(Method::Proxy, size, *proxy));
        }
        unhedged(results.verdict)
    }

    /// The verdict on single runs, without the words on repetitions.
    fn unhedged(verdict: Option<String>) -> String {
        let hedge = " One run each; --repeat 3 or more tells chance from difference.";
        verdict.unwrap().strip_suffix(hedge).unwrap().to_owned()
    }

    #[test]
    fn tells_from_which_size_on_proxies_win() {
        assert_eq!(
            verdict(&[(100.0, 98.0), (100.0, 103.0), (10.0, 23.0)]),
            "Here proxies win from 10 MB up (2.30× at 10 MB); the two methods are even up to 1 MB (within 5 %)."
        );
        assert_eq!(
            verdict(&[(100.0, 150.0), (100.0, 200.0), (10.0, 80.0)]),
            "Here proxies win at every size (1.50× at 100 kB, 8.00× at 10 MB)."
        );
        assert_eq!(
            verdict(&[(100.0, 50.0), (100.0, 120.0), (10.0, 80.0)]),
            "Here proxies win from 1 MB up (1.20× at 1 MB, 8.00× at 10 MB); the default method wins at 100 kB (2.00× at 100 kB)."
        );
        assert_eq!(verdict(&[(10.0, 20.0)]), "Here proxies win at 100 kB (2.00× at 100 kB).");
    }

    #[test]
    fn gaps_are_named() {
        assert_eq!(
            verdict(&[(10.0, 20.0), (10.0, 10.0), (10.0, 30.0)]),
            "Here proxies win at 100 kB and 10 MB (2.00× at 100 kB, 3.00× at 10 MB); the two methods are even at 1 MB (within 5 %)."
        );
    }

    #[test]
    fn latency_decides_where_both_keep_pace() {
        let verdict = |scheduled| {
            let mut results = sample::empty();
            for (method, p50) in [(Method::Default, 30_000_000), (Method::Proxy, 12_000_000)] {
                let mut trial = sample::trial(method, 1_000_000, 298.0);
                trial.rates.as_mut().unwrap().scheduled_items_per_s = scheduled;
                trial.latency.get_mut("end_to_end").unwrap().p50_ns = p50;
                results.push(trial);
            }
            unhedged(results.verdict)
        };
        assert_eq!(
            verdict(Some(300.0)),
            "Here both methods keep pace at 1 MB, and proxies arrive sooner (median latency better 2.50× at 1 MB)."
        );
        for too_slow_or_unpaced in [Some(400.0), None] {
            assert_eq!(verdict(too_slow_or_unpaced), "Here the two methods are even at 1 MB (within 5 %).");
        }
    }

    #[test]
    fn overlapping_repetitions_are_even() {
        let mut results = sample::empty();
        let mut hedges = Vec::new();
        for (default, proxy) in [(100.0, 120.0), (130.0, 110.0), (90.0, 140.0)] {
            results.push(sample::trial(Method::Default, 1_000_000, default));
            results.push(sample::trial(Method::Proxy, 1_000_000, proxy));
            let verdict = results.verdict.as_ref().unwrap();
            hedges.push(["One run each;", "Two runs each;"].iter().position(|hedge| verdict.contains(hedge)));
        }
        assert!(results.verdict.unwrap().contains("even at 1 MB"));
        assert_eq!(hedges, [Some(0), Some(1), None]);
    }

    #[test]
    fn failures_and_single_methods_are_said() {
        let mut results = sample::empty();
        results.push(sample::trial(Method::Default, 1_000_000, 10.0));
        assert_eq!(results.verdict.as_deref(), Some("Only the default method ran, so there is nothing to compare."));
        let mut failed = sample::trial(Method::Proxy, 1_000_000, 10.0);
        failed.status = Status::Failed;
        failed.items.finished = 0;
        results.push(failed);
        assert_eq!(results.verdict.as_deref(), Some("Here proxy did not finish at 1 MB (0 of 200 items)."));
    }

    #[test]
    fn only_complete_trials_compare() {
        for status in [Status::Incomplete, Status::Interrupted] {
            let mut results = sample::empty();
            for (size, status) in [(1_000_000, Status::Complete), (10_000_000, status)] {
                results.push(sample::trial(Method::Default, size, 10.0));
                let mut proxy = sample::trial(Method::Proxy, size, 20.0);
                proxy.status = status;
                if status != Status::Complete {
                    proxy.items.finished = 107;
                }
                results.push(proxy);
            }
            let not_compared = results.comparisons[1];
            assert_eq!((not_compared.outcome, not_compared.goodput_ratio), (Outcome::Unknown, None));
            assert_eq!(
                unhedged(results.verdict),
                "Here proxies win at 1 MB (2.00× at 1 MB); proxy did not finish at 10 MB (107 of 200 items)."
            );
        }
    }

    #[test]
    fn each_number_of_workers_has_its_finding() {
        let mut results = sample::empty();
        for (workers, proxy) in [(4, 20.0), (8, 10.0)] {
            for (method, rate) in [(Method::Default, 10.0), (Method::Proxy, proxy)] {
                let mut trial = sample::trial(method, 1_000_000, rate);
                trial.workers = workers;
                results.push(trial);
            }
        }
        assert_eq!(
            unhedged(results.verdict),
            "With 4 workers proxies win at 1 MB (2.00× at 1 MB). With 8 workers the two methods are even at 1 MB (within 5 %)."
        );
    }
}
