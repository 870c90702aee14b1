//! The tables of a comparison of paths: a row for each path at each point of the matrix, and below them the break-even sizes.

use comfy_table::Cell;

use super::grid::{grid, terminal_width};
use super::saturation::{self, UNDER_WAY, is_saturated};
use super::table::{WORKERS, end, figure, narrow};
use crate::results::{Estimate, PEER, Results, Status, Summary, place};
use crate::units::{Size, human};

const TITLES: [&str; 13] = [
    "size",
    "path",
    WORKERS,
    "items/s",
    "MB/s",
    UNDER_WAY,
    "p50",
    "p99",
    "jitter",
    "CPU s/GB",
    "dispatcher",
    "vs peer",
    STATUS,
];
const STATUS: &str = "status";
const BREAK_EVEN_TITLES: [&str; 5] = ["path", WORKERS, "carries more than", "from", "interval"];

/// Lines are to be read.
const MOST: u16 = 120;

/// Medians by size, path and number of workers, at most 120 columns wide and at a terminal no wider than that. The goodput beside `peer`'s
/// has its confidence interval.
pub(super) fn table(results: &Results) -> String {
    let width = terminal_width().map_or(MOST, |width| width.min(MOST));
    let points = saturation::heading(results, width) + &points(results, width);
    if results.break_evens.is_empty() { points } else { format!("{points}\n\n{}", break_evens(results)) }
}

/// Columns that say the same in each row are left out.
fn points(results: &Results, width: u16) -> String {
    let summaries = in_order(results);
    let (several, amiss) = (several_numbers(results), summaries.iter().any(|summary| is_amiss(summary)));
    let saturated = is_saturated(results);
    let shown = |title: &str| match title {
        WORKERS => several,
        STATUS => amiss,
        UNDER_WAY => saturated,
        _ => true,
    };
    let titles: Vec<_> = TITLES.into_iter().filter(|title| shown(title)).collect();
    let mut table = grid(&saturation::shown(&titles, saturated), &["path", STATUS]);
    for summary in summaries {
        let cells = TITLES.into_iter().zip(row(results, summary));
        table.add_row(cells.filter(|(title, _)| shown(title)).map(|(_, cell)| cell));
    }
    narrow(&mut table, &titles, width, !several);
    table.trim_fmt()
}

/// By workers and size, the paths in the order in which they were asked for.
fn in_order(results: &Results) -> Vec<&Summary> {
    let asked = |summary: &Summary| results.options.paths.iter().position(|path| path == summary.way());
    let mut summaries: Vec<_> = results.summaries.iter().collect();
    summaries.sort_by_key(|summary| (summary.workers, summary.data_size_bytes, asked(summary)));
    summaries
}

fn several_numbers(results: &Results) -> bool {
    results.summaries.windows(2).any(|pair| pair[0].workers != pair[1].workers)
}

fn is_amiss(summary: &Summary) -> bool {
    summary.status != Status::Complete || summary.late > 0 || summary.sustained == Some(false)
}

fn row(results: &Results, summary: &Summary) -> [Cell; TITLES.len()] {
    let (path, workers, size) = (summary.way(), summary.workers, summary.data_size_bytes);
    let vs_peer = match results.path_ratio(path, PEER, workers, size) {
        Some(ratio) => ratio.goodput.as_ref().map_or_else(|| "–".into(), ratio_and_interval),
        None if path == PEER => "1".into(),
        None => "–".into(),
    };
    [
        Cell::new(format!("{:#}", Size::from_bytes(size))),
        Cell::new(path),
        Cell::new(workers),
        Cell::new(figure(&summary.items_per_s, human::number)),
        Cell::new(figure(&summary.goodput_bytes_per_s, |bytes| human::number(bytes / 1e6))),
        Cell::new(saturation::under_way(summary)),
        Cell::new(figure(&summary.end_to_end_p50_ns, human::nanoseconds)),
        Cell::new(figure(&summary.end_to_end_p99_ns, human::nanoseconds)),
        Cell::new(figure(&summary.jitter_rfc3550_ns, human::nanoseconds)),
        Cell::new(figure(&summary.cpu_seconds_per_gb, human::number)),
        Cell::new(figure(&summary.dispatcher_bytes, human::bytes)),
        Cell::new(vs_peer),
        end(summary),
    ]
}

/// `0.93 (0.90–0.95)`.
fn ratio_and_interval(ratio: &Estimate) -> String {
    let number = human::number;
    let interval = ratio.interval.map(|interval| format!(" ({}–{})", number(interval.low), number(interval.high)));
    number(ratio.median) + &interval.unwrap_or_default()
}

/// From which size on each path carries more than the broker.
fn break_evens(results: &Results) -> String {
    let several = several_numbers(results);
    let shown = |title: &str| title != WORKERS || several;
    let titles: Vec<_> = BREAK_EVEN_TITLES.into_iter().filter(|title| shown(title)).collect();
    let mut table = grid(&titles, &["path", "carries more than"]);
    for found in &results.break_evens {
        let (from, interval) = match &found.break_even {
            Some(break_even) => (
                place(break_even.from),
                break_even.interval.map_or_else(
                    || "–".into(),
                    |it| format!("{} – {} ({:.0} %)", place(it.low), place(it.high), it.coverage * 100.0),
                ),
            ),
            None => ("–".into(), "–".into()),
        };
        let cells = [found.path.clone(), found.workers.to_string(), found.to.clone(), from, interval];
        let cells = BREAK_EVEN_TITLES.into_iter().zip(cells).filter(|(title, _)| shown(title));
        table.add_row(cells.map(|(_, cell)| Cell::new(cell)));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{TrialRecord, sample};

    fn results(paths: &[&str], rounds: u32) -> Results {
        let mut results = sample::empty();
        results.options.paths = paths.iter().map(|path| (*path).into()).collect();
        for round in 0..rounds {
            for size in [100_000, 10_000_000] {
                for (place, path) in paths.iter().enumerate().rev() {
                    let mut trial = sample::of_path(path, size, round, 12_345.6 * (1.0 + place as f64));
                    trial.dispatcher_bytes.received = 999_900_000_000;
                    results.push(trial);
                }
            }
        }
        results
    }

    #[test]
    fn rows_are_in_the_order_asked_for_and_fit() {
        let mut results = results(&["broker-via-scistream", "scistream:sockmap", "peer"], 6);
        for status in [Status::Complete, Status::Incomplete] {
            results.summaries[0].status = status;
            results.summaries[0].lost = 12_345;
            let text = points(&results, MOST);
            println!("{text}\n\n{}", break_evens(&results));
            let rows: Vec<_> = text.lines().skip(3).map(|line| line.split_whitespace().nth(2).unwrap()).collect();
            assert_eq!(rows[..3], ["broker-via-scistream", "scistream:sockmap", "peer"]);
            assert!(text.lines().all(|line| line.chars().count() <= MOST.into()), "{text}");
            assert!(text.contains("0.67 (0.67–0.67)"), "{text}");
            assert_eq!(text.contains("12345 lost"), status == Status::Incomplete);
        }
        assert!(points(&results, 80).lines().all(|line| line.chars().count() <= 80));
        let break_evens = break_evens(&results);
        assert!(break_evens.contains("below 100 kB – below 100 kB (97 %)"), "{break_evens}");
    }

    #[test]
    fn several_numbers_of_workers_have_a_column() {
        let mut results = results(&["broker", "peer"], 1);
        assert!(!table(&results).contains(WORKERS));
        let more = |path| TrialRecord { workers: 8, ..sample::of_path(path, 100_000, 0, 10.0) };
        results.push(more("broker"));
        results.push(more("peer"));
        assert_eq!(table(&results).matches(WORKERS).count(), 2);
    }
}
