//! What is said of latencies where items were due at once: they are those of a queue.

use crate::results::{Results, Summary};

/// The column with the bound of that queue.
pub(super) const UNDER_WAY: &str = "under way";

/// Whether items were due at once.
pub(super) fn is_saturated(results: &Results) -> bool {
    results.summaries.iter().any(|summary| summary.max_inflight_items.is_some())
}

/// Titles as they are shown.
pub(super) fn shown<'a>(titles: &[&'a str], saturated: bool) -> Vec<&'a str> {
    let shown = |title: &&'a str| match *title {
        "p50" if saturated => "saturated\np50",
        "p99" if saturated => "saturated\np99",
        UNDER_WAY => "under\nway",
        other => other,
    };
    titles.iter().map(shown).collect()
}

/// How many items may be under way, or a dash.
pub(super) fn under_way(summary: &Summary) -> String {
    summary.max_inflight_items.map_or_else(|| "–".to_owned(), |items| items.to_string())
}

/// To be read ahead of the figures, with a rate that all of the stream's points sustain. `ways`: what they have in common.
pub(super) fn heading(results: &Results, ways: &str) -> Option<String> {
    is_saturated(results).then(|| {
        let rates = results.summaries.iter().filter_map(|summary| Some(summary.items_per_s.as_ref()?.median));
        let rate = rates.min_by(f64::total_cmp).map(|least| easy(least / 2.0)).filter(|rate| *rate > 0.0);
        let example = rate.map(|rate| format!(", for example {rate}/s")).unwrap_or_default();
        format!(
            "Saturated stream (--rate max): up to so many items are “under way” at a time, {ways}.\n\
             p50 and p99 are times in that queue. For latencies at a load give --rate{example}.\n\n"
        )
    })
}

/// A number that is written in one digit and zeros, at most as large.
fn easy(number: f64) -> f64 {
    let unit = 10_f64.powf(number.log10().floor());
    (number / unit).floor() * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Method;
    use crate::results::sample;

    #[test]
    fn the_rate_told_is_below_all_rates() {
        let mut results = sample::empty();
        assert_eq!(heading(&results, "each"), None);
        for rate in [26_629.0, 1_266.0] {
            results.push(sample::trial(Method::Default, rate as u64, rate));
        }
        assert!(heading(&results, "each").unwrap().contains("for example 600/s."));
        let mut paced = sample::empty();
        let mut trial = sample::trial(Method::Default, 1, 10.0);
        trial.max_inflight_items = None;
        paced.push(trial);
        assert_eq!(heading(&paced, "each"), None);
        assert_eq!([0.37, 9.0, 1_000.0].map(easy).map(|number| number.to_string()), ["0.3", "9", "1000"]);
    }
}
