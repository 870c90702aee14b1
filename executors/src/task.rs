//! The contract between a dispatcher and an executor.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::Told;

/// Names one task of one executor; chosen by the dispatcher, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// Names one worker of one executor, counted from 0 in the order of their start. A replacement has a number of its
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0)
    }
}

/// One task: opaque bytes in two parts, so that bulk data need not be copied to stand next to its metadata.
#[derive(Clone, Debug)]
pub struct Task {
    /// The dispatcher's name for it.
    pub id: TaskId,
    /// Small metadata.
    pub head: Bytes,
    /// Bulk data; may be empty.
    pub payload: Bytes,
    /// A long task that has a worker to itself: nothing is queued behind it while it runs, and
    /// [`Executor::cancel`] and [`Executor::tell`] reach it.
    pub exclusive: bool,
}

/// What became of one task.
#[derive(Debug)]
pub struct Outcome {
    /// The task.
    pub task: TaskId,
    /// The worker that ran it, or that was lost with it; `None` for a task that reached no worker.
    pub worker: Option<WorkerId>,
    /// What [`Work::run`] returned, or why there is nothing.
    pub result: Result<Bytes, TaskError>,
}

/// Why a task has no outcome of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The work itself failed or panicked.
    #[error("{0}")]
    Failed(String),
    /// The worker that held the task is gone.
    #[error("{label} was lost ({reason})")]
    WorkerLost {
        /// Which worker: its [`WorkerInfo::label`].
        label: String,
        /// What is known of its end, for example `signal 9 (SIGKILL)`.
        reason: String,
    },
    /// The task ran for longer than it may. Its worker is ended by force where the executor can (processes), else left
    /// behind (threads).
    #[error("ran for longer than {limit:?} on {label}")]
    TimedOut {
        /// Which worker: its [`WorkerInfo::label`].
        label: String,
        /// The time limit.
        limit: Duration,
    },
    /// The executor was shut down or has no workers left, or the task was cancelled, before it ran; or the executor
    /// can't carry a task of its size.
    #[error("not run: {0}")]
    NotRun(String),
}

/// Why an executor could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The pool of threads or a thread could not be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What was to be started.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Workers did not report ready in time, or died before they did.
    #[error("{ready} of {wanted} workers became ready{detail}")]
    NotReady {
        /// Workers that are ready.
        ready: usize,
        /// Workers asked for.
        wanted: usize,
        /// What is known of the others, beginning with a separator, or empty.
        detail: String,
    },
    /// A workflow engine can't be had.
    #[error("{engine}: {reason}")]
    Engine {
        /// Which one.
        engine: &'static str,
        /// What it said, or what became of it.
        reason: String,
    },
    /// An executor was asked for with settings that can't work.
    #[error("{0}")]
    Invalid(String),
}

/// Receives outcomes. Called by an executor, from any of its threads, without any lock of the executor held; the
/// implementation may call [`Executor::submit`] from within. It must not block for long: the thread it borrows is the
/// one that reads the next outcome. Nor must it panic: nobody is left to hear of the outcomes that go with it.
pub trait OutcomeSink: Send + Sync {
    /// Takes all of `outcomes`, leaving it empty. Each submitted task is delivered exactly once.
    fn deliver(&self, outcomes: &mut Vec<Outcome>);
}

/// What the workers do with a task. One value serves all tasks of a worker process, or of all threads.
pub trait Work: Send + Sync {
    /// Runs one task to its end, on a worker's thread. An `Err` (as a panic) becomes [`TaskError::Failed`].
    fn run(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String>;

    /// Called once, after the last task: what the worker wants to tell at its end (opaque bytes, at most 16 MiB).
    fn finish(&self) -> Bytes {
        Bytes::new()
    }

    /// What [`finish`](Self::finish) would tell so far, for workers whose end nobody sees: called after every few tasks, so it has to
    /// be quick.
    fn progress(&self) -> Bytes {
        Bytes::new()
    }

    /// Called once in a worker process whose dispatcher vanished without a shutdown: release what must not stay
    /// behind, within a second or so. The process exits afterwards.
    fn abandoned(&self) {}
}

/// What a running task can ask of its worker.
pub struct TaskContext<'a> {
    worker: WorkerId,
    cancelled: &'a (dyn Fn() -> bool + Sync),
    flush: &'a (dyn Fn() + Sync),
    told: Option<&'a Told>,
}

impl<'a> TaskContext<'a> {
    /// For executors (and tests): `cancelled` tells whether [`Executor::cancel`] was called for this task, `flush`
    /// sends finished outcomes that were held back to leave together.
    pub fn new(worker: WorkerId, cancelled: &'a (dyn Fn() -> bool + Sync), flush: &'a (dyn Fn() + Sync)) -> Self {
        Self { worker, cancelled, flush, told: None }
    }

    /// For executors: the same of an exclusive task, with what [`Executor::tell`] tells it.
    #[must_use]
    pub fn telling(self, told: &'a Told) -> Self {
        Self { told: Some(told), ..self }
    }

    /// The worker this runs on.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Whether the dispatcher asked this task to end early. Only ever true of [`Task::exclusive`] tasks.
    pub fn is_cancelled(&self) -> bool {
        (self.cancelled)()
    }

    /// The number that [`Executor::tell`] told this task last, 0 before the first: as soon as it is above `known`, or after `wait`. Only
    /// [`Task::exclusive`] tasks are told any.
    pub fn told_above(&self, known: u64, wait: Duration) -> u64 {
        match self.told {
            Some(told) => told.above(known, wait),
            None => {
                std::thread::sleep(wait);
                0
            }
        }
    }

    /// To be called before the work waits or computes for longer than some microseconds, so that the outcomes of
    /// earlier tasks, which leave together where that saves system calls, do not wait with it.
    pub fn about_to_wait(&self) {
        (self.flush)();
    }
}

impl fmt::Debug for TaskContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// How a worker ended before the shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// Against the executor's will, or by force: for example `signal 9 (SIGKILL)`. Tasks may be lost with it.
    Lost(String),
    /// In order, as the executor's options want it: for example `retired after 100 tasks`. No task is lost, and its
    /// report is kept.
    Retired(String),
}

impl fmt::Display for WorkerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(reason) | Self::Retired(reason) => f.write_str(reason),
        }
    }
}

/// One worker, as results name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its number.
    pub id: WorkerId,
    /// For people: for example `worker 2 (pid 4711)`.
    pub label: String,
    /// Its process, where it has one of its own: a number of its host.
    pub pid: Option<u32>,
    /// Its host, where that is another than this one.
    pub host: Option<String>,
    /// Its host's clock, where that may be another than this one's.
    pub clock: Option<ClockOffset>,
    /// Whether it is running.
    pub alive: bool,
    /// How it ended, where it ended before the shutdown.
    pub end: Option<WorkerEnd>,
}

impl WorkerInfo {
    /// A running worker of which no more is known.
    pub fn new(id: WorkerId, label: String) -> Self {
        Self { id, label, pid: None, host: None, clock: None, alive: true, end: None }
    }
}

/// How far the monotonic clock of a worker's host is ahead of this host's, as estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// Nanoseconds; below zero where it is behind.
    pub ahead_ns: i64,
    /// The estimate is off by at most so many nanoseconds, the drift since it was made left out.
    pub error_ns: u64,
}

/// What one worker process, or the one set of threads, left at its end.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// The worker; for threads the first one.
    pub worker: WorkerInfo,
    /// What [`Work::finish`] returned; `None` when the worker ended without.
    pub finish: Option<Bytes>,
}

/// What a process used that belongs to an executor and runs no tasks itself, since the executor was started.
#[derive(Clone, Debug, PartialEq)]
pub struct Overhead {
    /// For people: for example `parsl worker (pid 4711 on n1)`.
    pub label: String,
    /// Its number on its host.
    pub pid: u32,
    /// Its host, where that is another than this one.
    pub host: Option<String>,
    /// User and system time of all its threads; absent where it did not tell.
    pub cpu: Option<Duration>,
    /// The most memory it had since it began, which may be long before the executor did, bytes; absent where it did not tell.
    pub peak_memory: Option<u64>,
}

/// Runs tasks on workers.
///
/// An executor is started with its workers ready and with the [`OutcomeSink`] that gets every outcome. Called by the
/// dispatcher from several threads at once, and from within [`OutcomeSink::deliver`].
pub trait Executor: Send + Sync {
    /// Hands over tasks. Returns without waiting for them to run, nor for bulk data to be taken by a worker. Each
    /// ends in exactly one [`Outcome`], whatever happens to its worker; an executor that can't run it any more says
    /// so by an outcome too, and never by delivering from within this call.
    fn submit(&self, tasks: Vec<Task>);

    /// Asks one [`Task::exclusive`] task to end early; it still ends in an outcome, [`TaskError::NotRun`] if it had
    /// not begun. Unknown or finished tasks are ignored.
    fn cancel(&self, task: TaskId);

    /// Tells one [`Task::exclusive`] task that runs a number, see [`TaskContext::told_above`]; one that is not above the last one
    /// tells it nothing. Tasks that don't run are told nothing. Called from within [`OutcomeSink::deliver`], too, so it does not block.
    fn tell(&self, task: TaskId, number: u64);

    /// Every worker there is or was, in the order of their numbers.
    fn workers(&self) -> Vec<WorkerInfo>;

    /// How far the clock is ahead by which a worker stamps what it tells; `None` where it is this host's, or where the worker was told.
    /// Asked for each outcome, from within a dispatcher's locks: quick, and it delivers nothing.
    fn clock(&self, _worker: WorkerId) -> Option<ClockOffset> {
        None
    }

    /// Why it runs no task any more, before its shutdown: its engine or the last of its workers is gone, and nobody takes their place.
    /// Asked now and then while tasks run.
    fn exhausted(&self) -> Option<String> {
        None
    }

    /// What processes used that belong to the executor and run no tasks themselves; to be asked for after the shutdown.
    fn overhead(&self) -> Vec<Overhead> {
        Vec::new()
    }

    /// Ends all workers. Tasks that run get `grace` to end; what is left then is ended by force where the executor
    /// can (processes), else left behind (threads); both are delivered as [`TaskError::WorkerLost`]. Tasks that never
    /// ran are delivered as [`TaskError::NotRun`]. Nothing is delivered after the return, but for the
    /// [`TaskError::NotRun`] of tasks that are submitted later still. A second call returns nothing.
    ///
    /// Waits for deliveries to end, so it must not be called (nor the executor be dropped) from within
    /// [`OutcomeSink::deliver`].
    fn shutdown(&self, grace: Duration) -> Vec<WorkerReport>;
}
