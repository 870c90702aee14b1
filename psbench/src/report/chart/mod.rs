//! The chart of a comparison of paths, as SVG: goodput over item size, the same beside `peer`'s, and the break-even sizes.

mod curve;
mod labels;
mod panel;
mod scale;
mod strip;
mod svg;

use std::collections::BTreeSet;

use self::curve::Curve;
use self::panel::Panel;
use self::scale::{LogScale, size_ticks};
use self::svg::{Anchor, Svg};
use crate::results::{PEER, ROUNDS_FOR_95, Results};
use crate::units::{Seconds, Size, human};

const WIDTH: f64 = 900.0;
/// Of the plots: to the left there are values, to the right the names of paths.
const LEFT: f64 = 72.0;
const RIGHT: f64 = WIDTH - 222.0;
const GOODPUT_HEIGHT: f64 = 300.0;
const RATIO_HEIGHT: f64 = 170.0;
/// Between a heading's baseline and its plot, and between a plot's end and the next heading.
const BELOW_HEADING: f64 = 14.0;
const BETWEEN: f64 = 52.0;
const TEXT: f64 = 12.0;
const HEADING: f64 = 13.0;
const INK: &str = "#222";
const FAINT: &str = "#666";
const GRID: &str = "#e4e4e4";

/// Draws the comparison, one part below the other for each number of workers; absent while nothing has figures.
pub fn chart(results: &Results) -> Option<String> {
    let mut svg = Svg::new(WIDTH);
    let mut y = 26.0;
    svg.text((LEFT, y), Anchor::Start, 16.0, INK, "What each path carries, by item size");
    y += 20.0;
    svg.text((LEFT, y), Anchor::Start, TEXT, FAINT, &conditions(results));
    let numbers: BTreeSet<u32> = results.summaries.iter().map(|summary| summary.workers).collect();
    let mut drawn = false;
    for workers in numbers {
        let curves = curve::all(results, workers);
        if let Some(end) = part(&mut svg, results, workers, &curves, y + 30.0) {
            (y, drawn) = (end, true);
        }
    }
    drawn.then(|| svg.finish(y + 16.0))
}

/// Under which conditions it was measured, in a line.
fn conditions(results: &Results) -> String {
    let options = &results.options;
    let rounds = results.summaries.iter().map(|summary| summary.trials).max().unwrap_or(0);
    let items = options.task_count.map(|count| format!("{count} items a trial")).unwrap_or_default();
    let time = options.task_sleep.map(Seconds::duration).filter(|time| !time.is_zero());
    let time = time.map(|time| format!(", {} each", human::nanoseconds(time.as_nanos() as f64))).unwrap_or_default();
    let executor = options.executor.as_deref().unwrap_or_default();
    let stream = options.stream.as_deref().unwrap_or_default();
    let medians = match rounds {
        0 | 1 => "one round".to_owned(),
        few @ ..ROUNDS_FOR_95 => format!("medians of {few} rounds, bars: all of them"),
        rounds => format!("medians of {rounds} rounds, bars: their 95 % intervals"),
    };
    format!("{items}{time}; executor {executor}, broker {stream}; {medians}")
}

/// All of one number of workers, from `y` down; returns where it ends. Absent where nothing has figures.
fn part(svg: &mut Svg, results: &Results, workers: u32, curves: &[Curve], mut y: f64) -> Option<f64> {
    let sizes: BTreeSet<u64> = curves.iter().flat_map(|curve| curve.goodput.iter().map(|point| point.size)).collect();
    let across = LogScale::around(sizes.iter().map(|size| *size as f64), (LEFT, RIGHT))?;
    let ticks = size_ticks(&across, &sizes);
    heading(svg, y, &format!("Goodput with {workers} workers, bytes per second"));
    y += BELOW_HEADING;
    let panel = Panel { across: &across, size_ticks: &ticks, top: y, bottom: y + GOODPUT_HEIGHT, even: None };
    panel.draw(svg, curves, |curve| &curve.goodput, |value| format!("{:#}/s", Size::from_bytes(value.round() as u64)));
    y += GOODPUT_HEIGHT + BETWEEN;
    if curves.iter().any(|curve| !curve.to_peer.is_empty()) {
        heading(svg, y, &format!("The same, as a multiple of {PEER} (the generator’s memory, fetched directly)"));
        y += BELOW_HEADING;
        let panel = Panel { across: &across, size_ticks: &ticks, top: y, bottom: y + RATIO_HEIGHT, even: Some(1.0) };
        panel.draw(svg, curves, |curve| &curve.to_peer, |value| format!("{value}×"));
        y += RATIO_HEIGHT + BETWEEN;
    }
    for broker in curve::brokers(results) {
        heading(svg, y, &format!("Item size from which on a path carries more than {broker}"));
        y = strip::draw(svg, &across, &ticks, curves, broker, y + BELOW_HEADING) + BETWEEN;
    }
    Some(y - BETWEEN + 36.0)
}

fn heading(svg: &mut Svg, y: f64, text: &str) {
    svg.text((LEFT, y), Anchor::Start, HEADING, INK, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::sample;

    fn results(workers: &[u32]) -> Results {
        let mut results = sample::empty();
        let paths = [("broker", 0.0), ("shm", 0.4), ("peer", 0.2), ("scistream:<copy>", -0.3)];
        results.options.paths = paths.map(|(path, _)| path.into()).to_vec();
        for round in 0..6 {
            for &workers in workers {
                for size in [10_000u64, 100_000, 1_000_000, 10_000_000] {
                    for (path, power) in paths {
                        let rate = 1e4 * (size as f64 / 1e5).powf(power - 0.5) * (1.0 + 0.02 * f64::from(round));
                        let mut trial = sample::of_path(path, size, round, rate);
                        trial.workers = workers;
                        results.push(trial);
                    }
                }
            }
        }
        results
    }

    #[test]
    fn every_path_is_named_and_every_number_of_workers_has_its_part() {
        for workers in [&[4][..], &[4, 8]] {
            let svg = chart(&results(workers)).unwrap();
            for path in ["broker", "shm", "peer", "scistream:&lt;copy&gt;"] {
                // The measure itself is not among its own multiples.
                let times = if path == PEER { 1 } else { 2 };
                assert_eq!(svg.matches(&format!(">{path}</text>")).count(), times * workers.len(), "{path}");
            }
            assert_eq!(svg.matches("Goodput with").count(), workers.len());
            assert_eq!(svg.matches("carries more than broker").count(), workers.len());
            assert!(svg.contains(">shm 100 kB</text>"), "{svg}");
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn nothing_measured_is_no_chart() {
        let mut results = sample::empty();
        assert_eq!(chart(&results), None);
        results.options.paths = vec!["broker".into()];
        let mut failed = sample::of_path("broker", 1_000, 0, 1.0);
        failed.status = crate::results::Status::Failed;
        results.push(failed);
        assert_eq!(chart(&results), None);
    }
}
