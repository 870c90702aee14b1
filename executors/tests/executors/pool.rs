//! How many worker processes there are, on which cores, and which of them tasks go to.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use psbench_executors::conformance::{Collector, Command, Gate, begun};
use psbench_executors::process::{CpuAffinity, ProcessExecutor, ProcessOptions};
use psbench_executors::{Executor, TaskId, WorkerEnd, WorkerId, WorkerInfo};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::support::{HOUR, PATIENCE, eventually, options, signal, start};

/// All tests of this file.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("tasks_of_one_worker_run_side_by_side", tasks_of_one_worker_run_side_by_side),
    ("few_processes_are_filled_first", few_processes_are_filled_first),
    ("with_one_thread_tasks_go_to_free_workers", with_one_thread_tasks_go_to_free_workers),
    ("workers_are_replaced_after_so_many_tasks", workers_are_replaced_after_so_many_tasks),
    ("the_replacement_of_a_spent_worker_is_there_in_time", the_replacement_of_a_spent_worker_is_there_in_time),
    ("idle_workers_go_and_come_back", idle_workers_go_and_come_back),
    ("where_an_exclusive_task_ran_the_worker_stays", where_an_exclusive_task_ran_the_worker_stays),
    ("workers_keep_to_their_cores", workers_keep_to_their_cores),
];

fn retired(worker: &WorkerInfo, wanted: &str) -> bool {
    !worker.alive && worker.end == Some(WorkerEnd::Retired(wanted.to_owned()))
}

fn alive(executor: &dyn Executor) -> usize {
    executor.workers().iter().filter(|worker| worker.alive).count()
}

fn tasks_of_one_worker_run_side_by_side() {
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { threads_per_worker: 3, ..options(1, 4) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit(vec![HOUR.task(0, ""), HOUR.task(1, "")]);
    // Were there but two threads, these would wait for an hour.
    for id in 2..200 {
        executor.submit(vec![Command::Echo.task(id, id.to_string())]);
    }
    for id in 2..200 {
        assert_eq!(sink.outcome(id), Ok(id.to_string().into()));
        assert_eq!(sink.worker(id), Some(WorkerId(0)));
    }
}

fn few_processes_are_filled_first() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let options = ProcessOptions { threads_per_worker: 2, ..options(3, 2) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    for id in 0..3 {
        executor.submit(vec![gate.hold().task(id, "")]);
    }
    gate.open();
    let workers: Vec<u32> = (0..3).map(|id| sink.worker(id).unwrap().0).collect();
    assert_eq!(workers, [0, 0, 1]);
    // The third worker has never had anything to do.
    let reports = executor.shutdown(PATIENCE);
    let counts = reports.iter().map(|report| begun(std::slice::from_ref(report)));
    assert_eq!(counts.collect::<Vec<_>>(), [2, 1, 0]);
}

fn with_one_thread_tasks_go_to_free_workers() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(3, 4, sink.clone());
    for id in 0..3 {
        executor.submit(vec![gate.hold().task(id, "")]);
    }
    gate.open();
    let workers: BTreeSet<_> = (0..3).map(|id| sink.worker(id)).collect();
    assert_eq!(workers.len(), 3);
}

fn workers_are_replaced_after_so_many_tasks() {
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { max_tasks_per_worker: Some(10), ..options(2, 4) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit((0..200).map(|id| Command::Echo.task(id, id.to_string())).collect());
    for id in 0..200 {
        assert_eq!(sink.outcome(id), Ok(id.to_string().into()));
    }
    eventually("two fresh workers", || alive(&executor) == 2);
    let workers = executor.workers();
    let reports = executor.shutdown(PATIENCE);
    assert_eq!(workers.len(), reports.len());
    assert_eq!(begun(&reports), 200);
    for (worker, report) in workers.iter().zip(&reports) {
        if !worker.alive {
            assert!(retired(worker, "retired after 10 tasks"), "{worker:?}");
            assert_eq!(begun(std::slice::from_ref(report)), 10);
        }
    }
    assert!(workers.len() >= 20);
}

fn the_replacement_of_a_spent_worker_is_there_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions {
        max_tasks_per_worker: Some(1),
        setup: format!("gate {}", gate.display()).into(),
        ..options(1, 1)
    };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit(vec![Command::Echo.task(0, "held"), Command::Echo.task(1, "")]);
    eventually("a replacement", || executor.workers().len() == 2);
    assert_eq!(sink.count(), 0, "two tasks ran where one may");
    fs::write(&gate, "").unwrap();
    assert_eq!((sink.outcome(0), sink.worker(0)), (Ok("held".into()), Some(WorkerId(0))));
    assert_eq!((sink.outcome(1), sink.worker(1)), (Ok("".into()), Some(WorkerId(1))));
}

fn idle_workers_go_and_come_back() {
    const IDLE: &str = "idle for 300ms";
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { idle_timeout: Some(Duration::from_millis(300)), ..options(2, 1) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    let all_idle = || executor.workers().iter().all(|worker| retired(worker, IDLE));
    eventually("that both go", all_idle);
    assert_eq!(executor.workers().len(), 2);

    // One task needs one worker.
    executor.submit(vec![Command::Echo.task(0, "")]);
    assert_eq!((sink.outcome(0), sink.worker(0)), (Ok("".into()), Some(WorkerId(2))));
    eventually("that it goes", all_idle);
    assert_eq!(executor.workers().len(), 3);

    // Many need all, and a slow one holds up none.
    let gate = Gate::new();
    executor.submit((1..50).map(|id| if id == 1 { gate.hold() } else { Command::Sleep(1) }.task(id, "")).collect());
    sink.wait_for(49);
    assert_eq!(sink.count(), 49);
    gate.open();
    assert!(sink.outcome(1).is_ok());
    assert_eq!(executor.workers().len(), 5);
    eventually("that all go", all_idle);
    let reports = executor.shutdown(PATIENCE);
    assert_eq!((reports.len(), begun(&reports)), (5, 50));
}

fn where_an_exclusive_task_ran_the_worker_stays() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let options = ProcessOptions {
        idle_timeout: Some(Duration::from_millis(200)),
        max_tasks_per_worker: Some(2),
        ..options(2, 1)
    };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit(vec![gate.stay().task(0, "")]);
    gate.wait_for(1);
    eventually("that the other goes", || retired(&executor.workers()[1], "idle for 200ms"));
    executor.cancel(TaskId(0));
    assert!(sink.outcome(0).is_ok());
    for id in 1..10 {
        executor.submit(vec![Command::Echo.task(id, "")]);
        assert!(sink.outcome(id).is_ok());
    }
    // Long enough for any other to go.
    std::thread::sleep(Duration::from_millis(600));
    assert!(executor.workers()[0].alive);
    assert_eq!(sink.worker(9), Some(WorkerId(0)));
}

/// The cores that all threads of a process may use, as the kernel writes them.
fn cores(pid: u32) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
        })
        .collect()
}

fn workers_keep_to_their_cores() {
    let own = sched_getaffinity(None).unwrap();
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| own.is_set(*core)).collect();
    let (first, last) = (allowed[0], allowed[allowed.len() - 1]);
    let options = ProcessOptions {
        cpu_affinity: Some(CpuAffinity::List(vec![vec![first], vec![last]])),
        threads_per_worker: 2,
        ..options(2, 1)
    };
    let executor = ProcessExecutor::start(options.clone(), Arc::new(Collector::default())).unwrap();
    let on = |worker: &WorkerInfo, core: usize| cores(worker.pid.unwrap()) == BTreeSet::from([core.to_string()]);
    let workers = executor.workers();
    assert!(on(&workers[0], first) && on(&workers[1], last));
    assert_eq!(sched_getaffinity(None).unwrap(), own, "the executor's own cores changed");

    signal(&workers[1], Signal::KILL);
    eventually("a replacement", || executor.workers().len() == 3);
    assert!(on(&executor.workers()[2], last), "a replacement has the cores of whom it replaces");

    let forbidden = CpuAffinity::List(vec![vec![first], vec![CpuSet::MAX_CPU - 1]]);
    let options = ProcessOptions { cpu_affinity: Some(forbidden), ..options };
    let error = ProcessExecutor::start(options, Arc::new(Collector::default())).map(drop).unwrap_err();
    assert!(error.to_string().contains("core 1023, which this process may not use"), "{error}");
}
