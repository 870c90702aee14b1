//! The registry of executors.

use std::sync::Arc;
use std::time::Duration;

use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::thread::{ThreadExecutor, ThreadOptions};
use psbench_executors::{Executor, ExecutorError, OutcomeSink};

use crate::item;
use crate::plan::{ExecutorKind, Settings, TrialPlan};
use crate::worker::{self, WorkerSetup};

/// Time for worker processes to come up.
const READY_TIME: Duration = Duration::from_secs(30);

/// Starts the executor of a trial; its workers are ready on return.
pub(super) fn start(
    settings: &Settings,
    trial: &TrialPlan,
    sink: Arc<dyn OutcomeSink>,
) -> Result<Arc<dyn Executor>, ExecutorError> {
    let workers = settings.pool_workers.unwrap_or(trial.workers);
    // However many there are: what the generator leaves idle, and a larger pool, compute nothing.
    let sharing = trial.compute_workers();
    let setup = WorkerSetup {
        task: settings.task,
        task_sleep: settings.task_sleep,
        verify: settings.verify,
        cache_bytes: settings.cache_bytes,
    };
    Ok(match settings.executor {
        ExecutorKind::Thread => {
            let options = ThreadOptions { sharing, ..ThreadOptions::new(workers) };
            Arc::new(ThreadExecutor::start(options, worker::local(setup), sink)?)
        }
        ExecutorKind::Process => {
            let program = std::env::current_exe().map_err(|source| ExecutorError::Start {
                what: "worker processes: psbench's own path".into(),
                source,
            })?;
            let options = ProcessOptions {
                args: vec!["worker".into()],
                workers,
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
