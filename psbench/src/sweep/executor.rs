//! The registry of executors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use psbench_connectors::Registry;
use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::thread::{ThreadExecutor, ThreadOptions};
use psbench_executors::{Executor, ExecutorError, OutcomeSink, Work};

use super::engines::{Engines, Request};
use crate::item;
use crate::plan::{ExecutorKind, Settings, TrialPlan, WorkerPool};
use crate::worker::{self, WorkerSetup};

/// Time for worker processes to come up.
const READY_TIME: Duration = Duration::from_secs(30);

/// Makes executors of a kind that psbench does not have.
pub trait ExecutorFactory: Send + Sync {
    /// Starts the executor of one trial, which delivers every outcome to `sink`; its workers are ready on return.
    fn start(&self, request: ExecutorRequest, sink: Arc<dyn OutcomeSink>) -> Result<Arc<dyn Executor>, ExecutorError>;
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
    if let Some(engines) = engines {
        engines.check_reach(settings, trial, &*executor)?;
    }
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
        connector: settings.connector.for_workers(),
    };
    if let Some(engines) = engines {
        return engines.start(Request { settings, trial, setup: &item::encode(&setup) }, has_served, &sink);
    }
    Ok(match settings.executor {
        ExecutorKind::Own(name) => {
            let factory = OWN_EXECUTORS
                .get(name)
                .ok_or_else(|| ExecutorError::Invalid(format!("this program has no executor of the name {name}")))?;
            factory.start(ExecutorRequest { workers, sharing, work: worker::local(setup) }, sink)?
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
            let program = std::env::current_exe().map_err(|source| ExecutorError::Start {
                what: "worker processes: psbench's own path".into(),
                source,
            })?;
            let WorkerPool { threads_per_worker, max_tasks_per_worker, idle, memory, cpu_affinity } =
                settings.pool.clone();
            let options = ProcessOptions {
                args: vec!["worker".into()],
                workers: settings.pool.processes(workers, settings.generators),
                threads_per_worker,
                max_tasks_per_worker,
                idle_timeout: idle,
                memory_limit: memory,
                cpu_affinity,
                task_timeout: settings.task_timeout,
                sharing,
                setup: item::encode(&setup),
                capacity: settings.prefetch.saturating_add(1),
                ready_timeout: READY_TIME,
                ..ProcessOptions::new(program)
            };
            Arc::new(ProcessExecutor::start(options, sink)?)
        }
    })
}
