//! What an executor costs: tasks that do nothing, and large payloads, each beside what the machine can do without it.
//!
//! `cargo bench -p psbench-executors`; figures are medians of a few rounds, with the lowest and the highest. Compare
//! them within one run only.

#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to tell its errors")]

use std::env::{args, current_exe};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_executors::process::{ProcessExecutor, ProcessOptions, WorkerStderr};
use psbench_executors::thread::{ThreadExecutor, ThreadOptions};
use psbench_executors::{Executor, Outcome, OutcomeSink, Task, TaskContext, TaskId, Work, worker};
use rayon::ThreadPoolBuilder;
use rustix::net::sockopt::set_socket_send_buffer_size;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WORKER: &str = "worker";
const PEER: &str = "peer";
/// Workers with shared tasks; one more is occupied by an exclusive task, as by psbench's generator.
const WORKERS: usize = 3;
const PREFETCH: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(600);
const SMALL: usize = 1_000;
const LARGE: usize = 10_000_000;
/// What a peer answers to each message: as much as an outcome frame without content.
const ANSWER: usize = 24;

fn main() {
    match args().nth(1).as_deref() {
        Some(WORKER) => worker::serve(|_| Ok(Arc::new(Nothing))).unwrap(),
        Some(PEER) => answer(),
        _ => measure(),
    }
}

fn measure() {
    println!("{WORKERS} workers with shared tasks, one with an exclusive task");
    for outstanding in [WORKERS, WORKERS * (1 + PREFETCH)] {
        println!("\ntasks of {SMALL} B that do nothing, {outstanding} outstanding, thousands/s");
        report("thread executor", 1e3, || dispatch(&threads, SMALL, outstanding));
        report("  bare rayon", 1e3, || bare_rayon(outstanding));
        report("process executor", 1e3, || dispatch(&processes, SMALL, outstanding));
        report("  one process of as many threads", 1e3, || dispatch(&process_of_threads, SMALL, outstanding));
        report("  bare socket pairs", 1e3, || bare_sockets(SMALL, outstanding, WORKERS));
    }
    println!("\ntasks of {LARGE} B that do nothing, GB/s");
    let scale = 1e9 / LARGE as f64;
    report("process executor, 3 outstanding", scale, || dispatch(&processes, LARGE, WORKERS));
    report("process executor, 6 outstanding", scale, || dispatch(&processes, LARGE, 2 * WORKERS));
    report("  bare socket pairs, 3", scale, || bare_sockets(LARGE, WORKERS, WORKERS));
    report("process executor, 1 outstanding", scale, || dispatch(&processes, LARGE, 1));
    report("  bare socket pair, 1", scale, || bare_sockets(LARGE, 1, 1));
    report("  memcpy", scale, || copy(LARGE));
}

fn report(what: &str, scale: f64, round: impl Fn() -> f64) {
    let mut rates: Vec<f64> = (0..ROUNDS).map(|_| round() / scale).collect();
    rates.sort_by(f64::total_cmp);
    let (median, lowest, highest) = (rates[ROUNDS / 2], rates[0], rates[ROUNDS - 1]);
    println!("{what:34} {median:8.2}   ({lowest:.2} to {highest:.2})");
}

struct Nothing;

impl Work for Nothing {
    fn run(&self, task: Task, context: &TaskContext<'_>) -> Result<Bytes, String> {
        while task.exclusive && !context.is_cancelled() {
            sleep(Duration::from_millis(1));
        }
        Ok(Bytes::new())
    }
}

/// Submits a task for each outcome, from within its delivery.
struct Relay {
    payload: Bytes,
    executor: OnceLock<Weak<dyn Executor>>,
    done: AtomicU64,
}

impl Relay {
    fn task(&self, id: u64, exclusive: bool) -> Task {
        Task { id: TaskId(id), head: Bytes::from_static(&[0; 32]), payload: self.payload.clone(), exclusive }
    }
}

impl OutcomeSink for Relay {
    fn deliver(&self, outcomes: &mut Vec<Outcome>) {
        self.done.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
        let next = outcomes.drain(..).map(|outcome| self.task(outcome.task.0, false)).collect();
        if let Some(executor) = self.executor.get().and_then(Weak::upgrade) {
            executor.submit(next);
        }
    }
}

type Start<'a> = &'a dyn Fn(Arc<dyn OutcomeSink>) -> Arc<dyn Executor>;

fn threads(sink: Arc<dyn OutcomeSink>) -> Arc<dyn Executor> {
    let options = ThreadOptions { sharing: WORKERS as u32, ..ThreadOptions::new(WORKERS as u32 + 1) };
    Arc::new(ThreadExecutor::start(options, Arc::new(Nothing), sink).unwrap())
}

fn processes(sink: Arc<dyn OutcomeSink>) -> Arc<dyn Executor> {
    start_processes(WORKERS as u32, 1, sink)
}

fn process_of_threads(sink: Arc<dyn OutcomeSink>) -> Arc<dyn Executor> {
    start_processes(1, WORKERS as u32, sink)
}

/// Starts so many workers, and one for the exclusive task.
fn start_processes(workers: u32, threads: u32, sink: Arc<dyn OutcomeSink>) -> Arc<dyn Executor> {
    let options = ProcessOptions {
        args: vec![WORKER.into()],
        workers: workers + 1,
        threads_per_worker: threads,
        sharing: WORKERS as u32,
        capacity: 1 + PREFETCH as u32,
        stderr: WorkerStderr::Inherit,
        ..ProcessOptions::new(current_exe().unwrap())
    };
    Arc::new(ProcessExecutor::start(options, sink).unwrap())
}

/// Tasks a second through an executor.
fn dispatch(start: Start<'_>, size: usize, outstanding: usize) -> f64 {
    let sink = Arc::new(Relay { payload: vec![1; size].into(), executor: OnceLock::new(), done: AtomicU64::new(0) });
    let executor = start(sink.clone());
    executor.submit(vec![sink.task(u64::MAX, true)]);
    assert!(sink.executor.set(Arc::downgrade(&executor)).is_ok());
    executor.submit((0..outstanding as u64).map(|id| sink.task(id, false)).collect());
    let rate = rate_of(&sink.done);
    executor.shutdown(Duration::from_secs(5));
    rate
}

fn rate_of(done: &AtomicU64) -> f64 {
    sleep(ROUND / 4);
    let (begun, before) = (Instant::now(), done.load(Ordering::Relaxed));
    sleep(ROUND);
    (done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
}

/// Jobs a second that each spawn the next, on a pool with one occupied thread.
fn bare_rayon(outstanding: usize) -> f64 {
    fn job(done: &Arc<AtomicU64>, stop: &Arc<AtomicBool>) {
        done.fetch_add(1, Ordering::Relaxed);
        if !stop.load(Ordering::Relaxed) {
            let (done, stop) = (done.clone(), stop.clone());
            rayon::spawn_fifo(move || job(&done, &stop));
        }
    }
    let pool = ThreadPoolBuilder::new().num_threads(WORKERS + 1).build().unwrap();
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let occupied = stop.clone();
    pool.spawn(move || {
        while !occupied.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1));
        }
    });
    for _ in 0..outstanding {
        let (done, stop) = (done.clone(), stop.clone());
        pool.spawn_fifo(move || job(&done, &stop));
    }
    let rate = rate_of(&done);
    stop.store(true, Ordering::Relaxed);
    rate
}

/// Messages a second to processes that answer each, with a thread for each process.
fn bare_sockets(size: usize, outstanding: usize, peers: usize) -> f64 {
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..peers {
            scope.spawn(|| ask(size, outstanding / peers, &done, &stop));
        }
        let rate = rate_of(&done);
        stop.store(true, Ordering::Relaxed);
        rate
    })
}

fn ask(size: usize, outstanding: usize, done: &AtomicU64, stop: &AtomicBool) {
    let (mut child, mut socket) = peer(size);
    let messages = vec![1; outstanding * size];
    let mut answers = vec![0; outstanding * ANSWER];
    let (mut free, mut partial) = (outstanding, 0);
    while !stop.load(Ordering::Relaxed) {
        socket.write_all(&messages[..free * size]).unwrap();
        partial += socket.read(&mut answers).unwrap();
        free = partial / ANSWER;
        partial %= ANSWER;
        done.fetch_add(free as u64, Ordering::Relaxed);
    }
    drop(socket);
    child.wait().unwrap();
}

fn peer(size: usize) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    for socket in [&ours, &theirs] {
        set_socket_send_buffer_size(socket, 1 << 20).unwrap();
    }
    let child = Command::new(current_exe().unwrap())
        .args([PEER, &size.to_string()])
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    (child, ours)
}

/// The peer process: answers each message, all that arrive together at once.
fn answer() {
    let size: usize = args().nth(2).unwrap().parse().unwrap();
    let mut socket = UnixStream::from(rustix::io::dup(rustix::stdio::stdin()).unwrap());
    let mut buffer = vec![0; size.max(256 << 10)];
    let mut partial = 0;
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        partial += read;
        let answers = vec![0; partial / size * ANSWER];
        partial %= size;
        if socket.write_all(&answers).is_err() {
            return;
        }
    }
}

/// Copies a second, of memory that was touched before.
fn copy(size: usize) -> f64 {
    let (from, mut to) = (vec![1u8; size], vec![0u8; size]);
    let (begun, mut copies) = (Instant::now(), 0);
    while begun.elapsed() < ROUND {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        copies += 1;
    }
    f64::from(copies) / begun.elapsed().as_secs_f64()
}
