//! What the commands that sweep have in common.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::MultiProgress;
use psbench_connectors::ConnectorError;
use psbench_executors::bridge::EngineInfo;
use tracing::dispatcher::SetGlobalDefaultError;

use super::{Ending, print};
use crate::brokers::BrokerError;
use crate::environment::{Engine, Environment};
use crate::logging;
use crate::memory::{self, TooLarge};
use crate::options::{OptionError, Planned, StreamScalingOptions};
use crate::plan::TrialPlan;
use crate::report::{self, Progress};
use crate::results::{Results, ResultsError, ResultsWriter, TrialRecord};
use crate::sweep::{Sweep, SweepError, SweepEvents, UnusablePath};
use crate::terminal;

/// The options of a sweep, and of this invocation alone.
#[derive(Debug, clap::Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    options: StreamScalingOptions,

    /// Take options from this TOML file, by their names without dashes in front; those of the command line win
    #[arg(long, help_heading = "General", value_name = "FILE")]
    recipe: Option<PathBuf>,

    /// Print what would be run, and run nothing
    #[arg(long, help_heading = "General")]
    dry_run: bool,
}

/// Why a sweep, or a generator alone, did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Options that make no sweep.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// There is less memory than it takes.
    #[error(transparent)]
    Memory(#[from] TooLarge),
    /// The broker or the connector can't be used.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// The broker can't be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The connector can't be used.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// The run's directory can't be made, or not be written.
    #[error("{0}; see --run-dir")]
    RunDirectory(ResultsError),
    /// Results of trials can't be kept.
    #[error(transparent)]
    Results(ResultsError),
    /// Something logs already.
    #[error("cannot start logging: {0}")]
    Logging(#[from] SetGlobalDefaultError),
    /// Standard output can't be written.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl CliError {
    /// How psbench ends for it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Options(_)
            | Self::Memory(_)
            | Self::Sweep(_)
            | Self::Broker(_)
            | Self::Connector(_)
            | Self::RunDirectory(_)
            | Self::Logging(_) => Ending::BadInput,
            Self::Results(_) | Self::Print(_) => Ending::TrialFailed,
        }
    }
}

/// Works out what to run.
type Plan = fn(&StreamScalingOptions) -> Result<Planned, OptionError>;

impl SweepArgs {
    /// Runs the sweep, or prints its plan. `interrupted` may be set at any time to end it early and in order.
    ///
    /// # Errors
    /// Nothing was run, or not all results could be kept.
    pub(super) fn run(&self, plan: Plan, interrupted: Arc<AtomicBool>) -> Result<Ending, CliError> {
        let mut planned = match &self.recipe {
            Some(recipe) => plan(&self.options.over_recipe(recipe)?)?,
            None => plan(&self.options)?,
        };
        let there = memory::available();
        let demand = memory::check(&planned.plan, there)?;
        planned.notes.extend(memory::note(demand, there));
        if self.dry_run {
            for note in &planned.notes {
                terminal::tell(format_args!("WARNING {note}"));
            }
            print(report::plan(&planned, demand))?;
            return Ok(Ending::Success);
        }
        run(planned, interrupted)
    }
}

fn run(planned: Planned, interrupted: Arc<AtomicBool>) -> Result<Ending, CliError> {
    let Planned { benchmark, plan, options, outputs, notes } = planned;
    // Before the run's directory is made, since a server that is not there should leave none behind.
    let mut sweep = Sweep::prepare(plan, interrupted)?;
    let terminal = MultiProgress::new();
    let progress = Progress::new(terminal.clone(), sweep.plan());
    let mut environment = Environment::of_this_host();
    environment.broker = Some(sweep.broker().info().map_err(SweepError::from)?);
    environment.engine =
        sweep.engine().cloned().map(|EngineInfo { name, version, python }| Engine { name, version, python });

    let writer =
        ResultsWriter::create(&outputs.run_dir, benchmark, &outputs.csv_file).map_err(CliError::RunDirectory)?;
    let log = writer.create_file(&outputs.log_file).map_err(CliError::RunDirectory)?;
    if outputs.trace {
        sweep.trace_into(writer.dir());
    }
    logging::start(terminal, outputs.log_level, log, outputs.log_file_level)?;
    for note in notes.iter().chain(sweep.warnings()) {
        tracing::warn!("{note}");
    }
    for UnusablePath { path, problem } in sweep.unusable() {
        tracing::warn!("--paths {path} is left out: {problem}");
    }

    let command = env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let mut results = Results::new(command, options, environment);
    results.unusable_paths = sweep.unusable().to_vec();
    tracing::info!(command = results.command.join(" "), dir = %writer.dir().display(), "sweep starts");
    let mut keeper = Keeper { progress, results, writer, failure: None };
    sweep.run(&mut keeper);
    let left = sweep.tidy();
    for left in &left {
        tracing::warn!("{left}");
    }

    let Keeper { results, writer, failure, .. } = keeper;
    let mut kept = failure.map_or(Ok(()), Err);
    if let (Ok(()), Some(chart)) = (&kept, report::chart(&results).filter(|_| results.compares_paths())) {
        kept = writer.write_chart(&chart);
    }
    // Last: where nothing can be printed, all is on disk.
    if let Some(verdict) = &results.verdict {
        print(report::table(&results))?;
        print(format_args!("\n{verdict}\nResults: {}", writer.dir().display()))?;
    }
    kept.map_err(CliError::Results)?;
    Ok(if sweep.is_interrupted() {
        Ending::Interrupted
    } else if results.any_failed() || !sweep.unusable().is_empty() || !left.is_empty() {
        Ending::TrialFailed
    } else {
        Ending::Success
    })
}

/// Keeps the results of each trial as it ends.
struct Keeper {
    progress: Progress,
    results: Results,
    writer: ResultsWriter,
    failure: Option<ResultsError>,
}

impl SweepEvents for Keeper {
    fn trial_starts(&mut self, trial: &TrialPlan) {
        self.progress.trial_starts(trial);
    }

    fn progress(&mut self, items: u64, bytes: u64) {
        self.progress.update(items, bytes);
    }

    fn trial_ended(&mut self, record: TrialRecord) -> bool {
        self.progress.trial_ended(&record);
        self.results.push(record);
        self.failure = self.writer.write(&self.results).err();
        self.failure.is_none()
    }
}
