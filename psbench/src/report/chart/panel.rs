//! Plots over item size, both axes logarithmic.

use std::io;
use std::ops::Range;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, LabelAreaPosition};
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints as _, IntoLogRange as _};
use plotters::data::fitting_range;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind};
use plotters::element::{DashedPathElement, PathElement, Polygon};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont as _, RGBColor, TextStyle};

use super::labels::apart;
use super::line::Line;
use crate::units::Size;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const FAINT: RGBColor = RGBColor(0x66, 0x66, 0x66);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Beside plots: values to the left, names of paths to the right.
pub(super) const LEFT: i32 = 76;
const RIGHT: i32 = 222;
/// Above and below.
const HEADING: i32 = 24;
const AXIS: i32 = 38;
const BETWEEN: i32 = 22;

/// One plot.
pub(super) struct Panel<'a> {
    pub(super) heading: String,
    pub(super) height: u32,
    pub(super) lines: Vec<Line>,
    /// Those that were measured, and the range shown.
    pub(super) sizes: &'a [f64],
    pub(super) across: Range<f64>,
    pub(super) up: Range<f64>,
    /// Values at the axis, and how they are written.
    pub(super) marks: Vec<f64>,
    pub(super) label: fn(&f64) -> String,
    /// A value to stand out.
    pub(super) even: Option<f64>,
    /// Between the intervals of two lines at one size.
    pub(super) dodge: i32,
}

/// Such text; plotters divides its height by 1.24.
pub(super) fn text(height: u32, colour: RGBColor) -> TextStyle<'static> {
    ("DejaVu Sans, Verdana, sans-serif", height).into_font().color(&colour)
}

impl Panel<'_> {
    pub(super) fn whole_height(&self) -> u32 {
        self.height + (HEADING + AXIS + BETWEEN) as u32
    }

    /// Draws it in `area`, and what belongs to its points on `root`, which has it.
    pub(super) fn draw(&self, root: &Area<'_>, area: &Area<'_>) -> Drawn {
        area.draw_text(&self.heading, &text(16, INK), (LEFT, 0))?;
        let across = self.across.clone().log_scale().with_key_points(named(self.sizes, &self.across));
        let across = across.with_light_points(self.sizes.iter().copied());
        let mut chart = ChartBuilder::on(area)
            .margin_top(HEADING)
            .margin_bottom(BETWEEN)
            .margin_right(RIGHT)
            .set_label_area_size(LabelAreaPosition::Left, LEFT)
            .set_label_area_size(LabelAreaPosition::Bottom, AXIS)
            .build_cartesian_2d(across, self.up.clone().log_scale().with_key_points(self.marks.clone()))?;
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(GRID).light_line_style(GRID).axis_style(FAINT).set_all_tick_mark_size(4);
        mesh.label_style(text(15, FAINT)).x_desc("item size").y_label_formatter(&self.label);
        mesh.x_label_formatter(&|size| format!("{:#}", Size::from_bytes(*size as u64))).draw()?;
        let (Range { end: right, .. }, up) = chart.plotting_area().get_pixel_range();
        if let Some(even) = self.even {
            let ends = [self.across.start, self.across.end].map(|size| chart.backend_coord(&(size, even)));
            root.draw(&PathElement::new(ends, INK))?;
        }
        let mut ends = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            let aside = self.dodge * number as i32 - self.dodge * (self.lines.len() as i32 - 1) / 2;
            let at = |point| {
                let (x, y) = chart.backend_coord(&point);
                (x + aside, y)
            };
            let points: Vec<_> = line.points.iter().map(|point| at(point.at)).collect();
            let intervals = line.points.iter().filter_map(|point| point.interval);
            ends.extend(points.last().copied());
            draw_line(root, line, points, intervals.map(|ends| ends.map(at)))?;
        }
        let heights: Vec<_> = ends.iter().map(|(_, y)| *y).collect();
        let style = |line: &Line| text(15, line.look.colour).pos(Pos::new(HPos::Left, VPos::Center));
        for ((line, (x, y)), at) in self.lines.iter().zip(ends).zip(apart(&heights, up)) {
            if self.dodge > 0 {
                root.draw(&PathElement::new([(x + 7, y), (right + 8, at)], line.look.colour.mix(0.6)))?;
            }
            root.draw_text(&line.name, &style(line), (right + 12, at))?;
        }
        Ok(())
    }
}

/// As many as there is room for.
fn named(sizes: &[f64], across: &Range<f64>) -> Vec<f64> {
    /// That a name takes, of the axis.
    const NAME: f64 = 0.1;
    let name = (across.end / across.start).powf(NAME);
    let mut named: Vec<f64> = Vec::new();
    for size in sizes {
        if named.last().is_none_or(|last| *size >= last * name) {
            named.push(*size);
        }
    }
    named
}

fn draw_line(
    root: &Area<'_>,
    line: &Line,
    points: Vec<(i32, i32)>,
    intervals: impl Iterator<Item = [(i32, i32); 2]>,
) -> Drawn {
    let colour = line.look.colour;
    for ends in intervals {
        root.draw(&PathElement::new(ends, colour.mix(0.5).stroke_width(4)))?;
    }
    for (x, y) in &points {
        let corners: Vec<_> = line.look.marker.iter().map(|(right, down)| (x + right, y + down)).collect();
        root.draw(&Polygon::new(corners, colour))?;
    }
    if line.look.dashed {
        root.draw(&DashedPathElement::new(points, 6, 4, colour.stroke_width(2)))
    } else {
        root.draw(&PathElement::new(points, colour.stroke_width(2)))
    }
}

/// All values, and some room about them; absent where there are none above 0, of which a logarithmic axis knows.
pub(super) fn around(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let values: Vec<_> = values.filter(|value| *value > 0.0 && value.is_finite()).collect();
    let Range { start, end } = fitting_range(&values);
    let room = (end / start).powf(0.05).max(1.25);
    (!values.is_empty()).then(|| start / room..end * room)
}

/// Round values within: of many decades 1 alone, of few as many as it takes to have some. plotters marks nothing between decades.
pub(super) fn round_values(range: &Range<f64>) -> Vec<f64> {
    const SOME: usize = 3;
    const STEPS: [&[u8]; 3] = [&[10], &[10, 20, 50], &[10, 12, 14, 16, 18, 20, 25, 30, 40, 50, 60, 80]];
    let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let of_steps = |steps: &&[u8]| -> Vec<f64> {
        // As text, since 3 times 0.1 is not 0.3.
        let all = decades.clone().flat_map(|ten| steps.iter().map(move |step| format!("{step}e{}", ten - 1).parse()));
        all.flatten().filter(|value| range.contains(value)).collect()
    };
    let marks = STEPS.iter().map(of_steps);
    marks.reduce(|few, more| if few.len() >= SOME { few } else { more }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_inside_and_have_round_ones_beside_them() {
        let range = around([10.0, 1000.0, 0.0].into_iter()).unwrap();
        assert!((1.0..10.0).contains(&range.start) && (1001.0..2000.0).contains(&range.end), "{range:?}");
        assert_eq!(round_values(&(9.0..1001.0)), [10.0, 100.0, 1000.0]);
        assert_eq!(round_values(&(0.09..1.1)), [0.1, 0.2, 0.5, 1.0]);
        assert_eq!(round_values(&(0.27..0.42)), [0.3, 0.4]);
        assert_eq!(around([0.0].into_iter()), None);
        assert!(around([5.0].into_iter()).is_some_and(|range| range.contains(&5.0)));
    }

    #[test]
    fn names_of_sizes_keep_apart() {
        assert_eq!(named(&[1e3, 1.1e3, 1e6], &(1e3..1e6)), [1e3, 1e6]);
    }
}
