//! The table of results: a row for each point of the matrix.

use comfy_table::{Cell, Color};

use super::grid::grid;
use super::trial::status;
use crate::results::{Estimate, Results, Status, Summary};
use crate::units::{Size, human};

const TITLES: [&str; 10] =
    ["size", "method", "workers", "items/s", "MB/s", "p50", "p99", "dispatcher", "CPU s/GB", "status"];

/// Medians by size, method and number of workers, at most 100 columns wide. With repetitions the rate shows its median absolute
/// deviation, too.
pub fn table(results: &Results) -> String {
    let mut table = grid(&TITLES, &["method", "status"]);
    for summary in &results.summaries {
        table.add_row(row(summary));
    }
    table.trim_fmt()
}

fn row(summary: &Summary) -> Vec<Cell> {
    let figure = |estimate: &Option<Estimate>, show: fn(f64) -> String| {
        estimate.as_ref().map_or("–".to_owned(), |estimate| show(estimate.median))
    };
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
        Cell::new(figure(&summary.end_to_end_p50_ns, human::nanoseconds)),
        Cell::new(figure(&summary.end_to_end_p99_ns, human::nanoseconds)),
        Cell::new(figure(&summary.dispatcher_bytes, human::bytes)),
        Cell::new(figure(&summary.cpu_seconds_per_gb, human::number)),
        end(summary),
    ]
}

/// The worst end of the point's trials, and what was missing.
fn end(summary: &Summary) -> Cell {
    let missing: Vec<_> = [(summary.lost, "lost"), (summary.failed, "failed")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, how)| format!("{count} {how}"))
        .collect();
    let end = status(summary.status);
    if summary.status == Status::Complete {
        return Cell::new(end).fg(Color::Green);
    }
    let text = if missing.is_empty() { end.to_owned() } else { missing.join("\n") };
    Cell::new(text).fg(Color::Red)
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
