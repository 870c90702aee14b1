//! What every [`Executor`] has to do, as one suite of checks.
//!
//! An implementation's test calls [`check`] with a way to start it on [`TestWork`].

mod collector;
mod gate;
mod work;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use collector::Collector;
pub use gate::Gate;
pub use work::{Command, TestWork, begun};

use crate::{Executor, Outcome, OutcomeSink, Task, TaskError, TaskId};

/// Given to anything that is to happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// What takes so long is not waited for.
const LONG: Duration = Duration::from_secs(3600);

/// Starts an executor with so many workers or some more, which run [`TestWork`], for a sink. A worker must not be given a shared task
/// while all its threads run one, so that the checks know which tasks run.
pub type Start<'a> = &'a dyn Fn(u32, Arc<dyn OutcomeSink>) -> Arc<dyn Executor>;

/// What an executor's workers are like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Shared tasks that each runs at a time.
    pub threads: u64,
    /// Whether exclusive tasks have a worker of their own, beside the workers asked for.
    pub apart: bool,
    /// Tasks with which it is shown that sinks may submit: as many as take no more than seconds.
    pub relayed: u64,
}

impl Shape {
    /// One task at a time, of either kind.
    pub const PLAIN: Self = Self { threads: 1, apart: false, relayed: 10_000 };

    /// Shared tasks that occupy 2 workers, one of which an exclusive task has, unless that has one of its own.
    fn occupying(self) -> u64 {
        self.threads * if self.apart { 2 } else { 1 }
    }
}

/// Checks an executor whose workers run one task at a time against the contract.
///
/// # Panics
///
/// With a description of what it does wrong.
pub fn check(start: Start<'_>) {
    check_shaped(start, Shape::PLAIN);
}

/// Checks an executor against the contract.
///
/// # Panics
///
/// With a description of what it does wrong.
pub fn check_shaped(start: Start<'_>, shape: Shape) {
    payloads_arrive_intact(start);
    errors_and_panics_are_outcomes(start);
    sinks_may_submit(start, shape);
    slow_tasks_hold_no_others(start);
    exclusive_tasks_can_be_cancelled(start);
    waiting_exclusive_tasks_can_be_cancelled(start);
    exclusive_tasks_can_be_told_a_number(start);
    workers_are_named(start);
    idle_workers_shut_down_with_a_report(start);
    shutdown_grants_its_grace(start, shape);
    // Last, since what it leaves running may be in the way.
    shutdown_ends_what_runs_and_what_waits(start, shape);
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

fn sinks_may_submit(start: Start<'_>, Shape { relayed, .. }: Shape) {
    const OUTSTANDING: u64 = 20;
    let sink = Arc::new(Relay {
        executor: OnceLock::new(),
        next: AtomicU64::new(OUTSTANDING),
        tasks: relayed,
        collector: Collector::default(),
    });
    let executor = start(3, sink.clone());
    assert!(sink.executor.set(Arc::downgrade(&executor)).is_ok());
    executor.submit((0..OUTSTANDING).map(|id| Command::Echo.task(id, id.to_string())).collect());
    for id in 0..relayed {
        assert_eq!(sink.collector.outcome(id), Ok(id.to_string().into()));
    }
    assert_eq!(begun(&executor.shutdown(SOON)), relayed);
}

fn slow_tasks_hold_no_others(start: Start<'_>) {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(2, sink.clone());
    executor.submit(vec![gate.hold().task(0, "")]);
    executor.submit((1..100).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(99);
    assert_eq!(sink.count(), 99, "a task went on that was held up");
    gate.open();
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

fn exclusive_tasks_can_be_told_a_number(start: Start<'_>) {
    let sink = Arc::new(Collector::default());
    let executor = start(2, sink.clone());
    executor.submit(vec![Command::Listen(9).task(0, ""), Command::Echo.task(1, "")]);
    assert_eq!(sink.outcome(1), Ok(Bytes::new()));
    executor.tell(TaskId(1), 9);
    executor.tell(TaskId(1000), 9);
    let until = Instant::now() + SOON;
    // Before it runs it can't be told anything.
    while sink.count() < 2 && Instant::now() < until {
        [7, 9, 8].into_iter().for_each(|number| executor.tell(TaskId(0), number));
        sleep(Duration::from_millis(1));
    }
    assert_eq!(sink.outcome(0), Ok(Bytes::copy_from_slice(&9_u64.to_le_bytes())));
}

fn workers_are_named(start: Start<'_>) {
    let executor = start(3, Arc::new(Collector::default()));
    let workers = executor.workers();
    assert!(workers.len() >= 3, "{workers:?}");
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

fn shutdown_ends_what_runs_and_what_waits(start: Start<'_>, shape: Shape) {
    let running = shape.occupying();
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(2, sink.clone());
    let waiting = 1 + running..50;
    executor.submit(vec![gate.stay().task(0, "")]);
    executor.submit((1..=running).map(|id| gate.hold().task(id, "")).collect());
    executor.submit(waiting.clone().map(|id| Command::Echo.task(id, "")).collect());
    gate.wait_for(1 + running as usize);
    let began = Instant::now();
    executor.shutdown(Duration::from_millis(200));
    assert!(began.elapsed() < SOON, "a task outlasted the grace");
    assert_eq!(sink.count(), 50);
    // It was cancelled, but may not have had the time to notice.
    assert!(matches!(sink.outcome(0), Ok(_) | Err(TaskError::WorkerLost { .. })));
    for id in 1..=running {
        assert!(matches!(sink.outcome(id), Err(TaskError::WorkerLost { .. })));
    }
    for id in waiting {
        assert!(matches!(sink.outcome(id), Err(TaskError::NotRun(_))));
    }
    sleep(Duration::from_millis(100));
    assert_eq!(sink.count(), 50, "outcomes were delivered after the shutdown");
}

fn shutdown_grants_its_grace(start: Start<'_>, shape: Shape) {
    let running = shape.occupying();
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(2, sink.clone());
    let waiting = 1 + running;
    executor.submit(vec![gate.stay().task(0, "cancelled")]);
    executor.submit((1..waiting).map(|id| gate.hold().task(id, "ended")).collect());
    executor.submit(vec![Command::Echo.task(waiting, "")]);
    gate.wait_for(waiting as usize);
    scope(|threads| {
        threads.spawn(|| {
            // The shutdown has begun.
            assert!(matches!(sink.outcome(waiting), Err(TaskError::NotRun(_))));
            assert_eq!(sink.outcome(0), Ok("cancelled".into()));
            gate.open();
        });
        assert_eq!(begun(&executor.shutdown(SOON)), 1 + running);
    });
    for id in 1..waiting {
        assert_eq!(sink.outcome(id), Ok("ended".into()));
    }
}
