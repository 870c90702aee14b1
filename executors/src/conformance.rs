//! What every [`Executor`] has to do, as one suite of checks.
//!
//! An implementation's test calls [`check`] with a way to start it on [`TestWork`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sync::{lock, wait_timeout};
use crate::{Executor, Outcome, OutcomeSink, Task, TaskContext, TaskError, TaskId, Work, WorkerId, WorkerReport};

/// Given to anything that is to happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// A task of this length is still running when the check looks.
const LONG: Duration = Duration::from_secs(60);

/// Starts an executor with so many workers, which run [`TestWork`], for a sink. A worker must not be given a shared task
/// while all its threads run one, so that the checks know which tasks run.
pub type Start<'a> = &'a dyn Fn(u32, Arc<dyn OutcomeSink>) -> Arc<dyn Executor>;

/// Checks an executor whose workers run one shared task at a time against the contract.
///
/// # Panics
///
/// With a description of what it does wrong.
pub fn check(start: Start<'_>) {
    check_with_threads(start, 1);
}

/// Checks an executor whose workers run so many shared tasks at a time against the contract.
///
/// # Panics
///
/// With a description of what it does wrong.
pub fn check_with_threads(start: Start<'_>, threads: u64) {
    payloads_arrive_intact(start);
    errors_and_panics_are_outcomes(start);
    sinks_may_submit(start);
    slow_tasks_hold_no_others(start);
    exclusive_tasks_can_be_cancelled(start);
    waiting_exclusive_tasks_can_be_cancelled(start);
    workers_are_named(start);
    idle_workers_shut_down_with_a_report(start);
    shutdown_ends_what_runs_and_what_waits(start, threads);
    shutdown_grants_its_grace(start, threads);
}

/// What a task of [`TestWork`] does; written as the task's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Returns the payload.
    Echo,
    /// Sleeps for so many milliseconds, then returns the payload.
    Sleep(u64),
    /// Fails with this text.
    Fail(String),
    /// Panics with this text.
    Panic(String),
    /// Ends the process with this exit code.
    Exit(i32),
    /// Waits to be cancelled.
    Wait,
    /// Prints so many lines to standard output and standard error.
    Print(u32),
    /// Allocates so many bytes, which it does not touch.
    Allocate(usize),
}

impl Command {
    /// A task that does this.
    pub fn task(&self, id: u64, payload: impl Into<Bytes>) -> Task {
        Task { id: TaskId(id), head: self.to_string().into(), payload: payload.into(), exclusive: *self == Self::Wait }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => write!(f, "echo"),
            Self::Sleep(milliseconds) => write!(f, "sleep {milliseconds}"),
            Self::Fail(text) => write!(f, "fail {text}"),
            Self::Panic(text) => write!(f, "panic {text}"),
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Wait => write!(f, "wait"),
            Self::Print(lines) => write!(f, "print {lines}"),
            Self::Allocate(bytes) => write!(f, "allocate {bytes}"),
        }
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
        let number = |error: std::num::ParseIntError| format!("{text:?}: {error}");
        Ok(match name {
            "echo" => Self::Echo,
            "sleep" => Self::Sleep(argument.parse().map_err(number)?),
            "fail" => Self::Fail(argument.to_owned()),
            "panic" => Self::Panic(argument.to_owned()),
            "exit" => Self::Exit(argument.parse().map_err(number)?),
            "wait" => Self::Wait,
            "print" => Self::Print(argument.parse().map_err(number)?),
            "allocate" => Self::Allocate(argument.parse().map_err(number)?),
            _ => return Err(format!("{text:?} is no command")),
        })
    }
}

/// Does what the tasks' heads say, see [`Command`]. Its end report is the number of tasks it began, in 8
/// little-endian bytes.
#[derive(Debug, Default)]
pub struct TestWork {
    begun: AtomicU64,
}

impl Work for TestWork {
    fn run(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        match String::from_utf8_lossy(&task.head).parse()? {
            Command::Echo => {}
            Command::Sleep(milliseconds) => {
                context.about_to_wait();
                sleep(Duration::from_millis(milliseconds));
            }
            Command::Fail(text) => return Err(text),
            Command::Panic(text) => panic!("{text}"),
            Command::Exit(code) => std::process::exit(code),
            Command::Wait => {
                while !context.is_cancelled() {
                    sleep(Duration::from_millis(1));
                }
            }
            Command::Print(lines) => {
                for line in 0..lines {
                    println!("line {line} of standard output");
                    eprintln!("line {line} of standard error");
                }
            }
            Command::Allocate(bytes) => drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes))),
        }
        Ok(task.payload)
    }

    fn finish(&self) -> Bytes {
        let begun = self.begun.load(Ordering::Relaxed);
        Bytes::copy_from_slice(&begun.to_le_bytes())
    }
}

/// The tasks that all workers of a [`TestWork`] began, by their reports.
///
/// # Panics
///
/// If an end report is none of [`TestWork`]'s.
pub fn begun(reports: &[WorkerReport]) -> u64 {
    let counts = reports.iter().filter_map(|report| report.finish.as_ref());
    counts
        .map(|report| match <[u8; 8]>::try_from(report.as_ref()) {
            Ok(bytes) => u64::from_le_bytes(bytes),
            Err(_) => panic!("an end report of {} bytes", report.len()),
        })
        .sum()
}

/// A sink that keeps outcomes, and insists that there is one for each task.
#[derive(Debug, Default)]
pub struct Collector {
    outcomes: Mutex<HashMap<TaskId, Outcome>>,
    changed: Condvar,
}

impl Collector {
    /// Waits for the outcome of one task.
    ///
    /// # Panics
    ///
    /// If there is none within half a minute.
    pub fn outcome(&self, id: u64) -> Result<Bytes, TaskError> {
        self.wait_until(&format!("the outcome of task {id}"), |outcomes| {
            outcomes.get(&TaskId(id)).map(|outcome| outcome.result.clone())
        })
    }

    /// Waits for the outcome of one task; returns the worker that ran it, or was lost with it.
    ///
    /// # Panics
    ///
    /// If there is none within half a minute.
    pub fn worker(&self, id: u64) -> Option<WorkerId> {
        self.wait_until(&format!("the outcome of task {id}"), |outcomes| {
            outcomes.get(&TaskId(id)).map(|outcome| outcome.worker)
        })
    }

    /// Waits until there are `count` outcomes.
    ///
    /// # Panics
    ///
    /// If there are fewer after half a minute.
    pub fn wait_for(&self, count: usize) {
        self.wait_until(&format!("{count} outcomes"), |outcomes| (outcomes.len() >= count).then_some(()));
    }

    /// How many outcomes there are.
    pub fn count(&self) -> usize {
        lock(&self.outcomes).len()
    }

    fn wait_until<T>(&self, what: &str, ready: impl Fn(&HashMap<TaskId, Outcome>) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut outcomes = lock(&self.outcomes);
        loop {
            if let Some(value) = ready(&outcomes) {
                return value;
            }
            let left = SOON.saturating_sub(begun.elapsed());
            assert!(!left.is_zero(), "no {what}, only {}", outcomes.len());
            outcomes = wait_timeout(&self.changed, outcomes, left);
        }
    }
}

impl OutcomeSink for Collector {
    fn deliver(&self, outcomes: &mut Vec<Outcome>) {
        let mut kept = lock(&self.outcomes);
        for outcome in outcomes.drain(..) {
            let id = outcome.task;
            assert!(kept.insert(id, outcome).is_none(), "a second outcome of {id:?}");
        }
        self.changed.notify_all();
    }
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|index| (index % 251) as u8).collect::<Vec<u8>>().into()
}

fn payloads_arrive_intact(start: Start<'_>) {
    let sink = Arc::new(Collector::default());
    let executor = start(2, sink.clone());
    // Around the sizes of socket and read buffers, where frames are split.
    let edges = [64 << 10, 208 << 10, 256 << 10, 1 << 20, 8 << 20];
    let around = edges.into_iter().flat_map(|edge: usize| [edge - 25, edge - 1, edge, edge + 1]);
    let sizes: Vec<usize> = [0, 1, 1000].into_iter().chain(around).collect();
    let tasks = (0..).zip(&sizes);
    executor.submit(tasks.clone().map(|(id, size)| Command::Echo.task(id, pattern(*size))).collect());
    for (id, size) in tasks {
        assert!(sink.outcome(id) == Ok(pattern(*size)), "a payload of {size} bytes was changed");
    }
    assert_eq!(begun(&executor.shutdown(SOON)), sizes.len() as u64);
    assert_eq!(sink.count(), sizes.len());
}

fn errors_and_panics_are_outcomes(start: Start<'_>) {
    let sink = Arc::new(Collector::default());
    let executor = start(1, sink.clone());
    executor.submit(vec![
        Command::Fail("bad luck".to_owned()).task(0, ""),
        Command::Panic("worse luck".to_owned()).task(1, ""),
        Command::Echo.task(2, "all the same"),
    ]);
    assert_eq!(sink.outcome(0), Err(TaskError::Failed("bad luck".to_owned())));
    assert_eq!(sink.outcome(1), Err(TaskError::Failed("panicked: worse luck".to_owned())));
    assert_eq!(sink.outcome(2), Ok("all the same".into()));
}

/// Submits a further task for each outcome, from within its delivery.
struct Relay {
    executor: OnceLock<Weak<dyn Executor>>,
    next: AtomicU64,
    tasks: u64,
    collector: Collector,
}

impl OutcomeSink for Relay {
    fn deliver(&self, outcomes: &mut Vec<Outcome>) {
        let further: Vec<Task> = outcomes
            .iter()
            .map(|_| self.next.fetch_add(1, Ordering::Relaxed))
            .filter(|id| *id < self.tasks)
            .map(|id| Command::Echo.task(id, id.to_string()))
            .collect();
        self.collector.deliver(outcomes);
        if let Some(executor) = self.executor.get().and_then(Weak::upgrade)
            && !further.is_empty()
        {
            executor.submit(further);
        }
    }
}

fn sinks_may_submit(start: Start<'_>) {
    const TASKS: u64 = 10_000;
    const OUTSTANDING: u64 = 20;
    let sink = Arc::new(Relay {
        executor: OnceLock::new(),
        next: AtomicU64::new(OUTSTANDING),
        tasks: TASKS,
        collector: Collector::default(),
    });
    let executor = start(3, sink.clone());
    assert!(sink.executor.set(Arc::downgrade(&executor)).is_ok());
    executor.submit((0..OUTSTANDING).map(|id| Command::Echo.task(id, id.to_string())).collect());
    for id in 0..TASKS {
        assert_eq!(sink.collector.outcome(id), Ok(id.to_string().into()));
    }
    assert_eq!(begun(&executor.shutdown(SOON)), TASKS);
}

fn slow_tasks_hold_no_others(start: Start<'_>) {
    let sink = Arc::new(Collector::default());
    let executor = start(2, sink.clone());
    executor.submit(vec![Command::Sleep(2_000).task(0, "")]);
    executor.submit((1..100).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(99);
    assert_eq!(sink.count(), 99, "quick tasks waited for a slow one");
    assert_eq!(sink.outcome(0), Ok(Bytes::new()));
}

fn exclusive_tasks_can_be_cancelled(start: Start<'_>) {
    let sink = Arc::new(Collector::default());
    let executor = start(2, sink.clone());
    executor.submit(vec![Command::Wait.task(0, "generator")]);
    executor.submit((1..100).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(99);
    assert_eq!(sink.count(), 99, "the exclusive task did not wait");
    executor.cancel(TaskId(5));
    executor.cancel(TaskId(1000));
    executor.cancel(TaskId(0));
    assert_eq!(sink.outcome(0), Ok("generator".into()));
    executor.submit((100..110).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(110);
}

fn waiting_exclusive_tasks_can_be_cancelled(start: Start<'_>) {
    let sink = Arc::new(Collector::default());
    let executor = start(1, sink.clone());
    executor.submit(vec![Command::Wait.task(0, ""), Command::Wait.task(1, "")]);
    executor.cancel(TaskId(1));
    assert!(matches!(sink.outcome(1), Err(TaskError::NotRun(_))));
    executor.cancel(TaskId(0));
    // By the time of the order it may not have begun.
    assert!(matches!(sink.outcome(0), Ok(_) | Err(TaskError::NotRun(_))));
}

fn workers_are_named(start: Start<'_>) {
    let executor = start(3, Arc::new(Collector::default()));
    let workers = executor.workers();
    assert_eq!(workers.len(), 3);
    for (number, worker) in (0..).zip(&workers) {
        assert_eq!(worker.id.0, number);
        assert!(worker.label.starts_with(&format!("worker {number} (")));
        assert!(worker.alive);
        assert_eq!(worker.end, None);
    }
    executor.shutdown(SOON);
    assert!(executor.workers().iter().all(|worker| !worker.alive));
}

fn idle_workers_shut_down_with_a_report(start: Start<'_>) {
    let sink = Arc::new(Collector::default());
    let executor = start(2, sink.clone());
    let began = Instant::now();
    let reports = executor.shutdown(LONG);
    assert!(began.elapsed() < SOON, "an idle executor used up the grace of its shutdown");
    assert!(!reports.is_empty());
    assert!(reports.iter().all(|report| report.finish.is_some()));
    assert!(executor.shutdown(LONG).is_empty());
    assert_eq!(sink.count(), 0);
    executor.submit(vec![Command::Echo.task(0, "")]);
    assert!(matches!(sink.outcome(0), Err(TaskError::NotRun(_))));
}

fn shutdown_ends_what_runs_and_what_waits(start: Start<'_>, threads: u64) {
    let sink = Arc::new(Collector::default());
    let executor = start(2, sink.clone());
    let long = u64::try_from(LONG.as_millis()).unwrap_or(u64::MAX);
    let waiting = 1 + threads..50;
    executor.submit(vec![Command::Wait.task(0, "")]);
    executor.submit((1..=threads).map(|id| Command::Sleep(long).task(id, "")).collect());
    executor.submit(waiting.clone().map(|id| Command::Echo.task(id, "")).collect());
    // Until those before them run.
    sleep(Duration::from_millis(300));
    let began = Instant::now();
    executor.shutdown(Duration::from_millis(200));
    assert!(began.elapsed() < SOON, "a task outlasted the grace");
    assert_eq!(sink.count(), 50);
    assert_eq!(sink.outcome(0), Ok(Bytes::new()));
    for id in 1..=threads {
        assert!(matches!(sink.outcome(id), Err(TaskError::WorkerLost { .. })));
    }
    for id in waiting {
        assert!(matches!(sink.outcome(id), Err(TaskError::NotRun(_))));
    }
    sleep(Duration::from_millis(100));
    assert_eq!(sink.count(), 50, "outcomes were delivered after the shutdown");
}

fn shutdown_grants_its_grace(start: Start<'_>, threads: u64) {
    let sink = Arc::new(Collector::default());
    let executor = start(1, sink.clone());
    executor.submit((0..threads).map(|id| Command::Sleep(1_000).task(id, "slept")).collect());
    executor.submit(vec![Command::Echo.task(threads, "")]);
    // Until the first run.
    sleep(Duration::from_millis(300));
    assert_eq!(begun(&executor.shutdown(SOON)), threads);
    for id in 0..threads {
        assert_eq!(sink.outcome(id), Ok("slept".into()));
    }
    assert!(matches!(sink.outcome(threads), Err(TaskError::NotRun(_))));
}
