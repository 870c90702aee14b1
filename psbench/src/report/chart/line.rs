//! What is drawn of a path, and how it looks.

use std::ops::Range;

use plotters::style::RGBColor;

use super::panel::INK;
use crate::plan::Method;
use crate::results::{BreakEven, Crossing, Estimate, PEER, Results, place};

/// Of a path, in one plot.
pub(super) struct Line {
    pub(super) look: Look,
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

/// Item size and value.
pub(super) struct Point {
    pub(super) at: (f64, f64),
    pub(super) interval: Option<[(f64, f64); 2]>,
}

/// How a path is told from the others: also by whoever sees no colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    /// Its corners, seen from its middle.
    pub(super) marker: &'static [(i32, i32)],
    pub(super) dashed: bool,
}

/// Okabe and Ito's, which the colour-blind tell apart, without the yellow, which is faint on white.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];
const ROUND: &[(i32, i32)] = &[(-4, -2), (-2, -4), (2, -4), (4, -2), (4, 2), (2, 4), (-2, 4), (-4, 2)];
const SQUARE: &[(i32, i32)] = &[(-4, -4), (4, -4), (4, 4), (-4, 4)];
const MARKERS: [&[(i32, i32)]; 5] =
    [ROUND, SQUARE, &[(0, -5), (5, 4), (-5, 4)], &[(0, -6), (6, 0), (0, 6), (-6, 0)], &[(0, 5), (5, -4), (-5, -4)]];

impl Look {
    /// Of the so-manieth path through the broker, which is the measure.
    fn of_broker(number: usize) -> Self {
        Self { colour: INK, marker: if number == 0 { ROUND } else { SQUARE }, dashed: true }
    }

    /// Of the so-manieth other path: no two of thirty are the same.
    fn of_proxy(number: usize) -> Self {
        let colour = COLOURS.iter().cycle().nth(number).copied().unwrap_or(INK);
        let marker = MARKERS.iter().cycle().nth(number).copied().unwrap_or(ROUND);
        Self { colour, marker, dashed: false }
    }
}

/// The paths that take items in full, in their order.
pub(super) fn brokers(results: &Results) -> impl Iterator<Item = &str> {
    let in_full = |path: &&str| {
        results.summaries.iter().any(|summary| summary.way() == *path && summary.method == Method::Default)
    };
    results.options.paths.iter().map(String::as_str).filter(in_full)
}

/// Goodput in bytes per second, of those that lost nothing.
pub(super) fn goodput(results: &Results, workers: u32) -> Vec<Line> {
    over_size(results, |path| {
        let of_path = results.summaries.iter().filter(|of| (of.way(), of.workers) == (path, workers));
        of_path
            .filter(|of| of.has_figures())
            .filter_map(|of| Some((of.data_size_bytes, of.goodput_bytes_per_s?)))
            .collect()
    })
}

/// The same as a multiple of `peer`'s.
pub(super) fn to_peer(results: &Results, workers: u32) -> Vec<Line> {
    over_size(results, |path| {
        let of_path = results.path_ratios.iter().filter(|of| (&*of.path, &*of.to, of.workers) == (path, PEER, workers));
        of_path.filter_map(|of| Some((of.data_size_bytes, of.goodput?))).collect()
    })
}

/// From which sizes on paths carry more than `broker`. The value is 10 to the power of the row, counted from below.
pub(super) fn break_evens(results: &Results, workers: u32, broker: &str, sizes: &Range<f64>) -> Vec<Line> {
    let of = |path| results.break_evens.iter().find(|it| (&*it.path, &*it.to, it.workers) == (path, broker, workers));
    let mut rows: Vec<_> = looks(results).filter_map(|(path, look)| Some((path, look, of(path)?.break_even))).collect();
    rows.reverse();
    let line = |(row, (path, look, found)): (i32, (&str, Look, Option<BreakEven>))| {
        let value = 10f64.powi(row);
        let Some(BreakEven { from, interval, .. }) = found else {
            let nowhere = Point { at: (sizes.end, value), interval: None };
            return Line { look: Look { marker: &[], ..look }, name: format!("{path} –"), points: vec![nowhere] };
        };
        // What lies outside the sizes that were measured is at the plot's end, and an arrow leads there.
        let at = |crossing| match crossing {
            Crossing::Below(_) => (sizes.start, value),
            Crossing::At(bytes) => (bytes as f64, value),
            Crossing::Above(_) => (sizes.end, value),
        };
        let marker: &[_] = match from {
            Crossing::Below(_) => &[(0, 0), (9, -5), (9, 5)],
            Crossing::At(_) => look.marker,
            Crossing::Above(_) => &[(0, 0), (-9, -5), (-9, 5)],
        };
        let point = Point { at: at(from), interval: interval.map(|it| [at(it.low), at(it.high)]) };
        Line { look: Look { marker, ..look }, name: format!("{path} {}", place(from)), points: vec![point] }
    };
    (0..).zip(rows).map(line).collect()
}

/// Every path's, in the order in which they were asked for; those without figures have no line.
fn over_size(results: &Results, figures: impl Fn(&str) -> Vec<(u64, Estimate)>) -> Vec<Line> {
    let line = |(path, look): (&str, Look)| {
        let mut figures = figures(path);
        figures.sort_by_key(|(size, _)| *size);
        let point = |(size, figure): (u64, Estimate)| {
            let at = |value| (size as f64, value);
            Point { at: at(figure.median), interval: figure.interval.map(|it| [at(it.low), at(it.high)]) }
        };
        Line { look, name: path.to_owned(), points: figures.into_iter().map(point).collect() }
    };
    looks(results).map(line).filter(|line| !line.points.is_empty()).collect()
}

fn looks(results: &Results) -> impl Iterator<Item = (&str, Look)> {
    let brokers: Vec<_> = brokers(results).collect();
    let mut proxies = 0..;
    results.options.paths.iter().map(move |path| match brokers.iter().position(|broker| broker == path) {
        Some(number) => (&**path, Look::of_broker(number)),
        None => (&**path, Look::of_proxy(proxies.next().unwrap_or_default())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_differ() {
        let looks: Vec<_> = (0..30).map(Look::of_proxy).chain((0..2).map(Look::of_broker)).collect();
        for (place, look) in looks.iter().enumerate() {
            assert!(!looks[..place].contains(look), "{look:?}");
        }
    }
}
