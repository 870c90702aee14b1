//! The chart of a comparison of paths, as SVG: goodput over item size, the same beside `peer`'s, and the break-even sizes.

mod labels;
mod line;
mod panel;

use std::collections::BTreeSet;

use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea as _;
use plotters::style::WHITE;

use self::line::Line;
use self::panel::{Drawn, FAINT, INK, LEFT, Panel, around, round_values, text};
use crate::results::{PEER, ROUNDS_FOR_95, Results};
use crate::units::{Seconds, Size, human};

const WIDTH: u32 = 900;
/// The title and the line below it.
const TITLE: u32 = 64;

/// Draws the comparison, one part below the other for each number of workers; absent while nothing has figures.
pub fn chart(results: &Results) -> Option<String> {
    let numbers: BTreeSet<u32> = results.summaries.iter().map(|summary| summary.workers).collect();
    let sizes: BTreeSet<u64> = results.summaries.iter().map(|summary| summary.data_size_bytes).collect();
    let sizes: Vec<f64> = sizes.into_iter().map(|size| size as f64).collect();
    let panels: Vec<_> = numbers.into_iter().flat_map(|workers| panels(results, workers, &sizes)).collect();
    if panels.is_empty() {
        return None;
    }
    let mut svg = String::new();
    // In memory nothing fails.
    draw(&mut svg, &conditions(results), &panels).ok()?;
    Some(svg)
}

/// All of one number of workers.
fn panels<'a>(results: &'a Results, workers: u32, sizes: &'a [f64]) -> Vec<Panel<'a>> {
    let Some(across) = around(sizes.iter().copied()) else { return Vec::new() };
    let over_size = |heading, height, lines: Vec<Line>, even: Option<f64>, label| {
        let points = lines.iter().flat_map(|line| &line.points);
        let ends = points.flat_map(|point| point.interval.into_iter().flatten().chain([point.at]));
        let up = around(ends.map(|(_, value)| value).chain(even))?;
        let (across, marks) = (across.clone(), round_values(&up));
        (!lines.is_empty()).then_some(Panel { heading, height, lines, sizes, across, up, marks, label, dodge: 3, even })
    };
    let per_second = |value: &f64| format!("{:#}/s", Size::from_bytes(value.round() as u64));
    let heading = format!("Goodput with {workers} workers, bytes per second");
    let Some(goodput) = over_size(heading, 300, line::goodput(results, workers), None, per_second) else {
        return Vec::new();
    };
    let heading = format!("The same, as a multiple of {PEER} (the generator’s memory, fetched directly)");
    let to_peer = over_size(heading, 170, line::to_peer(results, workers), Some(1.0), |value| format!("{value}×"));
    let strip = |broker| {
        let lines = line::break_evens(results, workers, broker, &across);
        let rows = lines.len() as i32;
        Panel {
            heading: format!("Item size from which on a path carries more than {broker}"),
            height: 20 * rows as u32,
            lines,
            sizes,
            across: across.clone(),
            up: 10f64.powf(-0.5)..10f64.powf(f64::from(rows) - 0.5),
            marks: Vec::new(),
            label: |_| String::new(),
            even: None,
            dodge: 0,
        }
    };
    let strips = line::brokers(results).map(strip).filter(|panel| !panel.lines.is_empty());
    [goodput].into_iter().chain(to_peer).chain(strips).collect()
}

fn draw(svg: &mut String, conditions: &str, panels: &[Panel<'_>]) -> Drawn {
    let height = TITLE + panels.iter().map(Panel::whole_height).sum::<u32>();
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw_text("What each path carries, by item size", &text(20, INK), (LEFT, 12))?;
    root.draw_text(conditions, &text(15, FAINT), (LEFT, 36))?;
    let (_, mut below) = root.split_vertically(TITLE);
    for panel in panels {
        let (area, rest) = below.split_vertically(panel.whole_height());
        panel.draw(&root, &area)?;
        below = rest;
    }
    root.present()
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
                assert_eq!(svg.matches(&format!(">\n{path}\n</text>")).count(), times * workers.len(), "{path}");
            }
            assert_eq!(svg.matches("Goodput with").count(), workers.len());
            assert_eq!(svg.matches("carries more than broker").count(), workers.len());
            assert!(svg.contains(">\nshm 100 kB\n</text>"), "{svg}");
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn a_path_alone_has_no_strip() {
        let mut results = sample::empty();
        results.options.paths = vec!["broker".into()];
        results.push(sample::of_path("broker", 1_000, 0, 1.0));
        let svg = chart(&results).unwrap();
        assert!(svg.contains("Goodput with") && !svg.contains("carries more than") && !svg.contains("NaN"), "{svg}");
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
