//! What workflow engines dispatch, beside what each does by itself: 4 workers, tasks of 1 kB that do nothing.
//!
//! `cargo bench -p psbench-executors --bench engines [-- Dask]`; needs the Python environment of the tests (`./test.sh` makes it). Figures are medians
//! of a few rounds, with the lowest and the highest. Compare them within one run only.

#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to tell its errors")]

use std::env::{args, current_exe, var_os};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_executors::bridge::{Bridge, BridgeExecutor, BridgeLauncher, BridgeOptions, BridgeTerms};
use psbench_executors::pilot::{self, Invitation, PilotExecutor, PilotOptions, TOKEN_VARIABLE};
use psbench_executors::process::{ProcessExecutor, ProcessOptions};
use psbench_executors::{Executor, Outcome, OutcomeSink, Task, TaskContext, TaskId, Work, worker};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKER: &str = "worker";
const CONNECT: &str = "connect";
const WORKERS: u32 = 4;
/// Tasks, or batches of them, at the engine for each worker.
const CAPACITY: u32 = 16;
const BATCH: u32 = 16;
const SIZE: usize = 1_000;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

fn main() {
    match args().nth(1).as_deref() {
        Some(WORKER) => worker::serve(|_| Ok(Arc::new(Nothing))).unwrap(),
        Some(CONNECT) => {
            let invitation =
                Invitation { address: args().nth(2).unwrap(), token: std::env::var(TOKEN_VARIABLE).unwrap() };
            pilot::connect(&invitation, |_, _| Ok(Arc::new(Nothing))).unwrap();
        }
        _ => measure(),
    }
}

fn measure() {
    let files = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("engines");
    std::fs::create_dir_all(&files).unwrap();
    let parsl = |executor: &str| json!({"executor": executor, "run_dir": files.join("parsl")});
    println!("tasks a second, {WORKERS} workers, {SIZE} B each");
    report(
        "process executor",
        rates(&|sink| {
            let options = ProcessOptions {
                args: vec![WORKER.into()],
                workers: WORKERS,
                capacity: CAPACITY,
                ..ProcessOptions::new(current_exe().unwrap())
            };
            Arc::new(ProcessExecutor::start(options, sink).unwrap())
        }),
    );
    for (name, engine, options) in [
        ("ProcessPoolExecutor", "python", json!({"factory": "concurrent.futures:ProcessPoolExecutor"})),
        ("Parsl threads", "parsl", parsl("thread")),
        ("Parsl HTEX", "parsl", parsl("htex-local")),
        ("Dask", "dask", json!({})),
    ] {
        if args().skip(1).any(|wanted| !wanted.starts_with("--") && !name.contains(&wanted)) {
            continue;
        }
        println!("\n{name}");
        report("by itself, a function that does nothing", bare(engine, &options));
        let bridge = Bridge::start(BridgeOptions {
            python: python(),
            engine,
            options,
            workers: WORKERS,
            worker: vec![current_exe().unwrap().to_str().unwrap().to_owned(), WORKER.to_owned()],
            ready_timeout: Duration::from_secs(60),
            packages: files.clone(),
        });
        let bridge = bridge.unwrap();
        for batch in [1, BATCH] {
            let start: Start<'_> = &|sink| {
                let terms = BridgeTerms { batch, capacity: CAPACITY, ..BridgeTerms::new(WORKERS) };
                Arc::new(BridgeExecutor::start(Arc::clone(&bridge), terms, sink).unwrap())
            };
            report(&format!("task mode, {batch} in one"), rates_of(start, WORKERS * CAPACITY * batch));
        }
        report(
            "pilot mode",
            rates(&|sink| {
                let command = vec![current_exe().unwrap().to_str().unwrap().to_owned(), CONNECT.to_owned()];
                let launcher = Box::new(BridgeLauncher::new(Arc::clone(&bridge), command));
                let options = PilotOptions { capacity: CAPACITY, ..PilotOptions::new(WORKERS) };
                Arc::new(PilotExecutor::start(&options, launcher, sink).unwrap())
            }),
        );
    }
}

fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    var_os("PSBENCH_TEST_PYTHON").map_or(made, Into::into)
}

fn report(what: &str, mut rates: Vec<f64>) {
    rates.sort_by(f64::total_cmp);
    let (median, lowest, highest) = (rates[rates.len() / 2], rates[0], rates[rates.len() - 1]);
    println!("  {what:40} {median:9.0}   ({lowest:.0} to {highest:.0})");
}

struct Nothing;

impl Work for Nothing {
    fn run(&self, _task: Task, _context: &TaskContext<'_>) -> Result<Bytes, String> {
        Ok(Bytes::from_static(&[0; 40]))
    }
}

/// Submits a task for each outcome, from within its delivery.
struct Relay {
    payload: Bytes,
    executor: OnceLock<Weak<dyn Executor>>,
    next: AtomicU64,
    done: AtomicU64,
}

impl Relay {
    fn tasks(&self, count: u64) -> Vec<Task> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let task = |id| Task {
            id: TaskId(id),
            head: Bytes::from_static(&[0; 32]),
            payload: self.payload.clone(),
            exclusive: false,
        };
        (first..first + count).map(task).collect()
    }
}

impl OutcomeSink for Relay {
    fn deliver(&self, outcomes: &mut Vec<Outcome>) {
        let count = outcomes.len() as u64;
        self.done
            .fetch_add(outcomes.drain(..).filter(|outcome| outcome.result.is_ok()).count() as u64, Ordering::Relaxed);
        if let Some(executor) = self.executor.get().and_then(Weak::upgrade) {
            executor.submit(self.tasks(count));
        }
    }
}

type Start<'a> = &'a dyn Fn(Arc<dyn OutcomeSink>) -> Arc<dyn Executor>;

fn rates(start: Start<'_>) -> Vec<f64> {
    rates_of(start, WORKERS * CAPACITY)
}

/// Tasks a second through an executor, in several rounds.
fn rates_of(start: Start<'_>, outstanding: u32) -> Vec<f64> {
    let sink = Arc::new(Relay {
        payload: vec![1; SIZE].into(),
        executor: OnceLock::new(),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
    });
    let executor = start(sink.clone());
    assert!(sink.executor.set(Arc::downgrade(&executor)).is_ok());
    executor.submit(sink.tasks(outstanding.into()));
    sleep(ROUND / 2);
    let round = |_| {
        let (begun, before) = (Instant::now(), sink.done.load(Ordering::Relaxed));
        sleep(ROUND);
        (sink.done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
    };
    let rates = (0..ROUNDS).map(round).collect();
    executor.shutdown(Duration::from_secs(30));
    rates
}

/// What the engine does without any of this, as many tasks outstanding.
fn bare(engine: &str, options: &Value) -> Vec<f64> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let told = Command::new(python())
        .arg(here.join("benches/bare_engine.py"))
        .args([engine, &options.to_string()])
        .args([WORKERS, WORKERS * CAPACITY, ROUNDS as u32].map(|number| number.to_string()))
        .arg(ROUND.as_secs_f64().to_string())
        .env("PYTHONPATH", here.join("python"))
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let line = String::from_utf8(told.stdout).unwrap();
    line.lines().last().unwrap().split(' ').map(|rate| rate.parse().unwrap()).collect()
}
