//! Tasks run in child processes.
//!
//! ```text
//!  submit ──▶ schedule ──▶ outbox ══ socket pair ══▶ worker::serve ──▶ Work::run
//!                                                          │
//!  sink ◀──── fleet (one reader thread a worker) ◀═════════╯
//! ```

mod child;
mod fleet;
mod frames;
mod lifeline;
mod link;
mod outbox;
mod output;
mod schedule;
mod wire;
pub mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{Executor, ExecutorError, OutcomeSink, Task, TaskId, WorkerInfo, WorkerReport};
use fleet::Fleet;

/// What worker processes are and how many there are.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// The program, which has to call [`worker::serve`].
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// How many to keep running, at least 1.
    pub workers: u32,
    /// Most workers that hold shared tasks at a time, at least 1; the others are for exclusive ones.
    pub sharing: u32,
    /// What each makes its [`Work`](crate::Work) from; at most 16 MiB.
    pub setup: Bytes,
    /// Most shared tasks that a worker holds at a time, the running one included, at least 1. More than 1 hides the
    /// way between the processes; less than all leaves the choice of a worker to the moment when one has room.
    /// Further tasks wait in the executor.
    pub capacity: u32,
    /// Most time from the start of a worker until its work is made.
    pub ready_timeout: Duration,
    /// What happens to what workers print.
    pub stderr: WorkerStderr,
}

/// What happens to the standard error of workers, and to their standard output, which is treated alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkerStderr {
    /// Each line becomes a warning in the log, with the worker's label.
    #[default]
    Log,
    /// Goes to the standard error of this process.
    Inherit,
    /// Goes nowhere.
    Discard,
}

/// Runs tasks in child processes, each in a process group of its own and connected by a socket pair.
///
/// A worker that dies, hangs up or breaks the protocol is replaced; the tasks it held end as
/// [`TaskError::WorkerLost`](crate::TaskError::WorkerLost). After three replacements in a row that did not become
/// ready there are no more; once no worker is left, all tasks end as [`TaskError::NotRun`](crate::TaskError::NotRun).
///
/// If this process ends without a [`shutdown`](Executor::shutdown), even by SIGKILL, the workers end too.
pub struct ProcessExecutor {
    fleet: Arc<Fleet>,
}

impl ProcessExecutor {
    /// Starts the workers and waits until all are ready.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Invalid`] for options that can't work, [`ExecutorError::Start`] if the program can't be
    /// started, and [`ExecutorError::NotReady`] if a worker ends or fails before it is ready.
    pub fn start(options: ProcessOptions, sink: Arc<dyn OutcomeSink>) -> Result<Self, ExecutorError> {
        if options.workers == 0 || options.capacity == 0 || options.sharing == 0 {
            return Err(ExecutorError::Invalid(
                "the process executor needs at least 1 worker and a capacity of at least 1".to_owned(),
            ));
        }
        if options.setup.len() > frames::MAX_HEAD {
            return Err(ExecutorError::Invalid(format!(
                "a setup of {} bytes is more than the {} that a worker takes",
                options.setup.len(),
                frames::MAX_HEAD
            )));
        }
        let workers = options.workers;
        let executor = Self { fleet: Arc::new(Fleet::new(options, sink)?) };
        for _ in 0..workers {
            executor.fleet.enlist()?;
        }
        executor.fleet.wait_ready()?;
        Ok(executor)
    }
}

impl Executor for ProcessExecutor {
    fn submit(&self, tasks: Vec<Task>) {
        self.fleet.submit(tasks);
    }

    fn cancel(&self, task: TaskId) {
        self.fleet.cancel(task);
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        self.fleet.workers()
    }

    fn shutdown(&self, grace: Duration) -> Vec<WorkerReport> {
        self.fleet.shutdown(grace)
    }
}

impl Drop for ProcessExecutor {
    fn drop(&mut self) {
        self.fleet.shutdown(Duration::ZERO);
    }
}
