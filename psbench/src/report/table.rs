//! The table of results: a row for each point of the matrix.

use comfy_table::{Cell, Color, ColumnConstraint, Table};

use super::grid::{GAP, grid, terminal_width};
use super::paths;
use super::saturation::{self, UNDER_WAY, is_saturated};
use super::trial::status;
use crate::results::{Estimate, Results, Status, Summary};
use crate::units::{Size, human};

const TITLES: [&str; 11] =
    ["size", "method", "workers", "items/s", "MB/s", UNDER_WAY, "p50", "p99", "dispatcher", "CPU s/GB", "status"];

/// What a narrow terminal does without, the least important first; all of it is in the results.
const DISPENSABLE: [&str; 7] = ["CPU s/GB", WORKERS, "dispatcher", "jitter", "MB/s", UNDER_WAY, "p99"];
pub(super) const WORKERS: &str = "workers";

const MOST: u16 = 100;

/// Medians by size, method and number of workers, at most 100 columns wide, and at a terminal no wider than that. With repetitions the rate shows its median absolute
/// deviation, too.
pub fn table(results: &Results) -> String {
    if results.compares_paths() {
        paths::table(results)
    } else {
        within(results, terminal_width().map_or(MOST, |width| width.min(MOST)))
    }
}

fn within(results: &Results, width: u16) -> String {
    let saturated = is_saturated(results);
    let shown = |title: &str| title != UNDER_WAY || saturated;
    let titles: Vec<_> = TITLES.into_iter().filter(|title| shown(title)).collect();
    let mut table = grid(&saturation::shown(&titles, saturated), &["method", "status"]);
    for summary in &results.summaries {
        let cells = TITLES.into_iter().zip(row(summary)).filter(|(title, _)| shown(title));
        table.add_row(cells.map(|(_, cell)| cell));
    }
    let one_number = results.summaries.windows(2).all(|pair| pair[0].workers == pair[1].workers);
    narrow(&mut table, &titles, width, one_number);
    saturation::heading(results, width) + &table.trim_fmt()
}

/// Hides columns until the table fits, that of the workers only where it says the same in each row.
pub(super) fn narrow(table: &mut Table, titles: &[&str], width: u16, one_number_of_workers: bool) {
    let widths = table.column_max_content_widths();
    let mut needed = widths.iter().map(|width| width + GAP).sum::<u16>() - GAP;
    for title in DISPENSABLE.into_iter().filter(|title| *title != WORKERS || one_number_of_workers) {
        if needed <= width {
            return;
        }
        let place = titles.iter().position(|other| *other == title);
        if let Some((place, column)) = place.and_then(|place| Some((place, table.column_mut(place)?))) {
            column.set_constraint(ColumnConstraint::Hidden);
            needed -= widths[place] + GAP;
        }
    }
}

fn row(summary: &Summary) -> Vec<Cell> {
    let rate = match &summary.items_per_s {
        Some(rate) if rate.n > 1 => {
            format!("{} ± {}", human::number(rate.median), human::number(rate.mad))
        }
        rate => figure(rate, human::number),
    };
    vec![
        Cell::new(format!("{:#}", Size::from_bytes(summary.data_size_bytes))),
        Cell::new(summary.method.name()),
        Cell::new(summary.workers),
        Cell::new(rate),
        Cell::new(figure(&summary.goodput_bytes_per_s, |bytes| human::number(bytes / 1e6))),
        Cell::new(saturation::under_way(summary)),
        Cell::new(figure(&summary.end_to_end_p50_ns, human::nanoseconds)),
        Cell::new(figure(&summary.end_to_end_p99_ns, human::nanoseconds)),
        Cell::new(figure(&summary.dispatcher_bytes, human::bytes)),
        Cell::new(figure(&summary.cpu_seconds_per_gb, human::number)),
        end(summary),
    ]
}

/// The median, or a dash.
pub(super) fn figure(estimate: &Option<Estimate>, show: fn(f64) -> String) -> String {
    estimate.as_ref().map_or("–".to_owned(), |estimate| show(estimate.median))
}

/// The worst end of the point's trials, and what was missing or late.
pub(super) fn end(summary: &Summary) -> Cell {
    let counts = [(summary.lost, "lost"), (summary.failed, "failed"), (summary.late, "late")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, how)| format!("{count} {how}"));
    let counts: Vec<_> = counts.chain((summary.sustained == Some(false)).then(|| "not sustained".into())).collect();
    let end = status(summary.status);
    match (summary.status, &counts[..]) {
        (Status::Complete, []) => Cell::new(end).fg(Color::Green),
        (Status::Complete, counts) => Cell::new(format!("{end}, {}", counts.join(", "))).fg(Color::Yellow),
        (_, []) => Cell::new(end).fg(Color::Red),
        (_, counts) => Cell::new(counts.join("\n")).fg(Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Method;
    use crate::results::sample;

    fn lines(results: &Results) -> Vec<String> {
        let text = table(results);
        println!("{text}");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn fits_a_terminal_at_its_widest() {
        let mut results = sample::empty();
        for rate in [100_000.0, 200_000.0] {
            let mut trial = sample::trial(Method::Default, 1_000_000, rate);
            trial.workers = 1024;
            trial.status = Status::Incomplete;
            (trial.items.lost, trial.items.failed) = (9_999, 9_999);
            trial.dispatcher_bytes.received = 999_900_000_000;
            results.push(trial);
        }
        for line in lines(&results) {
            assert!(line.chars().count() <= 100, "{}: {line}", line.chars().count());
        }
    }

    #[test]
    fn narrow_terminals_get_fewer_columns() {
        let mut results = sample::empty();
        for rate in [100_000.0, 200_000.0] {
            let mut trial = sample::trial(Method::Default, 1_000_000, rate);
            trial.items.late = 30;
            results.push(trial);
        }
        for (workers, dropped) in [(4, WORKERS), (8, "dispatcher")] {
            let mut trial = sample::trial(Method::Proxy, 10_000_000, 1.0);
            trial.workers = workers;
            results.push(trial);
            let text = within(&results, 80);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(!text.contains("s/GB") && !text.contains(dropped), "{text}");
            assert!(text.contains("complete, 60 late"), "{text}");
            assert!(within(&results, 120).contains("s/GB"));
        }
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let mut results = sample::empty();
        let mut failed = sample::trial(Method::Proxy, 100_000, 1.0);
        failed.status = Status::Failed;
        results.push(failed);
        results.push(sample::trial(Method::Default, 100_000, 281.0));
        let lines = lines(&results);
        assert!(lines.iter().any(|line| line.contains("proxy") && line.contains('–') && line.ends_with("failed")));
        assert!(lines.iter().any(|line| line.contains("281") && line.contains("28.1") && line.ends_with("complete")));
    }
}
