//! Tasks run in child processes.
//!
//! How tasks and outcomes travel:
//!
//! ```text
//!  submit ──▶ schedule ──▶ outbox ══ socket pair ══▶ worker::serve ──▶ Work::run
//!                                                          │
//!  sink ◀──── fleet (one reader thread a worker) ◀═════════╯
//! ```
//!
//! Beside it, one thread watches over the workers: it starts those that are missing, lets idle ones go and ends those
//! that don't answer.
//!
//! | what goes wrong | who notices | its tasks |
//! |---|---|---|
//! | a task fails or panics | the worker | [`Failed`](crate::TaskError::Failed); the worker goes on |
//! | a worker dies, hangs up or breaks the protocol | its reader | [`WorkerLost`](crate::TaskError::WorkerLost) |
//! | a task outlasts its limit | the worker; failing that, the watch | that one [`TimedOut`](crate::TaskError::TimedOut), those beside it `WorkerLost`, those that had not begun go to others |
//! | a worker stays stopped | the watch | `WorkerLost` |
//! | a worker outgrows its memory | itself, by its limit | `WorkerLost` |
//! | workers die idle, again and again | the watch, with growing pauses | once none is left, [`NotRun`](crate::TaskError::NotRun) |

mod affinity;
pub(crate) mod child;
mod memory;
pub(crate) mod output;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use affinity::{AffinityError, CpuAffinity};

use crate::fleet::Fleet;
use crate::fleet::member::{Recruit, Recruiter};
use crate::fleet::terms::Terms;
use crate::{Executor, ExecutorError, OutcomeSink, Task, TaskId, WorkerInfo, WorkerReport};
use affinity::CorePlan;
use child::{Process, Program};

/// What worker processes are and how many there are.
///
/// [`new`](Self::new) makes one with what suits most; change the fields that are to differ.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// The program, which has to call [`serve`](crate::worker::serve).
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to its environment.
    pub env: Vec<(OsString, OsString)>,
    /// How many processes to keep running, at least 1.
    pub workers: u32,
    /// Shared tasks that a worker runs at a time, 1 to 1024. With 1 they run on its main thread and a task goes to the
    /// worker with the least to do. With more, each runs on a thread of its own, and a task goes to the busiest worker
    /// that has a thread free: as few processes as can be are filled.
    pub threads_per_worker: u32,
    /// Task slots that compute: most shared tasks that run at a time, over all workers, at least 1; never more than all
    /// threads of `workers`, even while one is replaced. Threads beyond are for exclusive tasks, which don't count. A
    /// worker of whose threads only some may be used gets no tasks in advance.
    pub sharing: u32,
    /// What each makes its [`Work`](crate::Work) from; at most 16 MiB.
    pub setup: Bytes,
    /// Most shared tasks that a worker holds for each of its threads, the running one included, at least 1. More than 1
    /// hides the way between the processes; less than all leaves the choice of a worker to the moment when one has
    /// room. Further tasks wait in the executor.
    pub capacity: u32,
    /// Most time from the start of a worker until its work is made.
    pub ready_timeout: Duration,
    /// What happens to what workers print.
    pub stderr: WorkerStderr,
    /// Shared tasks, at least 1, after which a worker is replaced, which bounds what leaks. It ends in order, with its
    /// report, once it has run those that it holds; its replacement starts meanwhile.
    pub max_tasks_per_worker: Option<u64>,
    /// Time without a task after which a worker ends in order. Others are started when there are tasks for them.
    pub idle_timeout: Option<Duration>,
    /// Which cores each worker may use.
    pub cpu_affinity: Option<CpuAffinity>,
    /// Most time for a shared task, counted by its worker from when it begins; the executor itself allows 10 s more,
    /// from when the task is the first that its worker holds. One that takes longer ends as
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut) and its worker by force; tasks that this worker ran beside it
    /// are lost, those that it had not begun go to others. To that end, payloads stay in memory until their outcome. A
    /// worker that has run an exclusive task can be ended so, too, and what that task left in its memory is lost.
    pub task_timeout: Option<Duration>,
    /// Time for which a worker may be stopped, as by SIGSTOP, before it is ended by force. A worker that does run but
    /// doesn't get on is bounded by `task_timeout`.
    pub stopped_limit: Duration,
    /// Most address space for a worker, in bytes, which is more than the memory it uses (`RLIMIT_AS`): one that leaks
    /// ends itself rather than others.
    pub memory_limit: Option<u64>,
}

impl ProcessOptions {
    /// One worker with one task at a time, nothing of it limited.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            workers: 1,
            threads_per_worker: 1,
            sharing: u32::MAX,
            setup: Bytes::new(),
            capacity: 1,
            ready_timeout: Duration::from_secs(30),
            stderr: WorkerStderr::Log,
            max_tasks_per_worker: None,
            idle_timeout: None,
            cpu_affinity: None,
            task_timeout: None,
            stopped_limit: Duration::from_secs(10),
            memory_limit: None,
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            workers: self.workers,
            first: 0,
            threads_per_worker: self.threads_per_worker,
            sharing: self.sharing,
            setup: self.setup.clone(),
            capacity: self.capacity,
            ready_timeout: self.ready_timeout,
            max_tasks_per_worker: self.max_tasks_per_worker,
            idle_timeout: self.idle_timeout,
            task_timeout: self.task_timeout,
            stopped_limit: self.stopped_limit,
        }
    }
}

/// Starts worker processes.
struct Spawner {
    program: Program,
    /// `None` if workers may use all cores.
    cores: Option<CorePlan>,
}

impl Spawner {
    fn new(options: ProcessOptions) -> Result<Self, ExecutorError> {
        if options.memory_limit == Some(0) {
            return Err(ExecutorError::Invalid("an executor needs a memory limit of at least 1".to_owned()));
        }
        let share_out = |affinity| CorePlan::new(affinity, options.workers as usize);
        let cores = options.cpu_affinity.as_ref().map(share_out).transpose()?;
        let program = Program {
            path: options.program,
            args: options.args,
            env: options.env,
            stderr: options.stderr,
            memory_limit: options.memory_limit,
            what: "worker program",
        };
        Ok(Self { program, cores })
    }
}

impl Recruiter for Spawner {
    fn recruit(&self, rank: usize) -> Result<Recruit, ExecutorError> {
        let spawn = || Process::spawn(&self.program);
        let (process, socket) = match &self.cores {
            None => spawn()?,
            Some(cores) => cores
                .on_cores(rank, spawn)
                .map_err(|source| ExecutorError::Start { what: "a worker on cores of its own".to_owned(), source })??,
        };
        Ok(Recruit { process: Box::new(process), channel: socket.into() })
    }
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
/// A worker that dies, hangs up, breaks the protocol or stays stopped is replaced; the tasks it held end as
/// [`TaskError::WorkerLost`](crate::TaskError::WorkerLost). After three in a row that did not become ready, or eight in
/// a row that ended while they had no task, there are no more, with pauses of 0.1 s to 5 s before that; once no worker
/// is left, all tasks end as [`TaskError::NotRun`](crate::TaskError::NotRun).
///
/// A worker that has run an exclusive task stays until the shutdown, whatever `max_tasks_per_worker` and `idle_timeout`
/// say: what such a task leaves in its memory may still be fetched by others. It gets shared tasks only while no other
/// worker has a thread free for them.
///
/// If this process ends without a [`shutdown`](Executor::shutdown), even by SIGKILL, the workers end too.
pub struct ProcessExecutor {
    fleet: Arc<Fleet>,
}

impl ProcessExecutor {
    /// Starts the workers and waits until all are ready. One that is killed meanwhile is replaced as later ones are.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::Invalid`] for options that can't work, [`ExecutorError::Start`] if the program can't be
    /// started, and [`ExecutorError::NotReady`] if its work can't be made, if it is not ready in time, or if three in a row end before.
    pub fn start(options: ProcessOptions, sink: Arc<dyn OutcomeSink>) -> Result<Self, ExecutorError> {
        let terms = options.terms();
        // Before any is started, so that options are checked first.
        terms.check()?;
        let workers = terms.workers;
        let executor = Self { fleet: Arc::new(Fleet::new(terms, Some(Box::new(Spawner::new(options)?)), sink)?) };
        for _ in 0..workers {
            executor.fleet.recruit()?;
        }
        executor.fleet.wait_ready(&|| None)?;
        executor.fleet.watch()?;
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

    fn tell(&self, task: TaskId, number: u64) {
        self.fleet.tell(task, number);
    }

    fn workers(&self) -> Vec<WorkerInfo> {
        self.fleet.workers()
    }

    fn exhausted(&self) -> Option<String> {
        self.fleet.exhausted()
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
