//! Both executors against the conformance suite, and what is special to worker processes.
//!
//! The test program is its own worker: started with the argument `worker` it serves, hence the main function of its
//! own.

#![allow(clippy::exit, clippy::unwrap_used, reason = "clippy knows tests by their attribute, which these do not have")]

mod losses;
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use psbench_executors::conformance::{self, TestWork};
use psbench_executors::engine::{Engine, EngineExecutor, Job};
use psbench_executors::thread::ThreadExecutor;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    match role.as_deref() {
        Some(support::WORKER) => support::serve(),
        Some(losses::PARENT) => losses::be_parent(),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("thread_executor_conforms", thread_executor_conforms),
        trial("engine_executor_conforms", engine_executor_conforms),
        trial("process_executor_conforms", process_executor_conforms),
    ];
    trials.extend(losses::TESTS.iter().map(|(name, test)| trial(name, *test)));
    trials
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn thread_executor_conforms() {
    conformance::check(&|workers, sink| {
        Arc::new(ThreadExecutor::start(workers, workers, Arc::new(TestWork::default()), sink).unwrap())
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
