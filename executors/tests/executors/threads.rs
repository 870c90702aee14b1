//! Threads with tasks that outlast their time limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use psbench_executors::conformance::{Collector, Command, TestWork};
use psbench_executors::thread::{ThreadExecutor, ThreadOptions};
use psbench_executors::{Executor, ExecutorError, TaskError, TaskId, WorkerEnd, WorkerId};

use crate::support::{HOUR, eventually};

/// All tests of this file.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("an_overdue_task_leaves_its_thread_behind", an_overdue_task_leaves_its_thread_behind),
    ("a_thread_that_returns_goes_on", a_thread_that_returns_goes_on),
    ("no_more_tasks_run_than_may_with_substitutes", no_more_tasks_run_than_may_with_substitutes),
    ("exclusive_tasks_on_threads_have_no_limit", exclusive_tasks_on_threads_have_no_limit),
    ("without_threads_all_tasks_end", without_threads_all_tasks_end),
    ("thread_options_that_cannot_work_are_refused", thread_options_that_cannot_work_are_refused),
];

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
    let executor = start(1, 1, Duration::from_millis(300), sink.clone());
    executor.submit(vec![HOUR.task(0, ""), Command::Echo.task(1, "after")]);
    assert_eq!(timed_out(&sink, 0), WorkerId(0));
    assert_eq!(sink.outcome(1), Ok("after".into()));
    assert_eq!(sink.worker(1), Some(WorkerId(1)), "a substitute ran it");
    let workers = executor.workers();
    assert_eq!(workers.len(), 2);
    assert!(!workers[0].alive && workers[1].alive);
    let end = "left behind with a task that ran for longer than 300ms";
    assert_eq!(workers[0].end, Some(WorkerEnd::Lost(end.to_owned())));
    // The substitute may be left behind, too.
    executor.submit(vec![HOUR.task(2, "")]);
    assert_eq!(timed_out(&sink, 2), WorkerId(1));
    executor.submit((3..100).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(100);
    // What is left behind is not waited for.
    let begun = Instant::now();
    executor.shutdown(Duration::from_secs(3600));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(sink.count(), 100);
}

fn a_thread_that_returns_goes_on() {
    let sink = Arc::new(Collector::default());
    let executor = start(1, 1, Duration::from_millis(200), sink.clone());
    executor.submit(vec![Command::Sleep(4_000).task(0, "")]);
    timed_out(&sink, 0);
    assert!(!executor.workers()[0].alive);
    eventually("its return", || executor.workers()[0].alive);
    executor.submit((1..200).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(200);
    assert_eq!(executor.workers().len(), 2);
    executor.shutdown(Duration::from_secs(20));
    assert_eq!(sink.count(), 200, "the result of the overdue task is ignored");
}

fn no_more_tasks_run_than_may_with_substitutes() {
    let sink = Arc::new(Collector::default());
    let executor = start(2, 1, Duration::from_secs(2), sink.clone());
    executor.submit(vec![HOUR.task(0, "")]);
    // They wait for the only task that may run, then for one another.
    executor.submit((1..4).map(|id| Command::Sleep(700).task(id, "")).collect());
    timed_out(&sink, 0);
    let begun = Instant::now();
    sink.wait_for(4);
    assert!((1..4).all(|id| sink.outcome(id).is_ok()));
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "they ran side by side");
}

fn exclusive_tasks_on_threads_have_no_limit() {
    let sink = Arc::new(Collector::default());
    let executor = start(2, 2, Duration::from_millis(200), sink.clone());
    executor.submit(vec![Command::Wait.task(0, "generator"), HOUR.task(1, "")]);
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
