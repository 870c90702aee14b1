//! The registry of executors.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use psbench_connectors::Registry;
use psbench_executors::pilot::PilotOptions;
use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::thread::{ThreadExecutor, ThreadOptions};
use psbench_executors::{Executor, ExecutorError, OutcomeSink, Work};

use super::engines::{Engines, Request, check_reach};
use crate::plan::{ExecutorKind, OwnExecutorPlan, Settings, TrialPlan, WorkerPool};
use crate::worker::{self, WorkerSetup};
use crate::{image, item};

/// Time for worker processes to come up.
const READY_TIME: Duration = Duration::from_secs(30);

/// Has allocators reserve address space by small parts, where that is bounded: ours takes 1 GiB at once, and the C library's 64 MiB for each
/// thread, which then lack for items and threads.
const SPARING: [(&str, &str); 2] = [("MIMALLOC_ARENA_RESERVE", "64MiB"), ("MALLOC_ARENA_MAX", "1")];

/// Makes executors of a kind that psbench does not have.
pub trait ExecutorFactory: Send + Sync {
    /// Starts the executor of one trial, which delivers every outcome to `sink`; its workers are ready on return.
    fn start(&self, request: ExecutorRequest, sink: Arc<dyn OutcomeSink>) -> Result<Arc<dyn Executor>, ExecutorError>;

    /// What is wrong with the options given to it, in one line that says what to write. Asked before anything is started.
    fn check(&self, _options: &BTreeMap<String, String>) -> Result<(), String> {
        Ok(())
    }

    /// Whether its workers are other processes, which can't reach what is in the memory of this one.
    fn in_processes(&self) -> bool {
        false
    }
}

impl<F> ExecutorFactory for F
where
    F: Fn(ExecutorRequest, Arc<dyn OutcomeSink>) -> Result<Arc<dyn Executor>, ExecutorError> + Send + Sync,
{
    fn start(&self, request: ExecutorRequest, sink: Arc<dyn OutcomeSink>) -> Result<Arc<dyn Executor>, ExecutorError> {
        self(request, sink)
    }
}

/// What an executor is asked to be.
pub struct ExecutorRequest {
    /// Workers, more than are [sharing](Self::sharing): each generator, an [exclusive](psbench_executors::Task::exclusive) task, gets one
    /// to itself.
    pub workers: u32,
    /// Most shared tasks that may run at a time.
    pub sharing: u32,
    /// What the workers do with a task; for all workers in this process.
    pub work: Arc<dyn Work>,
    /// What was given to it by `--executor-option NAME=VALUE`.
    pub options: BTreeMap<String, String>,
    /// What workers are made of that are other processes.
    pub processes: WorkerProcesses,
}

/// What is needed for worker processes: as psbench starts them itself, or as others place them.
#[derive(Clone, Debug)]
pub struct WorkerProcesses {
    /// Processes of this host, as `--executor process` has them: for a [`ProcessExecutor`]. Program, arguments and setup, number and threads,
    /// and the bounds of `--worker-memory`, `--task-timeout`, `--max-tasks-per-worker` and so on.
    pub started: ProcessOptions,
    /// Workers that connect: for a [`PilotExecutor`](psbench_executors::pilot::PilotExecutor). Where they find the dispatcher
    /// (`--worker-listen`, `--worker-port`, `--worker-connect`, `--worker-tls`), their setup and bounds.
    pub placed: PilotOptions,
    /// The command line of a worker that connects, to which the address of its [`Invitation`](psbench_executors::pilot::Invitation) is to be
    /// added. The invitation's token belongs in its environment, as
    /// [`TOKEN_VARIABLE`](psbench_executors::pilot::TOKEN_VARIABLE).
    pub command: Vec<OsString>,
}

/// The executors that this program has added.
pub static OWN_EXECUTORS: Registry<dyn ExecutorFactory> = Registry::new();

/// What is known of the executors of a sweep's trials.
#[derive(Default)]
pub(super) struct Starts {
    /// One has started.
    succeeded: AtomicBool,
    /// The first has not.
    failed: AtomicBool,
}

impl Starts {
    /// Whether an executor of another program's could not be had the first time. What was there once may come back; this is likely named
    /// wrongly, and would take the next trials as long.
    pub(super) fn are_in_vain(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Starts the executor of a trial, on the sweep's engine where it has one; its workers are ready on return.
pub(super) fn start(
    settings: &Settings,
    trial: &TrialPlan,
    (engines, starts): (Option<&Engines>, &Starts),
    sink: Arc<dyn OutcomeSink>,
) -> Result<Arc<dyn Executor>, ExecutorError> {
    let has_served = starts.succeeded.load(Ordering::Relaxed);
    let started = make(settings, trial, (engines, has_served), sink);
    let is_anothers = engines.is_some() || matches!(settings.executor, ExecutorKind::Own(_));
    match &started {
        Ok(_) => starts.succeeded.store(true, Ordering::Relaxed),
        Err(_) if is_anothers && !has_served => starts.failed.store(true, Ordering::Relaxed),
        Err(_) => {}
    }
    let executor = started?;
    check_reach(settings, trial, &*executor)?;
    Ok(executor)
}

fn make(
    settings: &Settings,
    trial: &TrialPlan,
    (engines, has_served): (Option<&Engines>, bool),
    sink: Arc<dyn OutcomeSink>,
) -> Result<Arc<dyn Executor>, ExecutorError> {
    let workers = settings.pool_workers.unwrap_or(trial.workers);
    // However many there are: what the generators leave idle, and a larger pool, compute nothing.
    let sharing = trial.compute_workers();
    let setup = WorkerSetup {
        task: settings.task,
        task_sleep: settings.task_sleep,
        verify: settings.verify,
        cache_bytes: settings.cache_bytes,
        trusted: settings.connector.services(),
    };
    let written = item::encode_plan(&setup).map_err(|error| ExecutorError::Invalid(error.to_string()))?;
    if let Some(engines) = engines {
        return engines.start(Request { settings, trial, setup: &written }, has_served, &sink);
    }
    Ok(match settings.executor {
        ExecutorKind::Own(name) => {
            let factory = OWN_EXECUTORS
                .get(name)
                .ok_or_else(|| ExecutorError::Invalid(format!("this program has no executor of the name {name}")))?;
            let own = settings.own_executor.as_ref();
            let own = own.ok_or_else(|| ExecutorError::Invalid(format!("--executor {name} was not planned")))?;
            let options = own.options.clone();
            let processes = worker_processes(settings, own, (workers, sharing), &written);
            factory.start(ExecutorRequest { workers, sharing, work: worker::local(setup), options, processes }, sink)?
        }
        ExecutorKind::Thread => {
            let task_timeout = settings.task_timeout;
            let options = ThreadOptions { sharing, task_timeout, ..ThreadOptions::new(workers) };
            Arc::new(ThreadExecutor::start(options, worker::local(setup), sink)?)
        }
        ExecutorKind::Dask
        | ExecutorKind::Globus
        | ExecutorKind::Mpi
        | ExecutorKind::Parsl
        | ExecutorKind::Python
        | ExecutorKind::Slurm
        | ExecutorKind::Ssh => {
            let name = settings.executor.name();
            return Err(ExecutorError::Invalid(format!(
                "the executor {name} has no engine: its sweep was not prepared"
            )));
        }
        ExecutorKind::Process => {
            let program = image::path().map_err(|source| ExecutorError::Start {
                what: "worker processes: psbench's own path".into(),
                source,
            })?;
            let options = process_options(settings, program, (workers, sharing), written);
            Arc::new(ProcessExecutor::start(options, sink)?)
        }
    })
}

/// Worker processes of this host, so many of which share.
fn process_options(
    settings: &Settings,
    program: impl Into<PathBuf>,
    (workers, sharing): (u32, u32),
    setup: Bytes,
) -> ProcessOptions {
    let WorkerPool { threads_per_worker, max_tasks_per_worker, idle, memory, cpu_affinity } = settings.pool.clone();
    ProcessOptions {
        args: vec!["worker".into()],
        env: memory.map(|_| SPARING.map(|(name, value)| (name.into(), value.into())).into()).unwrap_or_default(),
        workers: settings.pool.processes(workers, settings.generators),
        threads_per_worker,
        max_tasks_per_worker,
        idle_timeout: idle,
        memory_limit: memory,
        cpu_affinity,
        task_timeout: settings.task_timeout,
        sharing,
        setup,
        capacity: settings.prefetch.saturating_add(1),
        ready_timeout: READY_TIME,
        ..ProcessOptions::new(program)
    }
}

/// What an executor of the program's own makes workers of that are processes.
fn worker_processes(
    settings: &Settings,
    own: &OwnExecutorPlan,
    (workers, sharing): (u32, u32),
    setup: &Bytes,
) -> WorkerProcesses {
    let started = process_options(settings, &own.worker_program, (workers, sharing), setup.clone());
    let placed = PilotOptions {
        sharing,
        threads_per_worker: started.threads_per_worker,
        setup: setup.clone(),
        capacity: started.capacity,
        ready_timeout: own.ready_timeout,
        task_timeout: settings.task_timeout,
        door: own.door.clone(),
        ..PilotOptions::new(started.workers)
    };
    let command = [own.worker_program.as_str(), "worker", "--connect"].map(OsString::from).to_vec();
    WorkerProcesses { started, placed, command }
}
