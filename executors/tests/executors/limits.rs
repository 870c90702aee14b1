//! Tasks and workers that exceed what they may have: time, memory, patience.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use psbench_executors::conformance::{Collector, Command};
use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::{Executor, TaskError, WorkerEnd};
use rustix::process::Signal;

use crate::support::{HOUR, eventually, lost, options, signal};

/// All tests of this file.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("an_overdue_task_ends_its_worker_and_no_other_task", an_overdue_task_ends_its_worker_and_no_other_task),
    ("tasks_in_time_are_left_alone", tasks_in_time_are_left_alone),
    ("a_worker_that_cannot_tell_of_an_overdue_task_is_ended", a_worker_that_cannot_tell_of_an_overdue_task_is_ended),
    ("a_worker_that_stays_stopped_is_replaced", a_worker_that_stays_stopped_is_replaced),
    ("a_worker_that_is_stopped_for_a_moment_goes_on", a_worker_that_is_stopped_for_a_moment_goes_on),
    ("a_worker_that_outgrows_its_memory_says_so", a_worker_that_outgrows_its_memory_says_so),
    ("slow::workers_that_die_idle_are_given_up", workers_that_die_idle_are_given_up),
];

#[track_caller]
fn timed_out<T: std::fmt::Debug>(result: Result<T, TaskError>, wanted: Duration) -> String {
    match result {
        Err(TaskError::TimedOut { label, limit }) if limit == wanted => label,
        other => panic!("{other:?} is no time-out"),
    }
}

/// Checks that one of these tasks, which one worker began together, timed out and that the others were lost with it;
/// returns the worker's label. Which one is told of is left to the order in which the worker's threads began them.
#[track_caller]
fn one_timed_out(sink: &Collector, tasks: Range<u64>, limit: Duration) -> String {
    let is_overdue = |result: &Result<_, _>| matches!(result, Err(TaskError::TimedOut { .. }));
    let (mut overdue, beside): (Vec<_>, Vec<_>) = tasks.map(|task| sink.outcome(task)).partition(is_overdue);
    for result in beside {
        lost(result, &format!("a task ran for longer than {limit:?}"));
    }
    let result = overdue.pop().unwrap();
    assert_eq!(overdue, [], "one worker told of several");
    timed_out(result, limit)
}

fn an_overdue_task_ends_its_worker_and_no_other_task() {
    std::thread::scope(|scope| {
        for threads in [1, 2] {
            scope.spawn(move || an_overdue_task_ends_its_worker_of(threads));
        }
    });
}

/// Of so many threads, all of which run a task by then: each is overdue or lost with the one that is.
fn an_overdue_task_ends_its_worker_of(threads: u32) {
    // Long enough for both threads to begin their tasks, and for all that is done in time.
    const LIMIT: Duration = Duration::from_secs(10);
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { task_timeout: Some(LIMIT), threads_per_worker: threads, ..options(1, 20) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    // The others wait in the worker behind it, the last for its payload to arrive even.
    let payload = bytes::Bytes::from(vec![3; 8 << 20]);
    let overdue = 0..u64::from(threads);
    executor.submit(overdue.clone().map(|id| HOUR.task(id, "")).collect());
    executor.submit((10..20).map(|id| Command::Echo.task(id, payload.clone())).collect());
    let worker = &executor.workers()[0];
    assert_eq!(one_timed_out(&sink, overdue, LIMIT), worker.label);
    for id in 10..20 {
        assert!(sink.outcome(id) == Ok(payload.clone()), "task {id} never began");
    }
    let end = WorkerEnd::Lost("a task ran for longer than 10s".to_owned());
    assert_eq!(executor.workers()[0].end, Some(end));
    assert_eq!(executor.workers().len(), 2);
}

fn tasks_in_time_are_left_alone() {
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { task_timeout: Some(Duration::from_secs(600)), ..options(2, 4) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    // Exclusive tasks have no limit.
    executor.submit(vec![Command::Wait.task(1000, "")]);
    executor.submit((0..300).map(|id| Command::Sleep(1).task(id, "")).collect());
    for id in 0..300 {
        assert!(sink.outcome(id).is_ok());
    }
    assert_eq!(executor.workers().len(), 2);
}

fn a_worker_that_cannot_tell_of_an_overdue_task_is_ended() {
    let limit = Duration::from_millis(100);
    let sink = Arc::new(Collector::default());
    let options =
        ProcessOptions { task_timeout: Some(limit), stopped_limit: Duration::from_secs(3600), ..options(1, 2) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    signal(&executor.workers()[0], Signal::STOP);
    executor.submit(vec![Command::Echo.task(0, ""), Command::Echo.task(1, "")]);
    timed_out(sink.outcome(0), limit);
    // It may have begun, for all that is known.
    lost(sink.outcome(1), "a task ran for longer than 100ms");
    // No later one is in time at the first try, perhaps.
    let mut task = 2;
    eventually("another worker works", || {
        executor.submit(vec![Command::Echo.task(task, "")]);
        task += 1;
        sink.outcome(task - 1).is_ok()
    });
}

fn a_worker_that_stays_stopped_is_replaced() {
    const REASON: &str = "stopped (SIGSTOP) for 400ms";
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { stopped_limit: Duration::from_millis(400), ..options(2, 2) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit(vec![HOUR.task(0, "")]);
    signal(&executor.workers()[0], Signal::STOP);
    assert_eq!(lost(sink.outcome(0), REASON), executor.workers()[0].label);
    // Without a task, too.
    signal(&executor.workers()[1], Signal::STOP);
    eventually("its end", || executor.workers()[1].end == Some(WorkerEnd::Lost(REASON.to_owned())));
    executor.submit((1..9).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(9);
}

fn a_worker_that_is_stopped_for_a_moment_goes_on() {
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { stopped_limit: Duration::from_secs(3600), ..options(1, 2) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    signal(&executor.workers()[0], Signal::STOP);
    executor.submit(vec![Command::Echo.task(0, "")]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(sink.count(), 0);
    signal(&executor.workers()[0], Signal::CONT);
    assert!(sink.outcome(0).is_ok());
    assert_eq!(executor.workers().len(), 1);
}

fn a_worker_that_outgrows_its_memory_says_so() {
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { memory_limit: Some(1_500_000_000), ..options(1, 1) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit(vec![Command::Allocate(4 << 30).task(0, ""), Command::Allocate(1 << 20).task(1, "")]);
    lost(sink.outcome(0), "signal 6 (SIGABRT); out of memory: its limit is 1.5 GB");
    assert!(sink.outcome(1).is_ok());
}

fn workers_that_die_idle_are_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("die");
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { setup: format!("die-if {}", path.display()).into(), ..options(1, 1) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    fs::write(&path, "").unwrap();
    eventually("the last", || executor.workers().iter().filter(|worker| !worker.alive).count() == 8);
    executor.submit(vec![Command::Echo.task(0, "")]);
    match sink.outcome(0) {
        Err(TaskError::NotRun(reason)) => {
            let wanted = "no workers are left: 8 in a row ended while they had no task, the last: exit code 9";
            assert_eq!(reason, wanted);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(executor.workers().len(), 8);
}
