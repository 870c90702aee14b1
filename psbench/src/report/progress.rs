//! Live progress at the terminal.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::grid::error_terminal_width;
use super::time_left::TimeLeft;
use super::trial;
use crate::logging;
use crate::plan::{SweepPlan, TrialPlan};
use crate::results::TrialRecord;
use crate::units::{Size, human};

/// What does not fit the terminal is cut off: a bar of two lines would leave its first one behind.
const BAR: &str = "{prefix} {bar:20} {pos}/{len} {wide_msg}";
const NARROW_BAR: &str = "{prefix} {bar:10} {pos}/{len} {wide_msg}";
/// Columns for all that can be said.
const WIDE: u16 = 116;

/// A bar for the running trial on standard error, and a line in the log for each that has ended. Where standard error is no
/// terminal there is no bar.
pub struct Progress {
    bars: MultiProgress,
    bar: ProgressBar,
    trials: usize,
    items: u64,
    wide: bool,
    began: Instant,
    time_left: TimeLeft,
}

impl Progress {
    /// For the trials of `plan`, at the terminal `bars`, above which logs are written.
    pub fn new(bars: MultiProgress, plan: &SweepPlan) -> Self {
        Self {
            bars,
            bar: ProgressBar::hidden(),
            trials: plan.trials.len(),
            items: plan.settings.task_count,
            wide: error_terminal_width().is_some_and(|width| width >= WIDE),
            began: Instant::now(),
            time_left: TimeLeft::new(plan.trials.iter().map(TrialPlan::ideal).collect()),
        }
    }

    /// A trial begins.
    pub fn trial_starts(&mut self, trial: &TrialPlan) {
        self.began = Instant::now();
        self.bar = self.bars.add(ProgressBar::new(self.items));
        // The template is known to be right; were it not, the bar would have its own look.
        if let Ok(style) = ProgressStyle::with_template(if self.wide { BAR } else { NARROW_BAR }) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
        self.bar.set_prefix(self.prefix(trial));
        self.update(0, 0);
    }

    /// Which trial runs.
    fn prefix(&self, trial: &TrialPlan) -> String {
        let position = position(trial.index, self.trials);
        if self.wide {
            format!("{position} {}", trial::name(trial.way(), trial.data_size, trial.workers))
        } else {
            format!("{position} {} {:#}", trial.way(), Size::from_bytes(trial.data_size))
        }
    }

    /// So many items of the running trial are done with, and so many payload bytes have reached workers.
    pub fn update(&self, items: u64, bytes: u64) {
        self.bar.set_position(items);
        self.bar.set_message(self.message(items, bytes, self.began.elapsed()));
    }

    /// How fast the running trial is, and how long it and the sweep still take.
    fn message(&self, items: u64, bytes: u64, elapsed: Duration) -> String {
        let mut parts = Vec::new();
        if items > 0 && !elapsed.is_zero() {
            let per_second = |count: u64| count as f64 / elapsed.as_secs_f64();
            parts.push(format!("{} items/s", human::number(per_second(items))));
            if self.wide {
                parts.push(format!("{}/s", human::bytes(per_second(bytes))));
            }
        }
        let part = items as f64 / self.items.max(1) as f64;
        parts.extend(self.time_left.of_trial(elapsed, part).map(|left| format!("{} left", clock(left))));
        parts.extend(self.time_left.of_sweep(elapsed, part).map(|left| format!("{} for all", clock(left))));
        parts.join(", ")
    }

    /// The running trial has ended.
    pub fn trial_ended(&mut self, record: &TrialRecord) {
        self.bar.finish_and_clear();
        self.time_left.trial_ended(self.began.elapsed());
        tracing::info!(
            target: logging::BENCH,
            "{} {}: {}",
            position(record.index, self.trials),
            trial::name(record.way(), record.data_size_bytes, record.workers),
            trial::outcome(record),
        );
    }
}

fn position(index: usize, of: usize) -> String {
    format!("[{}/{of}]", index + 1)
}

/// `4 s`, `2:05`, `1:02:05`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::StreamScalingOptions;

    #[test]
    fn says_how_fast_it_is_and_how_long_it_takes() {
        let options = StreamScalingOptions {
            task_count: Some(200),
            task_sleep: Some("3s".parse().unwrap()),
            max_workers: vec![4],
            ..Default::default()
        };
        let plan = options.plan().unwrap().plan;
        let mut progress = Progress::new(MultiProgress::new(), &plan);
        progress.wide = true;
        assert_eq!(progress.message(0, 0, Duration::ZERO), "3:22 left, 20:12 for all");
        assert_eq!(
            progress.message(50, 5_000_000, Duration::from_secs(40)),
            "1.25 items/s, 125 kB/s, 2:00 left, 18:50 for all"
        );
        progress.wide = false;
        let message = progress.message(50, 5_000_000, Duration::from_secs(40));
        assert_eq!(message, "1.25 items/s, 2:00 left, 18:50 for all");
        let around = progress.prefix(&plan.trials[0]).len() + " ---------- 200/200 ".len();
        assert!(around + message.len() <= 80);
    }

    #[test]
    fn times_are_short() {
        assert_eq!([0, 59, 125, 3725].map(|s| clock(Duration::from_secs(s))), ["0 s", "59 s", "2:05", "1:02:05"]);
    }
}
