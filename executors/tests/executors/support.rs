//! Worker processes for the tests.

use std::env::current_exe;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_executors::conformance::{Command, TestWork};
use psbench_executors::pilot::{self, Invitation, TOKEN_VARIABLE};
use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::{OutcomeSink, Task, TaskContext, TaskError, TaskId, Work, WorkerInfo, worker};
use rustix::process::{Pid, Signal, kill_process};

/// The argument that makes the test program a worker.
pub(crate) const WORKER: &str = "worker";
/// The argument that makes it one that connects.
pub(crate) const CONNECT: &str = "connect";
/// For what takes no time unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A task that nobody waits for.
pub(crate) const HOUR: Command = Command::Sleep(3_600_000);

/// The main function of a worker process of the process executor.
pub(crate) fn serve() -> ExitCode {
    exit_code(worker::serve(|setup| make_work(&setup)))
}

/// The main function of a worker that connects to the address which is its argument.
pub(crate) fn connect() -> ExitCode {
    let address = std::env::args().nth(2).unwrap();
    let token = std::env::var(TOKEN_VARIABLE).unwrap();
    exit_code(pilot::connect(&Invitation { address, token }, |setup, _| make_work(&setup)))
}

fn exit_code(served: Result<(), impl std::error::Error>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A worker's setup is a word and an argument:
///
/// - nothing: the work is [`TestWork`];
/// - `refuse …`: the work can't be made, for that reason;
/// - `exit …`: the process ends in its setup, with that code;
/// - `first-is-killed …`: as nothing, but the one that makes that file is killed in its setup;
/// - `hang`: the setup takes for ever;
/// - `exit-if …`: as `exit 7` once that file exists;
/// - `die-if …`: as nothing, but the process ends as soon as that file exists, with the code 9;
/// - `mark …`: as nothing, but that file is made if the worker is abandoned;
/// - `gate …`: as nothing, but task 0 waits until that file exists.
fn make_work(setup: &[u8]) -> Result<Arc<dyn Work>, String> {
    let setup = String::from_utf8_lossy(setup).into_owned();
    let (word, argument) = setup.split_once(' ').unwrap_or((&setup, ""));
    match word {
        "refuse" => return Err(argument.to_owned()),
        "exit" => std::process::exit(argument.parse().unwrap()),
        "exit-if" if fs::exists(argument).unwrap() => std::process::exit(7),
        "first-is-killed" if fs::File::create_new(argument).is_ok() => {
            kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
        }
        "hang" => sleep(Duration::from_secs(3600)),
        "die-if" => {
            let path = argument.to_owned();
            spawn(move || {
                // Long after it is ready, even if the file exists.
                sleep(Duration::from_secs(2));
                while !fs::exists(&path).unwrap() {
                    sleep(Duration::from_millis(5));
                }
                std::process::exit(9);
            });
        }
        "mark" => return Ok(Arc::new(Marking { work: TestWork::default(), path: argument.into() })),
        "gate" => return Ok(Arc::new(Gated { work: TestWork::default(), gate: argument.into() })),
        _ => {}
    }
    Ok(Arc::new(TestWork::default()))
}

/// Leaves a file behind when abandoned.
struct Marking {
    work: TestWork,
    path: PathBuf,
}

impl Work for Marking {
    fn run(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        self.work.run(task, context)
    }

    fn abandoned(&self) {
        fs::write(&self.path, "abandoned").unwrap();
    }
}

/// Holds up the first task while a file is missing.
struct Gated {
    work: TestWork,
    gate: PathBuf,
}

impl Work for Gated {
    fn run(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        if task.id == TaskId(0) {
            eventually("the gate", || self.gate.exists());
        }
        self.work.run(task, context)
    }
}

/// Options for workers that are this test program.
pub(crate) fn options(workers: u32, capacity: u32) -> ProcessOptions {
    ProcessOptions {
        args: vec![WORKER.into()],
        workers,
        capacity,
        ready_timeout: PATIENCE,
        ..ProcessOptions::new(current_exe().unwrap())
    }
}

/// Starts such workers.
pub(crate) fn start(workers: u32, capacity: u32, sink: Arc<dyn OutcomeSink>) -> ProcessExecutor {
    ProcessExecutor::start(options(workers, capacity), sink).unwrap()
}

/// Waits for something that is not told.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Checks that `result` is a loss for the reason `wanted`; returns the worker's label.
#[track_caller]
pub(crate) fn lost<T: std::fmt::Debug>(result: Result<T, TaskError>, wanted: &str) -> String {
    match result {
        Err(TaskError::WorkerLost { label, reason }) if reason == wanted => label,
        other => panic!("{other:?} is no loss by {wanted}"),
    }
}

/// Whether a process runs; one that nobody collects has ended all the same.
pub(crate) fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

/// Sends a signal to a worker.
pub(crate) fn signal(worker: &WorkerInfo, signal: Signal) {
    kill_process(Pid::from_raw(worker.pid.unwrap().cast_signed()).unwrap(), signal).unwrap();
}
