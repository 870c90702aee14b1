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
        "p50" if saturated => "queued\np50",
        "p99" if saturated => "queued\np99",
        // There is a second line in any case.
        "CPU s/GB" if saturated => "CPU\ns/GB",
        UNDER_WAY => "under\nway",
        other => other,
    };
    titles.iter().map(shown).collect()
}

/// How many items may be under way, or a dash.
pub(super) fn under_way(summary: &Summary) -> String {
    summary.max_inflight_items.map_or_else(|| "–".to_owned(), |items| items.to_string())
}

/// To be read ahead of the figures, with a rate that all points sustain: lines of at most so many characters.
pub(super) fn heading(results: &Results, width: u16) -> String {
    if !is_saturated(results) {
        return String::new();
    }
    let way = if results.compares_paths() { "path" } else { "method" };
    let rates = results.summaries.iter().filter_map(|summary| Some(summary.items_per_s.as_ref()?.median));
    let rate = rates.min_by(f64::total_cmp).map(|least| easy(least / 2.0)).filter(|rate| *rate > 0.0);
    let example = rate.map(|rate| format!(", for example {rate}/s")).unwrap_or_default();
    let text = format!(
        "Saturated stream (--rate max): items wait for each other, at most as many as are “under way”, whatever the \
         {way}, so p50 and p99 tell how long that queue takes. For latencies at a load give --rate{example}."
    );
    wrapped(&text, width.into()) + "\n\n"
}

fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.len() - 1;
        if lines[line].is_empty() {
            lines[line].push_str(word);
        } else if lines[line].chars().count() + 1 + word.chars().count() <= width {
            lines[line] = format!("{} {word}", lines[line]);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// A number that is written in one digit and zeros, at most as large.
fn easy(number: f64) -> f64 {
    let power = number.log10().floor();
    // By way of text, since 3 times 0.1 is not 0.3.
    format!("{}e{power}", (number / 10_f64.powf(power)).floor()).parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Method;
    use crate::results::sample;

    #[test]
    fn the_rate_told_is_below_all_rates() {
        let mut results = sample::empty();
        assert_eq!(heading(&results, 100), "");
        for rate in [26_629.0, 1_266.0] {
            results.push(sample::trial(Method::Default, rate as u64, rate));
        }
        let text = heading(&results, 40);
        assert!(text.ends_with("for example 600/s.\n\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        let mut paced = sample::empty();
        let mut trial = sample::trial(Method::Default, 1, 10.0);
        trial.max_inflight_items = None;
        paced.push(trial);
        assert_eq!(heading(&paced, 100), "");
        assert_eq!([0.37, 9.0, 1_000.0].map(easy).map(|number| number.to_string()), ["0.3", "9", "1000"]);
    }
}
