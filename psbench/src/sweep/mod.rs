//! A sweep: one trial after the other, results on disk after each.

mod callback;
mod engines;
mod executor;
mod generators;
pub(crate) mod launchers;
mod paths;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psbench_connectors::ConnectorError;
use psbench_executors::bridge::EngineInfo;

pub use self::engines::EngineError;
use self::engines::Engines;
use self::executor::Starts;
pub use self::executor::{ExecutorFactory, ExecutorRequest, OWN_EXECUTORS, WorkerProcesses};
pub use self::paths::UnusablePath;
pub use self::trial::TrialEvents;
use crate::brokers::{Broker, BrokerError};
use crate::clock::SystemClock;
use crate::gateways::{GatewayMeter, PrivateError, PrivateGateways};
use crate::plan::{ObjectLifetime, Settings, SweepPlan, TrialPlan};
use crate::results::record::TrialRecord;
use crate::threads;

/// A sweep that is ready to run: what it needs is there.
pub struct Sweep {
    plan: SweepPlan,
    /// Each trial's.
    brokers: Vec<Arc<dyn Broker>>,
    /// That of the first trial with one behind gateways, of which there is more to tell, or of the first.
    broker: Arc<dyn Broker>,
    unusable: Vec<UnusablePath>,
    warnings: Vec<String>,
    interrupted: Arc<AtomicBool>,
    trace_dir: Option<PathBuf>,
    /// What outlasts single trials of the executor.
    engines: Option<Engines>,
    starts: Starts,
    /// Last: what the others hold goes through the private ones among them.
    gateways: GatewayMeter,
}

/// Why a sweep can't start.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The broker can't be reached.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The connector can't be used.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// The engine is not there.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There are no gateways.
    #[error(transparent)]
    Gateways(#[from] PrivateError),
    /// A path without which there is nothing to compare.
    #[error("--paths {path}: {source}")]
    Path {
        /// The path.
        path: String,
        /// What it lacks.
        source: Box<Self>,
    },
    /// There is nothing to run.
    #[error("the plan has no trial")]
    Empty,
}

/// Follows a sweep. Called from the sweep's thread.
pub trait SweepEvents {
    /// A trial begins.
    fn trial_starts(&mut self, trial: &TrialPlan);

    /// Some time has passed in a trial: items done with, payload bytes that reached a worker.
    fn progress(&mut self, items: u64, bytes: u64);

    /// A trial has ended; what is to be kept of it must be kept now. `false` ends the sweep.
    fn trial_ended(&mut self, record: TrialRecord) -> bool;
}

impl Sweep {
    /// Starts or reaches what the trials need. Where paths are compared, those that can't be used are left out as long as two remain, see
    /// [`unusable`](Self::unusable). `interrupted` may be set at any time: the running trial then ends early and in order.
    ///
    /// # Errors
    /// What a trial needs is not there.
    pub fn prepare(mut plan: SweepPlan, interrupted: Arc<AtomicBool>) -> Result<Self, SweepError> {
        let engines = plan.settings.engine.as_ref().map(Engines::prepare).transpose()?;
        let gateways = PrivateGateways::of(&mut plan);
        let paths::Prepared { brokers, unusable, warnings } = paths::prepare(&mut plan, gateways.as_ref().err())?;
        let through = plan.trials.iter().position(|trial| trial.settings.broker.via().is_some());
        let broker = Arc::clone(brokers.get(through.unwrap_or(0)).ok_or(SweepError::Empty)?);
        let gateways = GatewayMeter::new(gateways.ok().flatten());
        if let (Some(engines), Some(first)) = (&engines, plan.trials.first()) {
            engines.start_for(first)?;
        }
        let starts = Starts::default();
        Ok(Self { plan, brokers, broker, unusable, warnings, interrupted, trace_dir: None, engines, starts, gateways })
    }

    /// What it runs.
    pub fn plan(&self) -> &SweepPlan {
        &self.plan
    }

    /// The paths that were left out.
    pub fn unusable(&self) -> &[UnusablePath] {
        &self.unusable
    }

    /// What users should know of servers, in a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Keeps a trace of each trial in this directory.
    pub fn trace_into(&mut self, dir: &Path) {
        self.trace_dir = Some(dir.into());
    }

    /// The broker, as most of it is known: where paths are compared, with the gateways that some of them reach it through.
    pub fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    /// The engine of the executor, where it has one.
    pub fn engine(&self) -> Option<&EngineInfo> {
        self.engines.as_ref().map(|engines| &engines.info)
    }

    /// Runs the trials, in order. Ends with the first one where its engine can't be had.
    pub fn run(&self, events: &mut dyn SweepEvents) {
        // One that found no engine is the first trial: it would find none again.
        let mut vain = self.warm_up();
        for (trial, broker) in self.plan.trials.iter().zip(&self.brokers) {
            if self.is_interrupted() {
                return;
            }
            events.trial_starts(trial);
            let mut record = vain.take().unwrap_or_else(|| {
                self.bench(trial, &**broker).run(trial, &mut |items, bytes| events.progress(items, bytes))
            });
            record.problems = record.problems.into_iter().map(threads::with_remedy).collect();
            for problem in &record.problems {
                tracing::warn!(trial = trial.index, "{problem}");
            }
            if !events.trial_ended(record) {
                return;
            }
            if self.starts.are_in_vain() {
                let (executor, left) = (trial.settings.executor.name(), self.plan.trials.len() - trial.index - 1);
                if left > 0 {
                    tracing::error!("--executor {executor} did not start: {left} more trials are not tried");
                }
                return;
            }
        }
    }

    /// Deletes what trials could not at brokers, after the last of them. Returns, in words, what stays there.
    pub fn tidy(&self) -> Vec<String> {
        let is_first = |at: usize| !self.brokers[..at].iter().any(|other| Arc::ptr_eq(other, &self.brokers[at]));
        let brokers = (0..self.brokers.len()).filter(|at| is_first(*at)).map(|at| &self.brokers[at]);
        brokers.filter_map(|broker| broker.delete_rest().err()).map(|error| error.to_string()).collect()
    }

    /// Runs the first trial, or that of each path, once unrecorded where it is so short that cold memory and programs not yet loaded
    /// would show in it: measured at up to a factor of five in 40 ms. Longer ones drown that. Returns what became of one whose engine could
    /// not be had.
    fn warm_up(&self) -> Option<TrialRecord> {
        const SHORT: Duration = Duration::from_secs(1);
        const SMALL: u64 = 256 << 20;
        let mut warm = Vec::new();
        for (trial, broker) in self.plan.trials.iter().zip(&self.brokers) {
            if warm.contains(&&trial.path) || trial.settings.is_external() || self.is_interrupted() {
                continue;
            }
            warm.push(&trial.path);
            let bytes = trial.data_size.saturating_mul(trial.settings.task_count);
            if trial.ideal() <= SHORT && bytes <= SMALL {
                let path = trial.path.as_deref().map(|path| format!(" of {path}")).unwrap_or_default();
                tracing::info!("warming up with the first trial{path}, which is not recorded");
                // Nobody asked for its objects to stay.
                let settings = Settings { lifetime: ObjectLifetime::Owned, ..Settings::clone(&trial.settings) };
                let trial = TrialPlan { settings: Arc::new(settings), ..trial.clone() };
                let bench = trial::Bench { trace_dir: None, ..self.bench(&trial, &**broker) };
                let record = bench.run(&trial, &mut |_, _| {});
                if self.starts.are_in_vain() {
                    return Some(record);
                }
            }
        }
        None
    }

    fn bench<'a>(&'a self, trial: &'a TrialPlan, broker: &'a dyn Broker) -> trial::Bench<'a> {
        trial::Bench {
            settings: &trial.settings,
            broker,
            clock: Arc::new(SystemClock),
            interrupted: &self.interrupted,
            engines: self.engines.as_ref(),
            starts: &self.starts,
            gateways: &self.gateways,
            trace_dir: self.trace_dir.as_deref(),
        }
    }

    /// Whether the user ended it.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
