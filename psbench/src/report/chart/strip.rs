//! The break-even sizes of all paths with one path through the broker.

use super::curve::Curve;
use super::panel::sizes;
use super::scale::{LogScale, Tick};
use super::svg::{Anchor, Stroke, Svg};
use super::{FAINT, TEXT};
use crate::results::{Crossing, place};

const ROW: f64 = 20.0;

/// A row for each path, from `top` down; returns where it ends.
pub(super) fn draw(svg: &mut Svg, across: &LogScale, ticks: &[Tick], curves: &[Curve], broker: &str, top: f64) -> f64 {
    let of_broker = |curve| {
        let Curve { break_evens, .. }: &Curve = curve;
        break_evens.iter().find(|(to, _)| to == broker).map(|(_, found)| (curve, *found))
    };
    let rows: Vec<_> = curves.iter().filter_map(of_broker).collect();
    let bottom = top + ROW * rows.len() as f64;
    let (left, right) = across.ends();
    sizes(svg, ticks, top, bottom, right);
    svg.line(&[(left, bottom), (right, bottom)], Stroke::solid(FAINT, 1.0));
    for (row, (curve, found)) in rows.iter().enumerate() {
        let y = top + ROW * (row as f64 + 0.5);
        let mut name = format!("{} –", curve.path);
        if let Some(found) = found {
            name = format!("{} {}", curve.path, place(found.from));
            if let Some(interval) = found.interval {
                let ends = [interval.low, interval.high].map(|end| (at(across, end), y));
                svg.line(&ends, Stroke::solid(curve.look.colour, 3.0));
            }
            point(svg, curve, found.from, (at(across, found.from), y));
        }
        svg.text((right + 12.0, y + 4.0), Anchor::Start, TEXT, curve.look.colour, &name);
    }
    bottom
}

/// What lies outside the sizes that were measured is at the plot's end.
fn at(across: &LogScale, crossing: Crossing) -> f64 {
    match crossing {
        Crossing::Below(_) => across.ends().0,
        Crossing::At(bytes) => across.at(bytes as f64),
        Crossing::Above(_) => across.ends().1,
    }
}

/// The path's marker, or an arrow to where it lies outside.
fn point(svg: &mut Svg, curve: &Curve, crossing: Crossing, (x, y): (f64, f64)) {
    const LENGTH: f64 = 9.0;
    const HALF: f64 = 5.0;
    let inwards = match crossing {
        Crossing::Below(_) => LENGTH,
        Crossing::At(_) => return curve.look.mark(svg, (x, y)),
        Crossing::Above(_) => -LENGTH,
    };
    svg.polygon(&[(x, y), (x + inwards, y - HALF), (x + inwards, y + HALF)], curve.look.colour);
}
