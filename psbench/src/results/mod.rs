//! What a sweep leaves behind: `results.csv` and `results.json`.

mod comparison;
mod csv;
mod estimate;
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
pub use self::record::{Balance, DispatcherBytes, Jitter, Latency, ProcessUsage, Rates, Status, TrialRecord};
pub use self::summary::Summary;
pub use self::writer::{RESULTS_JSON, ResultsError, ResultsWriter};
use crate::environment::Environment;
use crate::options::StreamScalingOptions;

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
            verdict: None,
        }
    }

    /// Adds a trial, and works out anew what all trials mean.
    pub fn push(&mut self, trial: TrialRecord) {
        self.trials.push(trial);
        self.summaries = summary::summarise(&self.trials);
        self.comparisons = comparison::compare(&self.summaries);
        self.verdict = verdict::sentence(&self.summaries, &self.comparisons);
    }

    /// Whether a trial did not finish all of its items, for another reason than the user's wish.
    pub fn any_failed(&self) -> bool {
        self.trials.iter().any(|trial| matches!(trial.status, Status::Incomplete | Status::Failed))
    }
}
