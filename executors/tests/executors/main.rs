//! Both executors against the conformance suite, and what is special to worker processes.
//!
//! The test program is its own worker: started with the argument `worker` it serves, hence the main function of its
//! own.

#![allow(clippy::exit, clippy::unwrap_used, reason = "clippy knows tests by their attribute, which these do not have")]

mod engines;
mod limits;
mod losses;
mod pilots;
mod pool;
mod support;
mod threads;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use psbench_executors::conformance::{self, Shape, TestWork};
use psbench_executors::engine::{Engine, EngineExecutor, Job};
use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::thread::{ThreadExecutor, ThreadOptions};

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    match role.as_deref() {
        Some(support::WORKER) => support::serve(),
        Some(support::CONNECT) => support::connect(),
        Some(losses::PARENT) => losses::be_parent(),
        Some(engines::PARENT) => {
            engines::be_parent();
            ExitCode::FAILURE
        }
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let modules = [
        ("conformance", TESTS),
        ("engines", engines::TESTS),
        ("losses", losses::TESTS),
        ("pilots", pilots::TESTS),
        ("pool", pool::TESTS),
        ("limits", limits::TESTS),
        ("threads", threads::TESTS),
    ];
    let all =
        modules.into_iter().flat_map(|(module, tests)| tests.iter().map(move |(name, test)| (module, name, *test)));
    all.map(|(module, name, test)| trial(format!("{module}::{name}"), test)).collect()
}

fn trial(name: String, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Of the executors of this program's own; `slow::` is what the runner leaves out unless all is asked for.
const TESTS: &[(&str, fn())] = &[
    ("thread_executor_conforms", thread_executor_conforms),
    ("engine_executor_conforms", engine_executor_conforms),
    ("thread_executor_with_a_time_limit_conforms", thread_executor_with_a_time_limit_conforms),
    ("process_executor_conforms", process_executor_conforms),
    ("process_executor_with_threads_conforms", process_executor_with_threads_conforms),
    ("pilot_executor_conforms", pilot_executor_conforms),
    ("pilot_executor_by_tls_conforms", pilot_executor_by_tls_conforms),
];

fn thread_executor_conforms() {
    conformance::check(&|workers, sink| {
        let options = ThreadOptions::new(workers);
        Arc::new(ThreadExecutor::start(options, Arc::new(TestWork::default()), sink).unwrap())
    });
}

fn thread_executor_with_a_time_limit_conforms() {
    conformance::check(&|workers, sink| {
        let options = ThreadOptions { task_timeout: Some(Duration::from_secs(3600)), ..ThreadOptions::new(workers) };
        Arc::new(ThreadExecutor::start(options, Arc::new(TestWork::default()), sink).unwrap())
    });
}

/// A thread for each job.
struct Threads;

impl Engine for Threads {
    fn spawn(&self, job: Job) {
        std::thread::spawn(job);
    }
}

fn engine_executor_conforms() {
    conformance::check(&|workers, sink| {
        Arc::new(EngineExecutor::start(Threads, workers, workers, Arc::new(TestWork::default()), sink).unwrap())
    });
}

fn process_executor_conforms() {
    conformance::check(&|workers, sink| Arc::new(support::start(workers, 1, sink)));
}

/// Workers with two threads, which are replaced all the time.
fn process_executor_with_threads_conforms() {
    let start: conformance::Start<'_> = &|workers, sink| {
        let options =
            ProcessOptions { threads_per_worker: 2, max_tasks_per_worker: Some(50), ..support::options(workers, 1) };
        Arc::new(ProcessExecutor::start(options, sink).unwrap())
    };
    conformance::check_shaped(start, Shape { threads: 2, ..Shape::PLAIN });
}

fn pilot_executor_conforms() {
    conformance::check(&|workers, sink| Arc::new(pilots::start(&pilots::options(workers, false), sink).unwrap()));
}

fn pilot_executor_by_tls_conforms() {
    conformance::check(&|workers, sink| Arc::new(pilots::start(&pilots::options(workers, true), sink).unwrap()));
}
