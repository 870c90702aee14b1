//! The engines of a sweep: what of them outlasts single trials, and the executors that they make.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use psbench_executors::bridge::{
    Bridge, BridgeExecutor, BridgeLauncher, BridgeOptions, BridgeTerms, CheckError, EngineInfo,
};
use psbench_executors::pilot::launch::{CommandLauncher, LaunchCommand};
use psbench_executors::pilot::{self, DoorOptions, PilotExecutor, PilotOptions};
use psbench_executors::{Executor, ExecutorError, OutcomeSink, SplitExecutor};
use serde_json::{Value, json};

use super::callback::{self, Callback};
use super::launchers::{Launcher, NoLauncher};
use crate::brokers::{BrokerChoice, PathError};
use crate::image;
use crate::options::{USE_A_BROKER, USE_A_CONNECTOR};
use crate::plan::{EnginePlan, GeneratorKind, Method, Placement, Settings, SubmitMode, TrialPlan};
use crate::scratch::Scratch;
use crate::services;

/// Why an engine can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Python, or a package of its, is not there.
    #[error(transparent)]
    Python(#[from] CheckError),
    /// A launcher is not there.
    #[error(transparent)]
    Launcher(#[from] NoLauncher),
    /// There is no place for Python's side of the bridge.
    #[error(transparent)]
    Cache(#[from] services::ServicesError),
    /// Workers can't connect where they are to.
    #[error("--worker-listen {}, port {}: {source}; write an address of this host, and a port that is free", door.listen, door.port)]
    Listen {
        /// Where they are to.
        door: DoorOptions,
        /// The system's reason.
        source: io::Error,
    },
    /// No gateways lead workers there.
    #[error("--worker-via-scistream: {0}")]
    Path(#[from] PathError),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] ExecutorError),
    /// There is no place for what an engine leaves behind.
    #[error("cannot make a directory for the engine's files ({0}); see TMPDIR")]
    Files(io::Error),
}

/// The engine of a sweep.
pub(super) struct Engines {
    plan: EnginePlan,
    /// Whether its workers are the program that runs, by the path at which it lay when the sweep began.
    starts_own_program: bool,
    kind: Kind,
    /// What it says of itself.
    pub(super) info: EngineInfo,
}

enum Kind {
    Python {
        options: BridgeOptions,
        /// The one that runs: engines take seconds to start.
        bridge: Mutex<Option<Arc<Bridge>>>,
        /// Has what engines leave behind, and goes after them.
        _files: Scratch,
    },
    Launcher(Launcher),
}

/// What one trial asks of an engine.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) settings: &'a Settings,
    pub(super) trial: &'a TrialPlan,
    /// What workers make their work from.
    pub(super) setup: &'a Bytes,
}

impl Engines {
    /// Makes sure that the engine's program is there, and starts nothing.
    pub(super) fn prepare(plan: &EnginePlan) -> Result<Self, EngineError> {
        let listened = TcpListener::bind((plan.door.listen, plan.door.port)).and_then(|door| door.local_addr());
        let address = listened.map_err(|source| EngineError::Listen { door: plan.door.clone(), source })?;
        if let Some(through) = &plan.through {
            // What is wrong with the gateways, or with the right to use them, shows by the first path.
            callback::path(through, &plan.door.told(address.port()))?;
        }
        let (kind, info) = match &plan.placement {
            Placement::Python { python, engine, options } => {
                let packages = services::cache_directory()?;
                let files = Scratch::new().map_err(EngineError::Files)?;
                // What starts on several nodes has its scripts there, which all have to see.
                let shared = options["executor"] == "htex-polaris-headless";
                let run_dir = if shared { packages.join("parsl") } else { files.path().join("parsl") };
                let options = BridgeOptions {
                    python: python.clone(),
                    engine,
                    options: with_files(options, &run_dir),
                    workers: 0,
                    worker: vec![plan.worker_program.clone(), "worker".into()],
                    ready_timeout: plan.ready_timeout,
                    packages,
                };
                let info = options.check()?;
                (Kind::Python { options, bridge: Mutex::default(), _files: files }, info)
            }
            Placement::Launcher(launch) => {
                let launcher = Launcher::find(launch)?;
                let info = EngineInfo { name: launch.program.clone(), version: launcher.version.clone(), python: None };
                (Kind::Launcher(launcher), info)
            }
        };
        let starts_own_program = image::is_at(Path::new(&plan.worker_program)).unwrap_or(false);
        Ok(Self { plan: plan.clone(), starts_own_program, kind, info })
    }

    /// Starts what a trial needs that outlasts it.
    pub(super) fn start_for(&self, trial: &TrialPlan) -> Result<(), EngineError> {
        if matches!(self.kind, Kind::Python { .. }) {
            self.bridge(self.workers(&trial.settings, trial))?;
        }
        Ok(())
    }

    /// As many as the engine needs for a trial. Those that compute in it, also where more were asked for: an engine gives its tasks to all
    /// that it has.
    fn workers(&self, settings: &Settings, trial: &TrialPlan) -> u32 {
        let compute = trial.compute_workers();
        match (self.plan.submit, settings.generator) {
            (_, GeneratorKind::Local) => compute,
            (SubmitMode::Pilot, _) => settings.pool_workers.unwrap_or(trial.workers),
            // An external generator leaves its worker idle.
            (SubmitMode::Task, _) => compute + settings.own_generators(),
        }
    }

    /// The executor of a trial; its workers are ready on return. An engine that has served before and whose end nobody noticed is started
    /// anew.
    pub(super) fn start(
        &self,
        request: Request<'_>,
        has_served: bool,
        sink: &Arc<dyn OutcomeSink>,
    ) -> Result<Arc<dyn Executor>, ExecutorError> {
        if self.starts_own_program && !image::is_at(Path::new(&self.plan.worker_program)).unwrap_or(false) {
            return Err(ExecutorError::Invalid(format!(
                "psbench at {} was replaced or removed since this run began, and its workers would be another one: run it from a copy, or \
                 name one with --worker-program",
                self.plan.worker_program
            )));
        }
        let kept = has_served && self.is_kept(self.workers(request.settings, request.trial));
        self.try_start(request, Arc::clone(sink)).or_else(|error| {
            if !kept {
                return Err(error);
            }
            tracing::warn!("{error}: {} is started anew", self.info);
            self.part_with();
            self.try_start(request, Arc::clone(sink))
        })
    }

    fn try_start(&self, request: Request<'_>, sink: Arc<dyn OutcomeSink>) -> Result<Arc<dyn Executor>, ExecutorError> {
        let Request { settings, trial, .. } = request;
        let compute = trial.compute_workers();
        let local = settings.generator == GeneratorKind::Local;
        let workers = self.workers(settings, trial);
        Ok(match (self.plan.submit, local) {
            (SubmitMode::Pilot, false) => self.pilots(request, (0, workers), self.launcher(workers)?, sink)?,
            (SubmitMode::Pilot, true) => {
                let generators = self.local_generators(request, Arc::clone(&sink))?;
                let pilots = self.pilots(request, (settings.generators, compute), self.launcher(workers)?, sink)?;
                Arc::new(SplitExecutor::new(generators, pilots))
            }
            (SubmitMode::Task, _) => {
                let placed = workers - compute;
                let bridge = self.bridge(workers)?;
                let generators = if placed > 0 {
                    let launcher = Box::new(BridgeLauncher::new(Arc::clone(&bridge), self.pilot_command()));
                    Some(self.pilots(request, (0, placed), launcher, Arc::clone(&sink))?)
                } else if local {
                    Some(self.local_generators(request, Arc::clone(&sink))?)
                } else {
                    None
                };
                let tasks = Arc::new(BridgeExecutor::start(bridge, self.terms(request, compute), sink)?);
                match generators {
                    None => tasks,
                    Some(generators) => Arc::new(SplitExecutor::new(generators, tasks)),
                }
            }
        })
    }

    fn terms(&self, Request { settings, setup, .. }: Request<'_>, workers: u32) -> BridgeTerms {
        BridgeTerms {
            first: settings.generators,
            setup: setup.clone(),
            capacity: settings.prefetch.saturating_add(1),
            batch: self.plan.batch,
            task_timeout: settings.task_timeout,
            ..BridgeTerms::new(workers)
        }
    }

    /// Workers that connect: how many, and the number of the first.
    fn pilots(
        &self,
        Request { settings, trial, setup }: Request<'_>,
        (first, workers): (u32, u32),
        launcher: Box<dyn pilot::Launcher>,
        sink: Arc<dyn OutcomeSink>,
    ) -> Result<Arc<dyn Executor>, ExecutorError> {
        let launcher: Box<dyn pilot::Launcher> = match &self.plan.through {
            Some(through) => Box::new(Callback::new(through.clone(), launcher)),
            None => launcher,
        };
        let options = PilotOptions {
            first,
            sharing: trial.compute_workers(),
            setup: setup.clone(),
            capacity: settings.prefetch.saturating_add(1),
            ready_timeout: self.plan.ready_timeout,
            task_timeout: settings.task_timeout,
            door: self.plan.door.clone(),
            ..PilotOptions::new(workers)
        };
        Ok(Arc::new(PilotExecutor::start(&options, launcher, sink)?))
    }

    /// Generators beside this process.
    fn local_generators(
        &self,
        Request { settings, setup, .. }: Request<'_>,
        sink: Arc<dyn OutcomeSink>,
    ) -> Result<Arc<dyn Executor>, ExecutorError> {
        let program = image::path()
            .map_err(|source| ExecutorError::Start { what: "generators: psbench's own path".into(), source })?;
        let launcher = CommandLauncher::new(move |invitation, workers| {
            let command =
                vec![program.clone().into(), "worker".into(), "--connect".into(), invitation.address.clone().into()];
            let launch = LaunchCommand { name: "generator".into(), command, env: Vec::new(), input: None };
            vec![launch; workers as usize]
        });
        let options = PilotOptions {
            setup: setup.clone(),
            ready_timeout: self.plan.ready_timeout,
            ..PilotOptions::new(settings.generators)
        };
        Ok(Arc::new(PilotExecutor::start(&options, Box::new(launcher), sink)?))
    }

    fn pilot_command(&self) -> Vec<String> {
        [self.plan.worker_program.as_str(), "worker", "--connect"].map(ToOwned::to_owned).to_vec()
    }

    fn launcher(&self, workers: u32) -> Result<Box<dyn pilot::Launcher>, ExecutorError> {
        Ok(match &self.kind {
            Kind::Launcher(launcher) => Box::new(launcher.launcher(&self.plan)),
            Kind::Python { .. } => Box::new(BridgeLauncher::new(self.bridge(workers)?, self.pilot_command())),
        })
    }

    /// Whether the engine that runs is the one for so many workers.
    fn is_kept(&self, workers: u32) -> bool {
        let Kind::Python { bridge, .. } = &self.kind else { return false };
        let kept = bridge.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().is_some_and(|bridge| bridge.is_usable() && bridge.options().workers == workers)
    }

    /// Ends the engine that runs.
    fn part_with(&self) {
        if let Kind::Python { bridge, .. } = &self.kind {
            *bridge.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// An engine with so many workers: the one that runs, where it has as many and is in order.
    fn bridge(&self, workers: u32) -> Result<Arc<Bridge>, ExecutorError> {
        let Kind::Python { options, bridge, .. } = &self.kind else {
            return Err(ExecutorError::Invalid("a launcher runs no tasks".to_owned()));
        };
        let mut kept = bridge.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = kept.as_ref().filter(|it| it.is_usable() && it.options().workers == workers) {
            return Ok(Arc::clone(running));
        }
        // The old one ends first: two would be in each other's way.
        *kept = None;
        tracing::info!("starting {} with {workers} workers", self.info);
        let started = Bridge::start(BridgeOptions { workers, ..options.clone() })?;
        Ok(Arc::clone(kept.insert(started)))
    }
}

/// Refuses what workers can't reach, now that it is known where they are.
pub(super) fn check_reach(
    settings: &Settings,
    trial: &TrialPlan,
    executor: &dyn Executor,
) -> Result<(), ExecutorError> {
    let workers = executor.workers();
    let Some(elsewhere) = workers.iter().find_map(|worker| worker.host.as_ref()) else { return Ok(()) };
    let connector = &settings.connector;
    if trial.method == Method::Proxy && (!connector.reaches_other_hosts() || connector.is_loopback()) {
        return Err(ExecutorError::Invalid(format!(
            "--ps-connector {}: workers on {elsewhere} can't reach {connector}; {USE_A_CONNECTOR}",
            connector.name()
        )));
    }
    let generates_there = settings.generator == GeneratorKind::Internal;
    if generates_there && (settings.broker == BrokerChoice::Memory || settings.broker.is_loopback()) {
        return Err(ExecutorError::Invalid(format!(
            "--stream {}: a generator on {elsewhere} can't reach {}; {USE_A_BROKER}",
            settings.broker.name(),
            settings.broker
        )));
    }
    Ok(())
}

/// Adds where an engine may leave its files.
fn with_files(options: &Value, run_dir: &Path) -> Value {
    let mut options = options.clone();
    if let Some(options) = options.as_object_mut() {
        options.insert("run_dir".to_owned(), json!(run_dir));
    }
    options
}
