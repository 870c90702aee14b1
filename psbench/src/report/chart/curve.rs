//! What is drawn of a path, and how it looks.

use super::svg::{Point, Stroke, Svg};
use crate::plan::Method;
use crate::results::{BreakEven, Estimate, PEER, Results};

/// A path's measurements with one number of workers.
pub(super) struct Curve {
    pub(super) path: String,
    pub(super) look: Look,
    /// Goodput at each size, bytes per second.
    pub(super) goodput: Vec<Measured>,
    /// The same beside `peer`'s.
    pub(super) to_peer: Vec<Measured>,
    /// The paths through the broker that it was compared with, and what came out.
    pub(super) break_evens: Vec<(String, Option<BreakEven>)>,
}

/// A figure at a size.
pub(super) struct Measured {
    pub(super) size: u64,
    pub(super) figure: Estimate,
}

/// How a path is told from the others: also by whoever sees no colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) colour: &'static str,
    marker: Marker,
    dashed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Down,
}

/// Okabe and Ito's, which the colour-blind tell apart, without the yellow, which is faint on white.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const MARKERS: [Marker; 5] = [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Down];
/// Of paths through the broker, which are the measure.
const BROKER: &str = "#222222";

impl Look {
    /// Of the so-manieth path through the broker.
    fn of_broker(number: usize) -> Self {
        let marker = if number == 0 { Marker::Circle } else { Marker::Square };
        Self { colour: BROKER, marker, dashed: true }
    }

    /// Of the so-manieth other path: no two of thirty are the same.
    fn of_proxy(number: usize) -> Self {
        let colour = COLOURS.iter().cycle().nth(number).copied().unwrap_or(BROKER);
        let marker = MARKERS.iter().cycle().nth(number).copied().unwrap_or(Marker::Circle);
        Self { colour, marker, dashed: false }
    }

    pub(super) fn stroke(&self, width: f64) -> Stroke<'static> {
        Stroke { colour: self.colour, width, dashed: self.dashed }
    }

    pub(super) fn mark(&self, svg: &mut Svg, (x, y): Point) {
        const R: f64 = 4.0;
        let corners: &[Point] = match self.marker {
            Marker::Circle => return svg.circle((x, y), R, self.colour),
            Marker::Square => &[(-R, -R), (R, -R), (R, R), (-R, R)],
            Marker::Triangle => &[(0.0, -5.0), (5.0, R), (-5.0, R)],
            Marker::Diamond => &[(0.0, -5.5), (5.5, 0.0), (0.0, 5.5), (-5.5, 0.0)],
            Marker::Down => &[(0.0, 5.0), (5.0, -R), (-5.0, -R)],
        };
        let corners: Vec<_> = corners.iter().map(|(right, down)| (x + right, y + down)).collect();
        svg.polygon(&corners, self.colour);
    }
}

/// The paths that take items in full, in their order.
pub(super) fn brokers(results: &Results) -> impl Iterator<Item = &str> {
    let in_full = |path: &&str| {
        results.summaries.iter().any(|summary| summary.way() == *path && summary.method == Method::Default)
    };
    results.options.paths.iter().map(String::as_str).filter(in_full)
}

/// Every path's with these workers, in the order in which they were asked for.
pub(super) fn all(results: &Results, workers: u32) -> Vec<Curve> {
    let brokers: Vec<_> = brokers(results).collect();
    let mut proxies = 0..;
    let of_path = |path: &String| {
        let look = match brokers.iter().position(|broker| broker == path) {
            Some(number) => Look::of_broker(number),
            None => Look::of_proxy(proxies.next().unwrap_or_default()),
        };
        Curve {
            path: path.clone(),
            look,
            goodput: by_size(
                results
                    .summaries
                    .iter()
                    .filter(|summary| (summary.way(), summary.workers) == (path, workers))
                    .map(|summary| (summary.data_size_bytes, summary.goodput_bytes_per_s)),
            ),
            to_peer: by_size(
                results
                    .path_ratios
                    .iter()
                    .filter(|ratio| (&*ratio.path, &*ratio.to, ratio.workers) == (path, PEER, workers))
                    .map(|ratio| (ratio.data_size_bytes, ratio.goodput)),
            ),
            break_evens: results
                .break_evens
                .iter()
                .filter(|found| (&*found.path, found.workers) == (path, workers))
                .map(|found| (found.to.clone(), found.break_even))
                .collect(),
        }
    };
    results.options.paths.iter().map(of_path).collect()
}

fn by_size(figures: impl Iterator<Item = (u64, Option<Estimate>)>) -> Vec<Measured> {
    let mut measured: Vec<_> = figures.filter_map(|(size, figure)| Some(Measured { size, figure: figure? })).collect();
    measured.sort_by_key(|measured| measured.size);
    measured
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
