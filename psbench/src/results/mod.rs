//! What a sweep leaves behind: `results.csv` and `results.json`.

mod comparison;
mod csv;
mod estimate;
mod paths;
pub mod record;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod schema;
mod summary;
mod verdict;
mod writer;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::comparison::{Comparison, Measure, Outcome};
pub use self::estimate::{Estimate, Interval};
pub(crate) use self::paths::PEER;
pub use self::paths::{BreakEven, Crossing, CrossingInterval, PathBreakEven, PathRatio, ROUNDS_FOR_95, place};
pub use self::record::{Balance, DispatcherBytes, Jitter, Latency, ProcessUsage, Rates, Status, TrialRecord};
pub use self::summary::Summary;
pub use self::writer::{CHART, RESULTS_JSON, ResultsError, ResultsWriter};
use crate::environment::Environment;
use crate::options::StreamScalingOptions;
use crate::sweep::UnusablePath;

/// Version of the form of `results.json`; a reader may count on all that is in its schema.
pub const SCHEMA_VERSION: u32 = 1;

/// All that is known of a sweep: the content of `results.json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// The form of this file: [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The program.
    pub psbench: Program,
    /// The command line, the program's name first.
    pub command: Vec<String>,
    /// The options with the defaults that were used. As a recipe they run the same sweep.
    pub options: StreamScalingOptions,
    /// Where it ran.
    pub environment: Environment,
    /// Local time of the start, RFC 3339.
    pub started_at: String,
    /// The trials in the order of running.
    pub trials: Vec<TrialRecord>,
    /// One for each point of the matrix.
    pub summaries: Vec<Summary>,
    /// The two methods beside each other, where both ran.
    pub comparisons: Vec<Comparison>,
    /// Paths that were to be compared and could not be used.
    pub unusable_paths: Vec<UnusablePath>,
    /// Each path against `peer` and against the broker, where paths are compared.
    pub path_ratios: Vec<PathRatio>,
    /// From which size on each path carries more than the broker, likewise.
    pub break_evens: Vec<PathBreakEven>,
    /// What it means, for people; absent before the first trial.
    pub verdict: Option<String>,
}

/// The program that made the results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its version.
    pub version: String,
}

impl Results {
    /// A sweep that starts now, without trials yet.
    pub fn new(command: Vec<String>, options: StreamScalingOptions, environment: Environment) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            psbench: Program { version: env!("CARGO_PKG_VERSION").to_owned() },
            command,
            options,
            environment,
            started_at: jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            trials: Vec::new(),
            summaries: Vec::new(),
            comparisons: Vec::new(),
            unusable_paths: Vec::new(),
            path_ratios: Vec::new(),
            break_evens: Vec::new(),
            verdict: None,
        }
    }

    /// Adds a trial, and works out anew what all trials mean.
    pub fn push(&mut self, trial: TrialRecord) {
        self.trials.push(trial);
        self.summaries = summary::summarise(&self.trials);
        if self.compares_paths() {
            (self.path_ratios, self.break_evens) = paths::compare(&self.options.paths, &self.trials);
            self.verdict = paths::sentences(self);
        } else {
            self.comparisons = comparison::compare(&self.summaries);
            self.verdict = verdict::sentence(&self.summaries, &self.comparisons);
        }
    }

    /// Whether it is paths that are measured, and not methods.
    pub fn compares_paths(&self) -> bool {
        self.trials.iter().any(|trial| trial.path.is_some())
    }

    /// The summary of a path at a point of the matrix.
    pub fn of_path(&self, path: &str, workers: u32, data_size_bytes: u64) -> Option<&Summary> {
        self.summaries.iter().find(|summary| {
            (summary.way(), summary.workers, summary.data_size_bytes) == (path, workers, data_size_bytes)
        })
    }

    /// How a path compares with another one at a point of the matrix.
    pub fn path_ratio(&self, path: &str, to: &str, workers: u32, data_size_bytes: u64) -> Option<&PathRatio> {
        self.path_ratios.iter().find(|ratio| {
            (&*ratio.path, &*ratio.to, ratio.workers, ratio.data_size_bytes) == (path, to, workers, data_size_bytes)
        })
    }

    /// Whether a trial did not finish all of its items, for another reason than the user's wish.
    pub fn any_failed(&self) -> bool {
        self.trials.iter().any(|trial| matches!(trial.status, Status::Incomplete | Status::Failed))
    }
}
