//! Python's engines: the real ones, from the Python environment of the tests.

use std::env::current_exe;
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use psbench_executors::bridge::{Bridge, BridgeExecutor, BridgeLauncher, BridgeOptions, BridgeTerms};
use psbench_executors::conformance::{self, Collector, Command, Gate, Shape};
use psbench_executors::pilot::{PilotExecutor, PilotOptions};
use psbench_executors::{Executor, ExecutorError, OutcomeSink, SplitExecutor, TaskError, WorkerEnd, WorkerId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{CONNECT, HOUR, PATIENCE, WORKER, eventually, lost, runs, signal};

/// All tests of this file.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("process_pool_conforms", || conforms("python", &json!({"factory": PROCESS_POOL}))),
    ("slow::loky_conforms", || conforms("python", &json!({"factory": LOKY}))),
    ("slow::parsl_threads_conform", || conforms("parsl", &parsl("thread"))),
    ("parsl_htex_conforms", || conforms("parsl", &parsl("htex-local"))),
    ("dask_conforms", || conforms("dask", &json!({}))),
    ("slow::dask_threads_conform", || conforms("dask", &json!({"use_threads": true}))),
    ("slow::pilots_of_a_process_pool_conform", || pilots_conform("python", &json!({"factory": PROCESS_POOL}))),
    ("slow::pilots_of_parsl_conform", || pilots_conform("parsl", &parsl("htex-local"))),
    ("slow::pilots_of_dask_conform", || pilots_conform("dask", &json!({}))),
    ("batches_run_whole_or_in_part", batches_run_whole_or_in_part),
    ("a_bridge_serves_one_trial_after_the_other", a_bridge_serves_one_trial_after_the_other),
    ("a_killed_worker_of_an_engine_is_named", a_killed_worker_of_an_engine_is_named),
    ("an_engine_that_loses_a_worker_loses_its_task", an_engine_that_loses_a_worker_loses_its_task),
    ("a_bridge_that_is_killed_ends_all_tasks", a_bridge_that_is_killed_ends_all_tasks),
    (
        "a_worker_of_an_engine_that_is_killed_between_tasks_is_told_of",
        a_worker_of_an_engine_that_is_killed_between_tasks_is_told_of,
    ),
    ("an_overdue_task_of_an_engine_is_ended", an_overdue_task_of_an_engine_is_ended),
    ("an_engine_that_is_not_there_is_named", an_engine_that_is_not_there_is_named),
    ("slow::engines_that_are_not_there_are_named", engines_that_are_not_there_are_named),
    ("slow::an_engine_without_a_free_worker_fails_the_start", an_engine_without_a_free_worker_fails_the_start),
    ("nothing_of_an_engine_outlives_a_killed_executor", nothing_of_an_engine_outlives_a_killed_executor),
    ("what_is_printed_on_an_engine_does_no_harm", what_is_printed_on_an_engine_does_no_harm),
    ("usage_of_an_engine_is_told", usage_of_an_engine_is_told),
];

const PROCESS_POOL: &str = "concurrent.futures:ProcessPoolExecutor";
const LOKY: &str = "loky:ProcessPoolExecutor";

/// Where Python's side of the bridge and Parsl's files go.
static FILES: LazyLock<PathBuf> = LazyLock::new(|| {
    let files = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("engines");
    std::fs::create_dir_all(&files).unwrap();
    files
});

fn parsl(executor: &str) -> Value {
    json!({"executor": executor, "run_dir": FILES.join("parsl")})
}

/// The Python of the tests: `./test.sh` makes it.
fn python() -> PathBuf {
    let made = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    std::env::var_os("PSBENCH_TEST_PYTHON").map_or(made, Into::into)
}

fn options(engine: &'static str, options: &Value, workers: u32) -> BridgeOptions {
    BridgeOptions {
        python: python(),
        engine,
        options: options.clone(),
        workers,
        worker: vec![current_exe().unwrap().to_str().unwrap().to_owned(), WORKER.to_owned()],
        ready_timeout: PATIENCE,
        packages: FILES.clone(),
    }
}

fn bridge(engine: &'static str, settings: &Value, workers: u32) -> Arc<Bridge> {
    Bridge::start(options(engine, settings, workers)).unwrap()
}

/// So many workers connect, which an engine places.
fn pilots(bridge: &Arc<Bridge>, workers: u32, sink: Arc<dyn OutcomeSink>) -> Result<PilotExecutor, ExecutorError> {
    let command = vec![current_exe().unwrap().to_str().unwrap().to_owned(), CONNECT.to_owned()];
    let launcher = BridgeLauncher::new(Arc::clone(bridge), command);
    PilotExecutor::start(&PilotOptions::new(workers), Box::new(launcher), sink)
}

/// An engine with as many workers as any check asks for: it takes seconds to start, and serves one executor after the other.
struct Shared {
    engine: &'static str,
    settings: Value,
    started: Mutex<Option<Arc<Bridge>>>,
}

impl Shared {
    const WORKERS: u32 = 4;

    fn new(engine: &'static str, settings: &Value) -> Self {
        Self { engine, settings: settings.clone(), started: Mutex::default() }
    }

    fn with(&self, workers: u32) -> Arc<Bridge> {
        assert!(workers <= Self::WORKERS);
        let mut started = self.started.lock().unwrap();
        let usable = started.take().filter(|bridge| bridge.is_usable());
        let bridge = usable.unwrap_or_else(|| bridge(self.engine, &self.settings, Self::WORKERS));
        Arc::clone(started.insert(bridge))
    }
}

/// Shared tasks through the engine, exclusive ones on a worker that it places.
fn conforms(engine: &'static str, settings: &Value) {
    let shared = Shared::new(engine, settings);
    let start: conformance::Start<'_> = &|workers, sink| {
        let bridge = shared.with(workers + 1);
        let exclusive = Arc::new(pilots(&bridge, 1, Arc::clone(&sink)).unwrap());
        let terms = BridgeTerms { first: 1, ..BridgeTerms::new(workers) };
        Arc::new(SplitExecutor::new(exclusive, Arc::new(BridgeExecutor::start(bridge, terms, sink).unwrap())))
    };
    conformance::check_shaped(start, Shape { apart: true, relayed: 500, ..Shape::PLAIN });
}

fn pilots_conform(engine: &'static str, settings: &Value) {
    let shared = Shared::new(engine, settings);
    conformance::check(&|workers, sink| Arc::new(pilots(&shared.with(workers), workers, sink).unwrap()));
}

/// Tasks through processes of Python's own pool.
fn pool(workers: u32, terms: BridgeTerms, sink: Arc<dyn OutcomeSink>) -> BridgeExecutor {
    BridgeExecutor::start(bridge("python", &json!({"factory": PROCESS_POOL}), workers), terms, sink).unwrap()
}

fn batches_run_whole_or_in_part() {
    let sink = Arc::new(Collector::default());
    let executor = pool(2, BridgeTerms { batch: 16, capacity: 2, ..BridgeTerms::new(2) }, sink.clone());
    executor.submit((0..1000).map(|id| Command::Echo.task(id, id.to_string())).collect());
    for id in 0..1000 {
        assert_eq!(sink.outcome(id), Ok(id.to_string().into()));
    }
    // One that ends its worker takes no more than its batch with it.
    executor.submit(
        (1000..1064).map(|id| if id == 1007 { Command::Exit(3) } else { Command::Echo }.task(id, "")).collect(),
    );
    sink.wait_for(1064);
    let label = lost(sink.outcome(1007), "exit code 3");
    let lost_too = (1000..1064).filter(|id| *id != 1007 && sink.outcome(*id).is_err()).count();
    assert!(lost_too < 16, "{lost_too}");
    executor.submit((1064..2000).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(2000);
    let workers = executor.workers();
    assert_eq!(workers.len(), 3, "another takes its place: {workers:?}");
    let ended = workers.iter().find(|worker| worker.label == label).unwrap();
    assert_eq!(ended.end, Some(WorkerEnd::Lost("exit code 3".to_owned())));
}

fn a_bridge_serves_one_trial_after_the_other() {
    let bridge = bridge("python", &json!({"factory": PROCESS_POOL}), 2);
    let mut workers = Vec::new();
    for _ in 0..3 {
        let sink = Arc::new(Collector::default());
        let executor = BridgeExecutor::start(Arc::clone(&bridge), BridgeTerms::new(2), sink.clone()).unwrap();
        executor.submit((0..100).map(|id| Command::Echo.task(id, "")).collect());
        sink.wait_for(100);
        assert_eq!(executor.workers().len(), 2);
        workers.extend(executor.workers().into_iter().filter_map(|worker| worker.pid));
        assert_eq!(conformance::begun(&executor.shutdown(PATIENCE)), 100, "of this trial alone");
        assert!(bridge.is_usable());
    }
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers.len(), 6, "each trial has processes of its own");
    // A task that outlasts its trial would be in the way of the next.
    let sink = Arc::new(Collector::default());
    let executor = BridgeExecutor::start(Arc::clone(&bridge), BridgeTerms::new(2), sink.clone()).unwrap();
    let gate = Gate::new();
    executor.submit(vec![gate.hold().task(0, "")]);
    gate.wait_for(1);
    executor.shutdown(Duration::from_millis(300));
    assert!(!bridge.is_usable());
}

fn a_killed_worker_of_an_engine_is_named() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = pool(2, BridgeTerms { first: 3, ..BridgeTerms::new(2) }, sink.clone());
    executor.submit(vec![gate.hold().task(0, ""), gate.hold().task(1, "")]);
    gate.wait_for(2);
    let workers = executor.workers();
    assert_eq!(workers.iter().map(|worker| worker.id).collect::<Vec<_>>(), [WorkerId(3), WorkerId(4)]);
    signal(&workers[1], Signal::KILL);
    sink.wait_for(1);
    let victim = u64::from(!sink.has(0));
    assert_eq!(lost(sink.outcome(victim), "signal 9 (SIGKILL)"), workers[1].label);
    executor.submit(vec![Command::Echo.task(2, "all the same")]);
    assert_eq!(sink.outcome(2), Ok("all the same".into()));
}

fn a_worker_of_an_engine_that_is_killed_between_tasks_is_told_of() {
    let sink = Arc::new(Collector::default());
    let executor = pool(2, BridgeTerms::new(2), sink.clone());
    let victim = executor.workers()[0].clone();
    signal(&victim, Signal::KILL);
    // A task that came while it is ending would end with it.
    let stat = format!("/proc/{}/stat", victim.pid.unwrap());
    eventually("it has ended", || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")));
    let mut task = 0;
    eventually("another takes its place", || {
        executor.submit(vec![Command::Echo.task(task, "")]);
        assert!(sink.outcome(task).is_ok());
        task += 1;
        executor.workers().len() == 3
    });
    let workers = executor.workers();
    let ended = workers.iter().find(|worker| worker.id == victim.id).unwrap();
    assert_eq!((ended.alive, &ended.end), (false, &Some(WorkerEnd::Lost("signal 9 (SIGKILL)".to_owned()))));
    assert_eq!(workers.iter().filter(|worker| worker.alive).count(), 2, "no more than were asked for: {workers:?}");
}

/// The process of Python's that holds a worker.
fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

fn an_engine_that_loses_a_worker_loses_its_task() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = pool(2, BridgeTerms::new(2), sink.clone());
    executor.submit(vec![gate.hold().task(0, ""), gate.hold().task(1, ""), Command::Echo.task(2, "")]);
    gate.wait_for(2);
    kill(parent_of(executor.workers()[0].pid.unwrap()));
    // Python's pool gives up all that it has when it loses a worker.
    sink.wait_for(3);
    for id in [0, 1] {
        match sink.outcome(id) {
            Err(TaskError::WorkerLost { label, reason }) => {
                assert!(label == "a worker of python" && reason.contains("BrokenProcessPool"), "{label}: {reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(sink.outcome(2), Err(TaskError::NotRun(reason)) if reason.contains("python: ")));
}

fn a_bridge_that_is_killed_ends_all_tasks() {
    let (sink, gate) = (Arc::new(Collector::default()), Gate::new());
    let executor = pool(2, BridgeTerms::new(2), sink.clone());
    executor.submit((0..5).map(|id| gate.hold().task(id, "")).collect());
    gate.wait_for(2);
    let workers: Vec<u32> = executor.workers().iter().filter_map(|worker| worker.pid).collect();
    let pools: Vec<u32> = workers.iter().map(|pid| parent_of(*pid)).collect();
    kill(parent_of(pools[0]));
    sink.wait_for(5);
    for id in 0..2 {
        assert!(matches!(sink.outcome(id), Err(TaskError::WorkerLost { reason, .. }) if reason.contains("SIGKILL")));
    }
    for id in 2..5 {
        assert!(matches!(sink.outcome(id), Err(TaskError::NotRun(reason)) if reason.contains("its bridge ended")));
    }
    eventually("the end of all its processes", || !workers.iter().chain(&pools).any(|pid| runs(*pid)));
    executor.submit(vec![Command::Echo.task(5, "")]);
    assert!(matches!(sink.outcome(5), Err(TaskError::NotRun(_))));
}

fn an_overdue_task_of_an_engine_is_ended() {
    let sink = Arc::new(Collector::default());
    let limit = Duration::from_secs(3);
    let terms = BridgeTerms { task_timeout: Some(limit), ..BridgeTerms::new(1) };
    let executor = pool(1, terms, sink.clone());
    executor.submit(vec![HOUR.task(0, ""), Command::Echo.task(1, "")]);
    match sink.outcome(0) {
        Err(TaskError::TimedOut { limit: told, .. }) => assert_eq!(told, limit),
        other => panic!("{other:?}"),
    }
    assert!(sink.outcome(1).is_ok());
}

#[track_caller]
fn no_engine(options: BridgeOptions, wanted: &str) {
    match Bridge::start(options).map(drop) {
        Err(error @ ExecutorError::Engine { .. }) => assert!(error.to_string().contains(wanted), "{error}"),
        other => panic!("{other:?}"),
    }
}

fn an_engine_that_is_not_there_is_named() {
    let factory = |factory: &str| options("python", &json!({"factory": factory}), 2);
    no_engine(factory("no_such_module:make"), "no module is called no_such_module");
    no_engine(factory("concurrent.futures:NoSuchPool"), "NoSuchPool");
    no_engine(factory("os:getcwd"), "submit");
    no_engine(options("globus", &json!({"endpoint": "no uuid"}), 2), "no uuid is no UUID");
    // A Python without any packages.
    let bare = BridgeOptions { python: "/usr/bin/python3".into(), ..options("parsl", &parsl("thread"), 2) };
    no_engine(bare, "parsl is not installed for /usr/bin/python3; run: /usr/bin/python3 -m pip install parsl");
    let missing = BridgeOptions { python: "/nowhere/python".into(), ..options("parsl", &parsl("thread"), 2) };
    assert!(
        matches!(Bridge::start(missing), Err(ExecutorError::Start { what, .. }) if what == "Python /nowhere/python")
    );
    let other = BridgeOptions { python: "/bin/false".into(), ..options("parsl", &parsl("thread"), 2) };
    no_engine(other, "its bridge ended (exit code 1)");
}

fn engines_that_are_not_there_are_named() {
    no_engine(
        options("dask", &json!({"scheduler": "tcp://127.0.0.1:1"}), 2),
        "no Dask scheduler answers at tcp://127.0.0.1:1",
    );
    no_engine(options("globus", &json!({"endpoint": "00000000-0000-0000-0000-000000000000"}), 2), "lobus");
    no_engine(options("parsl", &json!({"executor": "htex-polaris-headless", "run_dir": "/tmp"}), 2), "PBS_NODEFILE");
}

fn an_engine_without_a_free_worker_fails_the_start() {
    let settings = json!({"factory": PROCESS_POOL});
    let options = BridgeOptions { ready_timeout: Duration::from_secs(20), ..options("python", &settings, 1) };
    let bridge = Bridge::start(options).unwrap();
    let occupying = pilots(&bridge, 1, Arc::new(Collector::default())).unwrap();
    let started = BridgeExecutor::start(Arc::clone(&bridge), BridgeTerms::new(2), Arc::new(Collector::default()));
    match started.map(drop) {
        Err(error @ ExecutorError::NotReady { .. }) => {
            assert_eq!(error.to_string(), "0 of 2 workers became ready: python gave them no task within 20s");
        }
        other => panic!("{other:?}"),
    }
    drop(occupying);
}

/// The argument that makes the test program an executor on an engine that gets killed.
pub(crate) const PARENT: &str = "engine-parent";

/// That executor: tells its engine's processes, and keeps them busy.
pub(crate) fn be_parent() {
    let (executor, gate) = (pool(2, BridgeTerms::new(2), Arc::new(Collector::default())), Gate::new());
    executor.submit((0..2).map(|id| gate.hold().task(id, "")).collect());
    gate.wait_for(2);
    let mut pids: Vec<u32> = executor.workers().iter().filter_map(|worker| worker.pid).collect();
    pids.extend(pids.clone().into_iter().map(parent_of));
    pids.push(parent_of(pids[2]));
    println!("{}", pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
    std::thread::sleep(Duration::from_secs(3600));
}

fn nothing_of_an_engine_outlives_a_killed_executor() {
    use std::io::{BufRead, BufReader};
    let mut parent =
        Program::new(current_exe().unwrap()).arg(PARENT).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(parent.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let pids: Vec<u32> = told.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() == 5 && pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the end of all", || !pids.iter().any(|pid| runs(*pid)));
}

fn what_is_printed_on_an_engine_does_no_harm() {
    let sink = Arc::new(Collector::default());
    let executor = pool(2, BridgeTerms { batch: 4, ..BridgeTerms::new(2) }, sink.clone());
    executor.submit((0..20).map(|id| Command::Print(2000).task(id, "intact")).collect());
    for id in 0..20 {
        assert_eq!(sink.outcome(id), Ok("intact".into()));
    }
}

fn usage_of_an_engine_is_told() {
    let sink = Arc::new(Collector::default());
    let executor = pool(2, BridgeTerms::new(2), sink.clone());
    executor.submit((0..2000).map(|id| Command::Echo.task(id, "")).collect());
    sink.wait_for(2000);
    let reports = executor.shutdown(PATIENCE);
    assert!(reports.len() == 2 && reports.iter().all(|report| report.worker.clock.is_none()), "{reports:?}");
    let usage = executor.overhead();
    assert_eq!(usage.len(), 3, "the bridge and two processes of the pool: {usage:?}");
    for process in &usage {
        assert!(process.cpu.unwrap() > Duration::from_millis(20), "{process:?}");
        assert!((1 << 20..1 << 30).contains(&process.peak_memory.unwrap()), "{process:?}");
    }
}
