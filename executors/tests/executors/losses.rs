//! Workers that die, misbehave or never come up, and executors that do.

use std::env::current_exe;
use std::fs;
use std::io::{BufRead, BufReader, Write, stdout};
use std::os::unix::fs::symlink;
use std::process::{Command as Program, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use psbench_executors::conformance::{Collector, Command, Gate};
use psbench_executors::pilot::PilotOptions;
use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::{Executor, ExecutorError, TaskError, TaskId, WorkerEnd, WorkerId, WorkerInfo};
use rustix::process::{Pid, Signal, kill_process};

use crate::pilots;
use crate::support::{HOUR, PATIENCE, eventually, lost, options, runs, signal, start};

/// The argument that makes the test program an executor that gets killed.
pub(crate) const PARENT: &str = "parent";

/// All tests of this file.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_killed_worker_is_named_and_replaced", a_killed_worker_is_named_and_replaced),
    ("the_slot_of_a_killed_worker_goes_to_an_idle_one", the_slot_of_a_killed_worker_goes_to_an_idle_one),
    ("a_worker_killed_within_a_payload_blocks_nothing", a_worker_killed_within_a_payload_blocks_nothing),
    ("each_task_ends_once_whoever_is_killed", each_task_ends_once_whoever_is_killed),
    ("a_task_that_exits_is_lost_with_its_worker", a_task_that_exits_is_lost_with_its_worker),
    ("a_stopped_worker_does_not_block_submit_or_shutdown", a_stopped_worker_does_not_block_submit_or_shutdown),
    ("a_worker_killed_while_all_start_is_replaced", a_worker_killed_while_all_start_is_replaced),
    ("a_setup_that_fails_fails_the_start", a_setup_that_fails_fails_the_start),
    ("a_program_that_does_not_serve_fails_the_start", a_program_that_does_not_serve_fails_the_start),
    ("a_missing_program_fails_the_start", a_missing_program_fails_the_start),
    ("options_that_cannot_work_are_refused", options_that_cannot_work_are_refused),
    ("without_workers_all_tasks_end", without_workers_all_tasks_end),
    ("workers_do_not_outlive_a_killed_executor", workers_do_not_outlive_a_killed_executor),
    ("many_large_payloads_at_once", many_large_payloads_at_once),
    ("printing_does_no_harm", printing_does_no_harm),
    ("dropping_the_executor_ends_everything", dropping_the_executor_ends_everything),
];

fn kill(worker: &WorkerInfo) {
    signal(worker, Signal::KILL);
}

#[track_caller]
fn not_ready(options: ProcessOptions, wanted: &str) {
    match ProcessExecutor::start(options, Arc::new(Collector::default())).map(drop) {
        Err(error @ ExecutorError::NotReady { .. }) => {
            assert!(error.to_string().contains(wanted), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

fn a_killed_worker_is_named_and_replaced() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(2, 3, sink.clone());
    executor.submit(vec![HOUR.task(0, "")]);
    executor.submit(vec![gate.hold().task(1, "")]);
    // Of equals the first worker is chosen: this one is behind the task of an hour.
    executor.submit(vec![Command::Echo.task(2, "")]);
    let workers = executor.workers();
    kill(&workers[0]);
    assert_eq!(lost(sink.outcome(0), "signal 9 (SIGKILL)"), workers[0].label);
    assert_eq!(lost(sink.outcome(2), "signal 9 (SIGKILL)"), workers[0].label);
    gate.open();
    assert!(sink.outcome(1).is_ok());
    eventually("a replacement", || executor.workers().len() == 3);
    let workers = executor.workers();
    assert!(!workers[0].alive && workers[1].alive && workers[2].alive);
    assert_eq!(workers[0].end, Some(WorkerEnd::Lost("signal 9 (SIGKILL)".to_owned())));
    kill(&workers[1]);
    eventually("a second one", || executor.workers().len() == 4);
    executor.submit((3..103).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(103);
    let reports = executor.shutdown(PATIENCE);
    let finished: Vec<bool> = reports.iter().map(|report| report.finish.is_some()).collect();
    assert_eq!(finished, [false, false, true, true]);
}

fn the_slot_of_a_killed_worker_goes_to_an_idle_one() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    symlink(current_exe().unwrap(), &program).unwrap();
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let options = ProcessOptions { program: program.clone(), sharing: 1, ..options(2, 1) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit(vec![gate.stay().task(0, "")]);
    gate.wait_for(1);
    executor.submit(vec![HOUR.task(1, ""), Command::Echo.task(2, "")]);
    executor.cancel(TaskId(0));
    assert_eq!((sink.outcome(0), sink.worker(0)), (Ok("".into()), Some(WorkerId(0))));
    // No replacement can be started, as when the program is built anew meanwhile.
    fs::remove_file(&program).unwrap();
    kill(&executor.workers()[1]);
    lost(sink.outcome(1), "signal 9 (SIGKILL)");
    assert_eq!((sink.outcome(2), sink.worker(2)), (Ok("".into()), Some(WorkerId(0))));
    assert_eq!(executor.workers().len(), 2);
}

fn a_worker_killed_within_a_payload_blocks_nothing() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = start(1, 2, sink.clone());
    let payload = bytes::Bytes::from(vec![7; 64 << 20]);
    // The second payload waits half-way while the first task runs.
    executor.submit(vec![gate.hold().task(0, payload.clone()), Command::Echo.task(1, payload.clone())]);
    gate.wait_for(1);
    kill(&executor.workers()[0]);
    lost(sink.outcome(0), "signal 9 (SIGKILL)");
    lost(sink.outcome(1), "signal 9 (SIGKILL)");
    executor.submit(vec![Command::Echo.task(2, payload.clone())]);
    assert!(sink.outcome(2) == Ok(payload));
}

fn each_task_ends_once_whoever_is_killed() {
    const TASKS: u64 = 4_000;
    let sink = Arc::new(Collector::default());
    let executor = start(3, 8, sink.clone());
    let sizes = [0, 100, 300_000, 3_000_000].map(|size| bytes::Bytes::from(vec![5; size]));
    for id in 0..TASKS {
        executor.submit(vec![Command::Echo.task(id, sizes[id as usize % sizes.len()].clone())]);
        if id % 400 == 399 {
            let workers = executor.workers();
            let victim = workers.iter().find(|worker| worker.alive).unwrap();
            // It may have ended since.
            let _ = kill_process(Pid::from_raw(victim.pid.unwrap().cast_signed()).unwrap(), Signal::KILL);
            sink.wait_for(id as usize - 200);
        }
    }
    sink.wait_for(TASKS as usize);
    executor.shutdown(PATIENCE);
    assert_eq!(sink.count(), TASKS as usize);
}

fn a_task_that_exits_is_lost_with_its_worker() {
    let sink = Arc::new(Collector::default());
    let executor = start(2, 1, sink.clone());
    // More than the replacements that may fail in a row: these do not fail.
    executor.submit((0..8).map(|id| Command::Exit(3).task(id, "")).collect());
    for id in 0..8 {
        lost(sink.outcome(id), "exit code 3");
    }
    executor.submit(vec![Command::Echo.task(8, "")]);
    assert!(sink.outcome(8).is_ok());
}

fn a_stopped_worker_does_not_block_submit_or_shutdown() {
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { stopped_limit: Duration::from_secs(3600), ..options(1, 4) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    signal(&executor.workers()[0], Signal::STOP);
    let payload = bytes::Bytes::from(vec![0; 16 << 20]);
    let began = Instant::now();
    for id in 0..8 {
        executor.submit(vec![Command::Echo.task(id, payload.clone())]);
    }
    let reports = executor.shutdown(Duration::from_millis(100));
    assert!(began.elapsed() < PATIENCE);
    assert!(reports[0].finish.is_none());
    assert_eq!(sink.count(), 8);
}

fn a_worker_killed_while_all_start_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let setup = format!("first-is-killed {}", place.path().join("first").display());
    let sink = Arc::new(Collector::default());
    let executor =
        ProcessExecutor::start(ProcessOptions { setup: setup.into(), ..options(3, 1) }, sink.clone()).unwrap();
    let workers = executor.workers();
    let lost: Vec<_> = workers.iter().filter_map(|worker| worker.end.clone()).collect();
    assert_eq!((workers.len(), lost), (4, vec![WorkerEnd::Lost("signal 9 (SIGKILL)".to_owned())]));
    executor.submit((0..9).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(9);
    let finished = executor.shutdown(PATIENCE).iter().filter(|report| report.finish.is_some()).count();
    assert_eq!(finished, 3);
}

fn a_setup_that_fails_fails_the_start() {
    let with_setup = |setup: &'static str| ProcessOptions { setup: setup.into(), ..options(2, 1) };
    not_ready(with_setup("refuse no such store"), "its setup failed: no such store");
    not_ready(with_setup("exit 5"), "exit code 5");
    let hanging = ProcessOptions { ready_timeout: Duration::from_millis(300), ..with_setup("hang") };
    not_ready(hanging, "not ready within 300ms");
}

fn a_program_that_does_not_serve_fails_the_start() {
    let program = |program: &str, arg: &str| ProcessOptions {
        program: program.into(),
        args: vec!["-c".into(), arg.into()],
        ..options(1, 1)
    };
    not_ready(program("/bin/sh", "exit 4"), "0 of 1 workers became ready; worker 0 (pid ");
    not_ready(program("/bin/sh", "exit 4"), "exit code 4");
    not_ready(
        program("/bin/sh", "echo this is no frame at all >&0"),
        "it broke the protocol: a frame of unknown kind 116",
    );
}

fn a_missing_program_fails_the_start() {
    let missing = ProcessOptions { program: "/no/such/program".into(), ..options(1, 1) };
    let error = ProcessExecutor::start(missing, Arc::new(Collector::default())).map(drop);
    match error {
        Err(ExecutorError::Start { what, .. }) => assert_eq!(what, "worker program /no/such/program"),
        other => panic!("{other:?}"),
    }
}

fn options_that_cannot_work_are_refused() {
    for options in [
        options(0, 1),
        options(1, 0),
        ProcessOptions { setup: vec![0; (16 << 20) + 1].into(), ..options(1, 1) },
        ProcessOptions { sharing: 0, ..options(1, 1) },
        ProcessOptions { threads_per_worker: 0, ..options(1, 1) },
        ProcessOptions { threads_per_worker: 1025, ..options(1, 1) },
        ProcessOptions { max_tasks_per_worker: Some(0), ..options(1, 1) },
        ProcessOptions { task_timeout: Some(Duration::ZERO), ..options(1, 1) },
        ProcessOptions { memory_limit: Some(0), ..options(1, 1) },
        ProcessOptions { cpu_affinity: Some("list:0".parse().unwrap()), ..options(2, 1) },
    ] {
        let result = ProcessExecutor::start(options, Arc::new(Collector::default())).map(drop);
        assert!(matches!(result, Err(ExecutorError::Invalid(_))), "{result:?}");
    }
}

fn without_workers_all_tasks_end() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let sink = Arc::new(Collector::default());
    let options = ProcessOptions { setup: format!("exit-if {}", broken.display()).into(), ..options(1, 1) };
    let executor = ProcessExecutor::start(options, sink.clone()).unwrap();
    executor.submit((0..5).map(|id| HOUR.task(id, "")).collect());
    fs::write(&broken, "").unwrap();
    kill(&executor.workers()[0]);
    lost(sink.outcome(0), "signal 9 (SIGKILL)");
    sink.wait_for(5);
    executor.submit(vec![Command::Echo.task(5, "")]);
    for id in 1..6 {
        match sink.outcome(id) {
            Err(TaskError::NotRun(reason)) => {
                assert!(reason.starts_with("no workers are left: ") && reason.ends_with("exit code 7"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(executor.workers().len(), 4);
    assert_eq!(executor.shutdown(Duration::from_secs(1)).len(), 4);
}

fn workers_do_not_outlive_a_killed_executor() {
    end_with_their_executor("process");
}

/// Checks that the workers of a kind of executor end when it is killed, and that their work is told.
pub(crate) fn end_with_their_executor(kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mut parent =
        Program::new(current_exe().unwrap()).args([PARENT, kind]).arg(&mark).stdout(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(parent.stdout.take().unwrap()).lines().next();
    let pids: Vec<u32> = told.unwrap().unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| runs(*pid)));
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the workers' end", || !pids.iter().any(|pid| runs(*pid)));
    assert!(mark.exists(), "the work was not told");
}

/// The executor that gets killed: tells its workers' pids and keeps them busy.
pub(crate) fn be_parent() -> ExitCode {
    let mut arguments = std::env::args().skip(2);
    let (kind, mark) = (arguments.next().unwrap(), arguments.next().unwrap());
    let (setup, sink) = (format!("mark {mark}").into(), Arc::new(Collector::default()));
    let executor: Box<dyn Executor> = match kind.as_str() {
        "process" => Box::new(ProcessExecutor::start(ProcessOptions { setup, ..options(2, 1) }, sink).unwrap()),
        tls => Box::new(pilots::start(&PilotOptions { setup, ..pilots::options(2, tls == "tls") }, sink).unwrap()),
    };
    executor.submit(vec![HOUR.task(0, ""), Command::Wait.task(1, "")]);
    let pids: Vec<String> = executor.workers().iter().map(|worker| worker.pid.unwrap().to_string()).collect();
    println!("{}", pids.join(" "));
    stdout().flush().unwrap();
    sleep(Duration::from_secs(3600));
    ExitCode::FAILURE
}

fn many_large_payloads_at_once() {
    let sink = Arc::new(Collector::default());
    let executor = start(2, 16, sink.clone());
    let payload = bytes::Bytes::from(vec![9; 10_000_000]);
    executor.submit((0..64).map(|id| Command::Echo.task(id, payload.clone())).collect());
    for id in 0..64 {
        assert!(sink.outcome(id) == Ok(payload.clone()));
    }
}

fn printing_does_no_harm() {
    let sink = Arc::new(Collector::default());
    let executor = start(2, 4, sink.clone());
    executor.submit((0..20).map(|id| Command::Print(500).task(id, "intact")).collect());
    for id in 0..20 {
        assert_eq!(sink.outcome(id), Ok("intact".into()));
    }
}

fn dropping_the_executor_ends_everything() {
    let sink = Arc::new(Collector::default());
    let executor = start(2, 1, sink.clone());
    executor.submit((0..5).map(|id| HOUR.task(id, "")).collect());
    let pids: Vec<u32> = executor.workers().iter().filter_map(|worker| worker.pid).collect();
    drop(executor);
    assert_eq!(sink.count(), 5);
    assert!(!pids.iter().any(|pid| runs(*pid)));
}
