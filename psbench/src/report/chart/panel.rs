//! A plot of all curves over item size.

use super::curve::{Curve, Measured};
use super::labels::apart;
use super::scale::{LogScale, Tick};
use super::svg::{Anchor, Point, Stroke, Svg};
use super::{FAINT, GRID, INK, TEXT};

/// Between the bars of two paths.
const DODGE: f64 = 3.0;

/// The frame of a plot.
pub(super) struct Panel<'a> {
    pub(super) across: &'a LogScale,
    pub(super) size_ticks: &'a [Tick],
    pub(super) top: f64,
    pub(super) bottom: f64,
    /// A value to stand out.
    pub(super) even: Option<f64>,
}

impl Panel<'_> {
    /// Draws frame and curves. `label`: how values are written at the axis.
    pub(super) fn draw(
        &self,
        svg: &mut Svg,
        curves: &[Curve],
        of: fn(&Curve) -> &Vec<Measured>,
        label: fn(f64) -> String,
    ) {
        let shown = curves.iter().flat_map(of).flat_map(|measured| {
            let interval = measured.figure.interval.map(|interval| [interval.low, interval.high]);
            [measured.figure.median].into_iter().chain(interval.into_iter().flatten())
        });
        let Some(up) = LogScale::around(shown.chain(self.even), (self.bottom, self.top)) else { return };
        self.frame(svg, &up, label);
        let mut names = Vec::new();
        for (place, curve) in curves.iter().enumerate() {
            // Bars of different paths at one size stand beside each other.
            let aside = DODGE * (place as f64 - (curves.len() - 1) as f64 / 2.0);
            let point = |it: &Measured| (self.across.at(it.size as f64) + aside, up.at(it.figure.median));
            let points: Vec<_> = of(curve).iter().map(point).collect();
            for (measured, (x, _)) in of(curve).iter().zip(&points) {
                if let Some(interval) = measured.figure.interval {
                    bar(svg, *x, up.at(interval.low), up.at(interval.high), curve.look.colour);
                }
            }
            svg.line(&points, curve.look.stroke(1.8));
            points.iter().for_each(|point| curve.look.mark(svg, *point));
            names.extend(points.last().map(|end| (curve, *end)));
        }
        self.names(svg, &names);
    }

    fn frame(&self, svg: &mut Svg, up: &LogScale, label: fn(f64) -> String) {
        let (left, right) = self.across.ends();
        for value in up.round_values() {
            let y = up.at(value);
            svg.line(&[(left, y), (right, y)], Stroke::solid(GRID, 1.0));
            svg.text((left - 8.0, y + 4.0), Anchor::End, TEXT, FAINT, &label(value));
        }
        sizes(svg, self.size_ticks, self.top, self.bottom, right);
        if let Some(even) = self.even {
            svg.line(&[(left, up.at(even)), (right, up.at(even))], Stroke::solid(INK, 1.0));
        }
        svg.line(&[(left, self.top), (left, self.bottom), (right, self.bottom)], Stroke::solid(FAINT, 1.0));
    }

    /// Each curve's name beside its end, with a thin line to it.
    fn names(&self, svg: &mut Svg, names: &[(&Curve, Point)]) {
        let wanted: Vec<_> = names.iter().map(|(_, (_, y))| *y).collect();
        let right = self.across.ends().1;
        for ((curve, (x, y)), at) in names.iter().zip(apart(&wanted, self.top, self.bottom)) {
            svg.line(&[(x + 7.0, *y), (right + 8.0, at)], Stroke::solid(curve.look.colour, 0.7));
            svg.text((right + 12.0, at + 4.0), Anchor::Start, TEXT, curve.look.colour, &curve.path);
        }
    }
}

/// An interval, with ends.
fn bar(svg: &mut Svg, x: f64, low: f64, high: f64, colour: &str) {
    const END: f64 = 3.0;
    let stroke = Stroke::solid(colour, 1.0);
    svg.line(&[(x, low), (x, high)], stroke);
    for y in [low, high] {
        svg.line(&[(x - END, y), (x + END, y)], stroke);
    }
}

/// A line at each size from `top` to `bottom`, and below it its name; behind `right` what they are.
pub(super) fn sizes(svg: &mut Svg, ticks: &[Tick], top: f64, bottom: f64, right: f64) {
    svg.text((right + 12.0, bottom + 17.0), Anchor::Start, TEXT, FAINT, "item size");
    for Tick { place, label } in ticks {
        svg.line(&[(*place, top), (*place, bottom)], Stroke::solid(GRID, 1.0));
        if let Some(label) = label {
            svg.text((*place, bottom + 17.0), Anchor::Middle, TEXT, FAINT, label);
        }
    }
}
