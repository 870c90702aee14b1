//! Engines that can't start, and engines whose service dies: the real Parsl, Dask and process pools.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{
    Bench, Redis, assert_balanced, assert_complete, command_line, descendants_of, finish, free_port, is_alive,
    problems, python, send_signal, text, wait_until,
};
use serde_json::Value;

fn command(bench: &Bench, options: &str) -> Command {
    let mut command = bench.command(options);
    command.env("PSBENCH_PYTHON", python());
    command
}

fn run(bench: &Bench, options: &str) -> Output {
    finish(command(bench, options).spawn().unwrap())
}

/// A directory with a module of the user's.
fn module(name: &str, lines: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(name), lines).unwrap();
    directory
}

#[test]
fn an_engine_that_cannot_start_is_refused_before_any_trial() {
    let refused = |engine: &str, directory: &Path, wanted: &str| {
        let bench = Bench::new();
        let options = format!("{engine} --data-size-bytes 1kB 2kB --task-count 5 --max-workers 3 --engine-timeout 30");
        let output = finish(command(&bench, &options).current_dir(directory).spawn().unwrap());
        assert_eq!(output.status.code(), Some(2), "{engine}\n{}", text(&output));
        let said = text(&output);
        assert!(said.contains(wanted) && said.trim_end().lines().count() == 1, "{engine}\n{said}");
        assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 0, "no run is left behind");
    };
    let raises = module("raises.py", "raise OSError('no license server')\n");
    refused("--executor parsl --parsl-config raises.py", raises.path(), "raises.py raised OSError: no license server");
    let nobody = format!("--executor dask --dask-scheduler tcp://127.0.0.1:{}", free_port());
    refused(&nobody, raises.path(), "no Dask scheduler answers at tcp://127.0.0.1:");
    let fails = module("fails.py", "def make(workers):\n    raise OSError('no such partition')\n");
    refused("--executor python --python-executor fails:make", fails.path(), "raised OSError: no such partition");
    refused(
        "--executor parsl --parsl-executor htex-polaris-headless --stream-method default --generator local",
        fails.path(),
        "$PBS_NODEFILE is not set",
    );
}

#[test]
fn a_sweep_whose_workers_never_come_ends_with_its_first_trial() {
    for (options, wanted) in [
        ("--executor mpi --worker-program /bin/true", "0 of 3 workers became ready: mpiexec ended (exit code 0)"),
        (
            "--executor python --python-executor concurrent.futures:ProcessPoolExecutor --worker-program /nowhere/psbench --generator local",
            "cannot start /nowhere/psbench: No such file or directory",
        ),
    ] {
        let bench = Bench::new();
        let output = run(&bench, &format!("{options} --data-size-bytes 1kB 2kB --task-count 5 --max-workers 3"));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trials = bench.results()["trials"].as_array().unwrap().clone();
        assert_eq!((trials.len(), &trials[0]["status"]), (1, &"failed".into()), "{trials:#?}");
        assert!(problems(&trials[0]).contains(wanted), "{}", problems(&trials[0]));
        assert!(text(&output).contains("did not start: 3 more trials are not tried"), "{}", text(&output));
    }
}

/// Two trials whose items a server holds, of which the first is in full swing.
fn two_trials(bench: &Bench, engine: &str, server: &Redis) -> Child {
    let options = format!(
        "{engine} --stream-method proxy --data-size-bytes 1kB 2kB --task-count 100 --max-workers 3 --task-sleep 0.1 --rate max {}",
        server.as_connector()
    );
    let psbench = command(bench, &options).spawn().unwrap();
    wait_until("tasks run", || server.resolved() > 5);
    psbench
}

#[test]
fn what_a_killed_psbench_left_goes_with_the_next_one() {
    let (server, bench, temporary) = (Redis::start(&[]), Bench::new(), tempfile::tempdir().unwrap());
    let left = || {
        let entries = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().contains("psbench")).collect::<Vec<_>>()
    };
    let options = format!(
        "--executor python --python-executor concurrent.futures:ProcessPoolExecutor --stream-method proxy --data-size-bytes 1kB \
         --task-count 30 --max-workers 3 --task-sleep 0.1 --rate max {}",
        server.as_connector()
    );
    let start = |bench: &Bench, trace| {
        let mut command = command(bench, &format!("{options} {trace}"));
        command.env("TMPDIR", temporary.path()).spawn().unwrap()
    };
    let mut killed = start(&bench, "--trace");
    wait_until("tasks run", || server.resolved() > 5);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(left().len(), 1, "{:?}", left());
    let run = bench.run_directory();
    let unfinished: Vec<_> = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_trace = |name: &str| name.starts_with("trace-0000.parquet.") && name.ends_with(".part");
    assert!(unfinished.iter().any(|name| is_trace(name.to_str().unwrap())), "{unfinished:?}");
    let output = finish(start(&Bench::new(), ""));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(left().is_empty(), "{:?}", left());
}

/// The only descendant of a process with this in its command line.
fn descendant(pid: u32, wanted: &str) -> u32 {
    let found: Vec<u32> = descendants_of(pid).into_iter().filter(|pid| command_line(*pid).contains(wanted)).collect();
    assert!(!found.is_empty(), "{wanted}");
    found[0]
}

/// The first trial failed for this reason, long before its time was up, and the next one ran on an engine of its own.
#[track_caller]
fn assert_first_failed(bench: &Bench, psbench: Child, wanted: &str) {
    let output = finish(psbench);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let results = bench.results();
    let trials = results["trials"].as_array().unwrap();
    let told = problems(&trials[0]);
    assert!(told.contains(wanted), "{told}");
    assert!(!told.contains("given up after") && trials[0]["status"] == "incomplete", "{told}");
    assert_balanced(&trials[0]);
    assert_eq!(trials.len(), 2);
    assert_complete(&trials[1]);
}

#[test]
fn an_interchange_that_is_killed_ends_its_trial() {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let psbench = two_trials(&bench, "--executor parsl", &server);
    send_signal(descendant(psbench.id(), "interchange"), "KILL");
    assert_first_failed(&bench, psbench, "nothing runs any more: parsl: its interchange ended, signal 9 (SIGKILL)");
}

#[test]
fn managers_that_are_killed_end_their_trial() {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let psbench = two_trials(&bench, "--executor parsl --generator local", &server);
    send_signal(descendant(psbench.id(), "process_worker_pool"), "KILL");
    // By Parsl's own words where it was quicker than the look at its blocks.
    assert_first_failed(&bench, psbench, "137");
}

#[test]
fn a_process_pool_that_breaks_ends_its_trial() {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let pool = "--executor python --python-executor concurrent.futures:ProcessPoolExecutor";
    let psbench = two_trials(&bench, pool, &server);
    let worker = descendants_of(psbench.id()).into_iter().find(|pid| command_line(*pid).ends_with("psbench worker"));
    let stat = fs::read_to_string(format!("/proc/{}/stat", worker.unwrap())).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    send_signal(parent, "KILL");
    assert_first_failed(&bench, psbench, "BrokenProcessPool: ");
}

#[test]
fn an_engine_whose_end_nobody_told_of_is_started_anew() {
    let lines = "import os\nfrom concurrent.futures import ProcessPoolExecutor\n\nclass Pool(ProcessPoolExecutor):\n    count = 0\n\n    \
                 def submit(self, function, *args):\n        if function.__name__ == 'run':\n            Pool.count += 1\n            \
                 if Pool.count == 20 and not os.path.exists('was_shut_down'):\n                open('was_shut_down', 'w').close()\n                \
                 self.shutdown(wait=False, cancel_futures=True)\n        return super().submit(function, *args)\n\n\
                 def make(workers):\n    return Pool(workers)\n";
    let (directory, bench) = (module("site_pool.py", lines), Bench::new());
    let options = "--executor python --python-executor site_pool:make --stream-method default --data-size-bytes 1kB 2kB \
                   --task-count 50 --max-workers 3 --task-sleep 50ms --rate 40/s";
    let output = finish(command(&bench, options).current_dir(directory.path()).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trials = bench.results()["trials"].as_array().unwrap().clone();
    assert!(problems(&trials[0]).contains("cannot schedule new futures after shutdown"), "{}", problems(&trials[0]));
    assert_complete(&trials[1]);
}

/// A cluster of Dask's that is the user's own.
struct Cluster {
    scheduler: Child,
    workers: Vec<Child>,
    address: String,
    _files: tempfile::TempDir,
}

impl Cluster {
    /// With so many workers, and psbench's package where `packages` says so.
    fn start(workers: u32, packages: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let port = free_port();
        let address = format!("tcp://127.0.0.1:{port}");
        let dask = |arguments: &str| {
            Command::new(python().with_file_name("dask"))
                .args(arguments.split_whitespace())
                .arg("--local-directory")
                .arg(files.path())
                .env("PYTHONPATH", packages)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut scheduler = Command::new(python().with_file_name("dask"))
            .args(["scheduler", "--host", "127.0.0.1", "--port", &port.to_string(), "--no-dashboard", "--no-show"])
            .env("PYTHONPATH", packages)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the scheduler listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(scheduler.try_wait().unwrap().is_none());
        let worker = format!("worker {address} --no-nanny --nthreads 1 --no-dashboard --host 127.0.0.1");
        let workers = (0..workers).map(|_| dask(&worker)).collect();
        Self { scheduler, workers, address, _files: files }
    }

    /// psbench's processes on its workers.
    fn psbenches(&self) -> Vec<u32> {
        let all = self.workers.iter().flat_map(|worker| descendants_of(worker.id()));
        all.filter(|pid| command_line(*pid).contains("psbench worker") && is_alive(*pid)).collect()
    }

    fn options(&self) -> String {
        format!("--executor dask --dask-scheduler {}", self.address)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.scheduler]) {
            // One that was killed is gone.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}

fn packages() -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../executors/python");
    path.to_str().unwrap().to_owned()
}

#[test]
fn nothing_of_psbench_stays_on_a_cluster_of_the_users() {
    let cluster = Cluster::start(3, &packages());
    let small = format!("{} --data-size-bytes 1kB --task-count 20 --max-workers 3", cluster.options());
    let bench = Bench::new();
    bench_is_complete(&bench, &small);
    wait_until("its processes have ended", || cluster.psbenches().is_empty());

    // Whatever ends the run, and however abruptly.
    for victim in ["psbench", "the bridge"] {
        let (server, bench) = (Redis::start(&[]), Bench::new());
        let mut psbench = two_trials(&bench, &cluster.options(), &server);
        assert!(cluster.psbenches().len() >= 2, "two that compute, and a generator");
        let pid = if victim == "psbench" { psbench.id() } else { descendant(psbench.id(), "psbench_executors bridge") };
        send_signal(pid, "KILL");
        if victim == "psbench" {
            psbench.wait().unwrap();
            wait_until("the end of its processes on the cluster", || cluster.psbenches().is_empty());
        } else {
            assert_first_failed(&bench, psbench, "dask: its bridge ended (signal 9 (SIGKILL))");
            wait_until("the end of its processes on the cluster", || cluster.psbenches().is_empty());
        }
    }
}

#[track_caller]
fn bench_is_complete(bench: &Bench, options: &str) {
    let output = run(bench, options);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let trials = bench.results()["trials"].as_array().unwrap().clone();
    trials.iter().for_each(|trial: &Value| assert_complete(trial));
}

#[test]
fn a_scheduler_that_is_killed_ends_its_trial() {
    let mut cluster = Cluster::start(3, &packages());
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let psbench = two_trials(&bench, &cluster.options(), &server);
    cluster.scheduler.kill().unwrap();
    let output = finish(psbench);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trials = bench.results()["trials"].as_array().unwrap().clone();
    let told = problems(&trials[0]);
    assert!(
        told.starts_with("nothing runs any more: dask: the connection to its scheduler at tcp://127.0.0.1:"),
        "{told}"
    );
    assert!(!told.contains("given up after"), "{told}");
    assert_balanced(&trials[0]);
    // The scheduler might have come back.
    assert_eq!(trials.len(), 2);
    assert!(problems(&trials[1]).contains("no Dask scheduler answers"), "{}", problems(&trials[1]));
}

#[test]
fn a_cluster_without_the_package_is_told_what_it_lacks() {
    let cluster = Cluster::start(1, "");
    let bench = Bench::new();
    let output = run(&bench, &format!("{} --data-size-bytes 1kB --task-count 5", cluster.options()));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert!(
        said.contains("no package psbench_executors") && said.contains("run `pip install executors/python`"),
        "{said}"
    );
}
