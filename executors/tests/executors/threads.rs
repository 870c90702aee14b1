//! Threads with tasks that outlast their time limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_executors::conformance::{Collector, Command, Gate, TestWork};
use psbench_executors::thread::{ThreadExecutor, ThreadOptions};
use psbench_executors::{Executor, ExecutorError, Task, TaskContext, TaskError, TaskId, Work, WorkerEnd, WorkerId};

use crate::support::{HOUR, PATIENCE, eventually};

/// All tests of this file.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("an_overdue_task_leaves_its_thread_behind", an_overdue_task_leaves_its_thread_behind),
    ("a_thread_that_returns_goes_on", a_thread_that_returns_goes_on),
    ("no_more_tasks_run_than_may_with_substitutes", no_more_tasks_run_than_may_with_substitutes),
    ("exclusive_tasks_on_threads_have_no_limit", exclusive_tasks_on_threads_have_no_limit),
    ("without_threads_all_tasks_end", without_threads_all_tasks_end),
    ("thread_options_that_cannot_work_are_refused", thread_options_that_cannot_work_are_refused),
];

/// No task of a moment outlasts it.
const LIMIT: Duration = Duration::from_secs(3);

fn start(workers: u32, sharing: u32, limit: Duration, sink: Arc<Collector>) -> ThreadExecutor {
    let options = ThreadOptions { workers, sharing, task_timeout: Some(limit) };
    ThreadExecutor::start(options, Arc::new(TestWork::default()), sink).unwrap()
}

#[track_caller]
fn timed_out(sink: &Collector, task: u64) -> WorkerId {
    let result = sink.outcome(task);
    assert!(matches!(result, Err(TaskError::TimedOut { .. })), "{result:?}");
    sink.worker(task).unwrap()
}

fn an_overdue_task_leaves_its_thread_behind() {
    let sink = Arc::new(Collector::default());
    let executor = start(1, 1, LIMIT, sink.clone());
    executor.submit(vec![HOUR.task(0, ""), Command::Echo.task(1, "after")]);
    assert_eq!(timed_out(&sink, 0), WorkerId(0));
    assert_eq!(sink.outcome(1), Ok("after".into()));
    assert_eq!(sink.worker(1), Some(WorkerId(1)), "a substitute ran it");
    let workers = executor.workers();
    assert_eq!(workers.len(), 2);
    assert!(!workers[0].alive && workers[1].alive);
    let end = "left behind with a task that ran for longer than 3s";
    assert_eq!(workers[0].end, Some(WorkerEnd::Lost(end.to_owned())));
    // The substitute may be left behind, too.
    executor.submit(vec![HOUR.task(2, "")]);
    assert_eq!(timed_out(&sink, 2), WorkerId(1));
    executor.submit((3..100).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(100);
    // What is left behind is not waited for.
    let begun = Instant::now();
    executor.shutdown(Duration::from_secs(3600));
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(sink.count(), 100);
}

fn a_thread_that_returns_goes_on() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(1, 1, LIMIT, sink.clone());
    executor.submit(vec![gate.hold().task(0, "")]);
    timed_out(&sink, 0);
    assert!(!executor.workers()[0].alive);
    gate.open();
    eventually("its return", || executor.workers()[0].alive);
    executor.submit((1..200).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(200);
    assert_eq!(executor.workers().len(), 2);
    executor.shutdown(PATIENCE);
    assert_eq!(sink.count(), 200, "the result of the overdue task is ignored");
}

/// Counts the tasks that run at a time, but for the first.
#[derive(Default)]
struct Counting {
    running: AtomicU32,
    most: AtomicU32,
}

impl Work for Counting {
    fn run(&self, task: Task, _: &TaskContext<'_>) -> Result<Bytes, String> {
        if task.id == TaskId(0) {
            std::thread::sleep(Duration::from_secs(3600));
        }
        self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(task.payload)
    }
}

fn no_more_tasks_run_than_may_with_substitutes() {
    let (sink, work) = (Arc::new(Collector::default()), Arc::new(Counting::default()));
    let options = ThreadOptions { workers: 2, sharing: 1, task_timeout: Some(LIMIT) };
    let executor = ThreadExecutor::start(options, Arc::clone(&work) as Arc<dyn Work>, sink.clone()).unwrap();
    executor.submit(vec![HOUR.task(0, "")]);
    // They wait for the only task that may run, then for one another.
    executor.submit((1..4).map(|id| Command::Echo.task(id, "")).collect());
    timed_out(&sink, 0);
    assert!((1..4).all(|id| sink.outcome(id).is_ok()));
    assert_eq!(work.most.load(Ordering::SeqCst), 1, "they ran side by side");
}

fn exclusive_tasks_on_threads_have_no_limit() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(2, 2, Duration::from_millis(200), sink.clone());
    executor.submit(vec![gate.stay().task(0, "generator"), HOUR.task(1, "")]);
    gate.wait_for(1);
    timed_out(&sink, 1);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sink.count(), 1);
    executor.cancel(TaskId(0));
    assert_eq!(sink.outcome(0), Ok("generator".into()));
}

fn without_threads_all_tasks_end() {
    // One thread and 64 substitutes.
    const TASKS: u64 = 65;
    let sink = Arc::new(Collector::default());
    let executor = start(1, 1, Duration::from_millis(20), sink.clone());
    executor.submit((0..TASKS + 5).map(|id| HOUR.task(id, "")).collect());
    for id in 0..TASKS {
        timed_out(&sink, id);
    }
    sink.wait_for(TASKS as usize + 5);
    executor.submit(vec![Command::Echo.task(1000, "")]);
    for id in (TASKS..TASKS + 5).chain([1000]) {
        match sink.outcome(id) {
            Err(TaskError::NotRun(reason)) => {
                let wanted = "all 65 threads are left behind with tasks that ran for longer than 20ms";
                assert_eq!(reason, wanted);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(executor.workers().len(), 65);
}

fn thread_options_that_cannot_work_are_refused() {
    let good = ThreadOptions::new(1);
    for options in [
        ThreadOptions::new(0),
        ThreadOptions { sharing: 0, ..good.clone() },
        ThreadOptions { task_timeout: Some(Duration::ZERO), ..good },
    ] {
        let work = Arc::new(TestWork::default());
        let result = ThreadExecutor::start(options, work, Arc::new(Collector::default())).map(drop);
        assert!(matches!(result, Err(ExecutorError::Invalid(_))), "{result:?}");
    }
}
