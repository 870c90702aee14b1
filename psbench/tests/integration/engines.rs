//! Sweeps on workflow engines, in both modes: the real Parsl, Dask and process pools.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{
    Bench, Redis, assert_balanced, assert_complete, command_line, descendants_of, finish, in_role, is_alive, problems,
    python, send_signal, stop_with_a_task, text, wait_until,
};
use serde_json::Value;

const POOL: &str = "--executor python --python-executor concurrent.futures:ProcessPoolExecutor";

/// A sweep with the Python of the tests.
fn command(bench: &Bench, options: &str) -> Command {
    let mut command = bench.command(options);
    command.env("PSBENCH_PYTHON", python());
    command
}

fn run(bench: &Bench, options: &str) -> Output {
    finish(command(bench, options).spawn().unwrap())
}

fn trials(options: &str) -> Vec<Value> {
    let bench = Bench::new();
    let output = run(&bench, options);
    assert_eq!(output.status.code(), Some(0), "{options}\n{}", text(&output));
    bench.results()["trials"].as_array().unwrap().clone()
}

/// Both methods, with every byte checked; each process that took part is told of, and did what it should.
#[track_caller]
fn both_methods(engine: &str, options: &str) {
    let trials =
        trials(&format!("{engine} --data-size-bytes 100kB --task-count 60 --max-workers 3 --verify {options}"));
    assert_eq!(trials.len(), 2);
    for trial in &trials {
        assert_complete(trial);
        assert_eq!(problems(trial), "");
        assert_eq!(in_role(trial, "generator").len(), 1, "{trial:#}");
        let workers = in_role(trial, "worker");
        assert_eq!(workers.len(), 2, "{trial:#}");
        let tasks: u64 = workers.iter().map(|worker| worker["tasks"].as_u64().unwrap()).sum();
        assert_eq!(tasks, 60, "{trial:#}");
        let cpu = |process: &Value| process["cpu_seconds"].as_f64().unwrap();
        // An engine's process that came late to a single batch says only then what it used before.
        let engine = in_role(trial, "engine");
        assert!(engine.is_empty() || engine.into_iter().map(cpu).sum::<f64>() > 0.0, "{trial:#}");
        for process in trial["processes"].as_array().unwrap() {
            assert!(process["role"] == "engine" || cpu(process) > 0.0, "{process}");
            assert!(process["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{process}");
        }
    }
    // The bytes went through the dispatcher, or past it.
    let sent = |trial: &Value| trial["dispatcher_bytes"]["sent"].as_u64().unwrap();
    assert!(sent(&trials[0]) > 60 * 100_000 && sent(&trials[1]) < 60 * 1000);
}

#[test]
fn a_process_pool_runs_both_methods() {
    both_methods(POOL, "");
    both_methods(POOL, "--submit-batch 8 --rate max");
    both_methods(POOL, "--submit pilot");
}

#[test]
fn parsl_runs_both_methods() {
    both_methods("--executor parsl --parsl-executor htex-local", "");
}

#[test]
fn dask_runs_both_methods() {
    both_methods("--executor dask", "--submit pilot --worker-tls");
}

#[test]
fn an_engine_serves_all_trials_of_a_sweep() {
    let bench = Bench::new();
    let options = format!("{POOL} --data-size-bytes 1kB 10kB --task-count 30 --max-workers 3 --submit-batch 4");
    let output = run(&bench, &options);
    assert!(output.status.success(), "{}", text(&output));
    let results = bench.results();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4);
    let bridges: Vec<&Value> = trials.iter().map(|trial| &in_role(trial, "engine")[0]["pid"]).collect();
    assert!(bridges.iter().all(|pid| *pid == bridges[0]), "{bridges:?}");
    let workers: std::collections::BTreeSet<u64> = trials
        .iter()
        .flat_map(|trial| in_role(trial, "worker"))
        .map(|worker| worker["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(workers.len(), 8, "each trial has worker processes of its own");
    for trial in trials {
        assert_complete(trial);
        assert_eq!((&trial["submit"], &trial["submit_batch"]), (&"task".into(), &4.into()));
    }
    let engine = &results["environment"]["engine"];
    assert_eq!(engine["name"], "python");
    assert!(engine["python"].as_str().unwrap().starts_with("Python 3."), "{engine}");
}

#[test]
fn a_local_generator_leaves_the_engine_to_the_tasks() {
    for submit in ["task", "pilot"] {
        let options = format!(
            "{POOL} --submit {submit} --generator local --generators 2 --data-size-bytes 10kB --task-count 40 --max-workers 4 --verify"
        );
        for trial in trials(&options) {
            assert_complete(&trial);
            assert_eq!((in_role(&trial, "generator").len(), in_role(&trial, "worker").len()), (2, 4), "{trial:#}");
            let parents: Vec<String> = in_role(&trial, "generator")
                .iter()
                .map(|generator| generator["label"].as_str().unwrap().to_owned())
                .collect();
            assert!(parents[0].starts_with("worker 0 (pid") && parents[1].starts_with("worker 1 (pid"), "{parents:?}");
        }
    }
}

#[test]
fn one_worker_computes_what_a_local_generator_makes() {
    for submit in ["task", "pilot"] {
        let options =
            format!("{POOL} --submit {submit} --generator local --data-size-bytes 1kB --task-count 20 --max-workers 1");
        for trial in trials(&options) {
            assert_complete(&trial);
            assert_eq!((in_role(&trial, "generator").len(), in_role(&trial, "worker").len()), (1, 1), "{trial:#}");
        }
    }
}

#[test]
fn a_plan_tells_that_the_generator_stays_here() {
    let options = "--executor globus --globus-compute-endpoint 4b116d3c-1703-4f8f-9f6f-39921e5864df --ps-connector redis \
                   --ps-host head --stream redis --stream-servers head:6379 --dry-run";
    let output = Bench::new().run(options);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("WARNING --generator local is taken, as workers on other hosts"),
        "{}",
        text(&output)
    );
}

#[test]
fn large_items_go_through_an_engine_whole() {
    let options = format!("{POOL} --data-size-bytes 30MB --task-count 8 --max-workers 3 --verify");
    trials(&options).iter().for_each(assert_complete);
}

#[test]
fn what_an_engine_needs_is_named_before_anything_runs() {
    let refused = |options: &str, wanted: &str| {
        let bench = Bench::new();
        let output = finish(bench.command(options).spawn().unwrap());
        assert_eq!(output.status.code(), Some(2), "{options}\n{}", text(&output));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(wanted) && said.trim_end().lines().count() == 1, "{options}\n{said}");
        assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 0, "no run is left behind");
    };
    refused(
        "--executor parsl --python /usr/bin/python3",
        "parsl is not installed for /usr/bin/python3; run: /usr/bin/python3 -m pip install parsl",
    );
    refused("--executor dask --python /usr/bin/python3", "/usr/bin/python3 -m pip install distributed");
    refused("--executor dask --python /bin/false", "Python /bin/false does not run psbench's package");
    refused("--executor dask --python no-such-python", "Python no-such-python can't be run");
    refused("--executor python --python-executor nothing", "nothing: a factory is given as MODULE:FUNCTION");
    refused("--executor python --python-executor no_such_module:make", "no module is called no_such_module");
    refused(
        "--executor mpi --worker-listen 192.0.2.1",
        "--worker-listen 192.0.2.1, port 0: Cannot assign requested address",
    );
    refused("--executor mpi --launcher no-such-mpiexec", "no-such-mpiexec can't be run");
    refused("--executor slurm --launcher no-such-srun", "no-such-srun can't be run");
}

/// A module beside the run that makes executors which misbehave.
fn misbehaving(bench: &Bench, body: &str) -> Command {
    let directory = bench.directory.path().join("site");
    fs::create_dir(&directory).unwrap();
    let module = format!(
        "from concurrent.futures import Future, ProcessPoolExecutor\n\nclass Pool(ProcessPoolExecutor):\n    count = 0\n{body}\n\
         def make(workers):\n    return Pool(workers)\n"
    );
    fs::write(directory.join("site_pool.py"), module).unwrap();
    let runs = bench.directory.path().join("runs");
    let options = "--executor python --python-executor site_pool:make --stream-method default --data-size-bytes 1kB --task-count 50 \
                   --max-workers 3 --task-sleep 20ms --rate 40/s";
    let mut command = command(bench, options);
    command.arg("--run-dir").arg(runs).current_dir(directory);
    command
}

#[test]
fn engines_that_misbehave_lose_no_item_silently() {
    // Each is in the way of an item after the greetings and the generator.
    let refuse = "    def submit(self, function, *args):\n        if function.__name__ == 'run':\n            Pool.count += 1\n        \
                  if Pool.count == 20 and function.__name__ == 'run':\n            raise RuntimeError('queue full')\n        \
                  return super().submit(function, *args)\n";
    let fail = refuse.replace(
        "raise RuntimeError('queue full')",
        "future = Future()\n            future.set_exception(OSError('spool full'))\n            return future",
    );
    let shut_down =
        refuse.replace("raise RuntimeError('queue full')", "self.shutdown(wait=False, cancel_futures=True)");
    let print = "    def submit(self, function, *args):\n        print('on standard output', flush=True)\n        \
                 return super().submit(function, *args)\n";
    for (body, failed, wanted) in [
        (refuse, 1..=1, "RuntimeError: queue full"),
        (&fail, 1..=1, "OSError: spool full"),
        (&shut_down, 10..=50, "shutdown"),
        (print, 0..=0, ""),
    ] {
        let bench = Bench::new();
        let output = finish(misbehaving(&bench, body).spawn().unwrap());
        let code = i32::from(*failed.end() > 0);
        assert_eq!(output.status.code(), Some(code), "{body}\n{}", text(&output));
        let run = fs::read_dir(bench.directory.path().join("runs")).unwrap().next().unwrap().unwrap().path();
        let trial = crate::support::read_json(&run.join("results.json"))["trials"][0].clone();
        let items = &trial["items"];
        let count = |name: &str| items[name].as_u64().unwrap();
        assert_balanced(&trial);
        assert!(failed.contains(&count("failed")) && count("lost") == 0, "{items}");
        assert!(problems(&trial).contains(wanted), "{}", problems(&trial));
    }
}

#[test]
fn an_engine_that_never_starts_is_refused_in_time() {
    let bench = Bench::new();
    let directory = bench.directory.path().join("site");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("stuck.py"), "import time\n\ndef make(workers):\n    time.sleep(3600)\n").unwrap();
    let options = "--executor python --python-executor stuck:make --stream-method default --data-size-bytes 1kB --task-count 5 \
                   --engine-timeout 3";
    let mut command = command(&bench, options);
    command.arg("--run-dir").arg(bench.directory.path().join("runs")).current_dir(directory);
    let output = finish(command.spawn().unwrap());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("python: it was not there within 3s"), "{}", text(&output));
}

/// The worker processes among the descendants of psbench that get their tasks from Python.
fn engine_workers(pid: u32) -> Vec<u32> {
    descendants_of(pid).into_iter().filter(|pid| command_line(*pid).ends_with("psbench worker")).collect()
}

#[track_caller]
fn a_killed_worker_loses_its_item(engine: &str) {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let options = format!(
        "{engine} --stream-method proxy --data-size-bytes 1kB --task-count 80 --max-workers 3 --task-sleep 0.1 --rate max {}",
        server.as_connector()
    );
    let psbench = command(&bench, &options).spawn().unwrap();
    wait_until("tasks run", || server.resolved() > 5);
    let workers = engine_workers(psbench.id());
    assert_eq!(workers.len(), 2, "{engine}");
    stop_with_a_task(workers[0], &server);
    send_signal(workers[0], "KILL");
    let output = finish(psbench);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = bench.results()["trials"][0].clone();
    let items = &trial["items"];
    assert_eq!((&items["failed"], &items["lost"]), (&1.into(), &0.into()), "{engine}: {items}");
    assert!(problems(&trial).contains("signal 9 (SIGKILL)"), "{engine}: {}", problems(&trial));
    assert_eq!(in_role(&trial, "worker").len(), 3, "{engine}: another took its place");
}

#[test]
fn a_worker_that_is_killed_loses_its_item_and_no_other() {
    a_killed_worker_loses_its_item(POOL);
}

#[track_caller]
fn nothing_is_left_of(engine: &str) {
    let bench = Bench::new();
    let options = format!(
        "{engine} --stream-method default --data-size-bytes 1kB --task-count 1000 --max-workers 3 --task-sleep 0.1 --rate 15/s"
    );
    let mut psbench = command(&bench, &options).spawn().unwrap();
    let pid = psbench.id();
    let is_worker = |pid: &u32| command_line(*pid).contains("psbench worker");
    wait_until("the workers are there", || descendants_of(pid).iter().filter(|pid| is_worker(pid)).count() >= 3);
    wait_until("they are ready", || bench.log().contains("workers are ready"));
    let all = descendants_of(pid);
    assert!(all.len() > 5, "{engine}: {all:?}");
    psbench.kill().unwrap();
    psbench.wait().unwrap();
    wait_until(&format!("the end of all that {engine} started"), || !all.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn nothing_is_left_when_psbench_is_killed() {
    nothing_is_left_of(POOL);
}

#[track_caller]
fn ctrl_c_finishes_what_runs(engine: &str) {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let options = format!(
        "{engine} --stream-method proxy --data-size-bytes 1kB --task-count 1000 --max-workers 3 --task-sleep 0.1 --rate 15/s {}",
        server.as_connector()
    );
    let psbench = command(&bench, &options).spawn().unwrap();
    let pid = psbench.id();
    wait_until("tasks run", || server.resolved() > 8);
    let all = descendants_of(pid);
    send_signal(pid, "INT");
    let output = finish(psbench);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let items = &bench.results()["trials"][0]["items"];
    assert_eq!(
        items["generated"].as_u64().unwrap(),
        items["finished"].as_u64().unwrap() + items["failed"].as_u64().unwrap()
    );
    assert!(items["finished"].as_u64().unwrap() > 5, "{items}");
    wait_until("the end of all that it started", || !all.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn ctrl_c_finishes_what_runs_and_leaves_nothing() {
    ctrl_c_finishes_what_runs(POOL);
}

/// An executable file.
fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Whether this user may make namespaces of time and of mounts.
fn may_unshare(test: &str) -> bool {
    let may = Command::new("unshare").args(["--time", "--monotonic", "1", "--mount", "--fork", "true"]).output();
    let may = may.is_ok_and(|ended| ended.status.success());
    if !may {
        eprintln!("skipped: {test} takes root and time namespaces");
    }
    may
}

#[test]
fn times_of_other_clocks_are_told_by_the_dispatchers() {
    const AHEAD: i64 = 1_000_000;
    if !may_unshare("times_of_other_clocks_are_told_by_the_dispatchers") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = python();
    let text = format!("#!/bin/sh\nexec unshare --time --monotonic {AHEAD} --fork {} \"$@\"\n", program.display());
    let python = script(directory.path(), "python", &text);
    for submit in ["task", "pilot"] {
        let options = format!(
            "{POOL} --python {} --submit {submit} --data-size-bytes 10kB --task-count 100 --max-workers 3 --task-sleep 5ms",
            python.display()
        );
        for trial in trials(&options) {
            assert_complete(&trial);
            for process in in_role(&trial, "worker").iter().chain(&in_role(&trial, "generator")) {
                let clock = &process["clock"];
                let (ahead, error) = (clock["ahead_ns"].as_i64().unwrap(), clock["error_ns"].as_u64().unwrap());
                assert!(ahead.abs_diff(AHEAD * 1_000_000_000) <= error && error < 60_000_000_000, "{submit}: {clock}");
                assert_eq!(process["host"], Value::Null, "it is this host all the same");
            }
            for name in ["broker", "dispatch", "report", "end_to_end"] {
                let latency = &trial["latency"][name];
                assert!(
                    latency["clock_error_ns"].as_u64().is_some_and(|error| error > 0),
                    "{submit}: {name}: {latency}"
                );
                let most = latency["max_ns"].as_u64().unwrap().max(latency["negative_max_ns"].as_u64().unwrap_or(0));
                assert!(most < 300_000_000_000, "{submit}: {name} took {most} ns");
            }
        }
    }
}

#[track_caller]
fn what_workers_print_is_logged(engine: &str) {
    let directory = tempfile::tempdir().unwrap();
    let lines = format!("#!/bin/sh\necho a word from $$ >&2\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_psbench"));
    let program = script(directory.path(), "psbench", &lines);
    let bench = Bench::new();
    let options = format!(
        "{engine} --stream-method default --data-size-bytes 1kB --task-count 20 --max-workers 3 --worker-program {}",
        program.display()
    );
    let output = run(&bench, &options);
    assert!(output.status.success(), "{}", text(&output));
    let log = bench.log();
    assert!(log.matches("a word from").count() >= 3, "{engine}\n{log}");
}

#[test]
fn what_workers_print_reaches_the_log() {
    what_workers_print_is_logged(POOL);
    what_workers_print_is_logged("--executor mpi");
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    #[test]
    fn loky_runs_both_methods() {
        both_methods("--executor python --python-executor loky:ProcessPoolExecutor", "");
    }

    #[test]
    fn parsl_runs_both_methods_in_its_other_ways() {
        both_methods("--executor parsl --parsl-executor thread", "");
        both_methods("--executor parsl", "--submit pilot");
    }

    #[test]
    fn dask_runs_both_methods_in_its_other_ways() {
        both_methods("--executor dask", "");
        both_methods("--executor dask --dask-use-threads", "");
    }

    #[test]
    fn a_parsl_configuration_of_the_users_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("site.py");
        let text = "import parsl\nfrom parsl.executors import ThreadPoolExecutor\n\ndef config(workers):\n    return parsl.Config(\
                executors=[ThreadPoolExecutor(max_threads=workers)], run_dir='RUNS', initialize_logging=False)\n";
        fs::write(&config, text.replace("RUNS", directory.path().join("runs").to_str().unwrap())).unwrap();
        both_methods(&format!("--executor parsl --parsl-config {}", config.display()), "");
        assert!(directory.path().join("runs").exists(), "its run_dir is kept");
    }

    #[test]
    fn a_dask_scheduler_that_runs_already_is_used() {
        // A cluster of the user's, who has given its workers psbench's package.
        let code = "import sys, time\nfrom distributed import LocalCluster\n\nif __name__ == '__main__':\n    cluster = \
                LocalCluster(n_workers=3, threads_per_worker=1, host='127.0.0.1', dashboard_address=None)\n    \
                print(cluster.scheduler_address, flush=True)\n    sys.stdin.read()\n";
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("cluster.py");
        fs::write(&script, code).unwrap();
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../executors/python");
        let mut cluster = Command::new(python())
            .arg(&script)
            .env("PYTHONPATH", package)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(cluster.stdout.take().unwrap()), &mut address)
            .unwrap();
        both_methods(&format!("--executor dask --dask-scheduler {}", address.trim()), "");
        assert!(cluster.try_wait().unwrap().is_none(), "it is the user's");
        drop(cluster.stdin.take());
        assert!(cluster.wait().unwrap().success());
    }

    #[test]
    fn a_worker_of_dask_or_parsl_that_is_killed_loses_its_item_and_no_other() {
        a_killed_worker_loses_its_item("--executor dask");
        a_killed_worker_loses_its_item("--executor parsl");
    }

    #[test]
    fn a_worker_that_stays_stopped_on_an_engine_is_ended() {
        let (server, bench) = (Redis::start(&[]), Bench::new());
        let options = format!(
            "{POOL} --stream-method proxy --data-size-bytes 1kB --task-count 200 --max-workers 3 --task-sleep 0.1 --rate max {}",
            server.as_connector()
        );
        let psbench = command(&bench, &options).spawn().unwrap();
        wait_until("tasks run", || server.resolved() > 5);
        send_signal(engine_workers(psbench.id())[0], "STOP");
        let output = finish(psbench);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = bench.results()["trials"][0].clone();
        assert_eq!((&trial["items"]["failed"], &trial["items"]["finished"]), (&1.into(), &199.into()), "{trial:#}");
        assert!(problems(&trial).contains("stopped (SIGSTOP) for 10 s"), "{}", problems(&trial));
    }

    #[test]
    fn nothing_is_left_of_dask_or_parsl_when_psbench_is_killed() {
        for engine in ["--executor dask", "--executor parsl", "--executor dask --submit pilot"] {
            nothing_is_left_of(engine);
        }
    }

    #[test]
    fn ctrl_c_finishes_what_runs_on_dask() {
        ctrl_c_finishes_what_runs("--executor dask");
    }

    #[test]
    fn what_workers_of_dask_print_reaches_the_log() {
        what_workers_print_is_logged("--executor dask");
        what_workers_print_is_logged("--executor dask --submit pilot");
    }

    #[test]
    fn workers_found_elsewhere_need_a_way_to_the_data() {
        if !may_unshare("workers_found_elsewhere_need_a_way_to_the_data") {
            return;
        }
        // With a boot of its own it is another host, as far as anyone can tell.
        let directory = tempfile::tempdir().unwrap();
        let boot = directory.path().join("boot_id");
        fs::write(&boot, "00000000-0000-4000-8000-000000000000\n").unwrap();
        let lines = format!(
            "#!/bin/sh\nexec unshare --mount --fork sh -c 'mount --bind {} /proc/sys/kernel/random/boot_id && exec {} \"$@\"' sh \"$@\"\n",
            boot.display(),
            python().display()
        );
        let python = script(directory.path(), "python", &lines);
        let pool =
            format!("{POOL} --python {} --data-size-bytes 1kB --task-count 20 --max-workers 3", python.display());
        let refused = |options: &str, wanted: &str| {
            let bench = Bench::new();
            let output = run(&bench, &format!("{pool} {options}"));
            assert_eq!(output.status.code(), Some(1), "{}", text(&output));
            assert!(text(&output).contains(wanted), "{}", text(&output));
        };
        refused("--stream-method proxy --generator local", "can't reach peer unix");
        refused("--stream-method proxy --ps-address 127.0.0.1", "can't reach peer 127.0.0.1");
        refused("--stream-method default", "--stream memory: a generator on");
        let trials = trials(&format!("{pool} --stream-method default --generator local"));
        assert_complete(&trials[0]);
        let worker = in_role(&trials[0], "worker")[0];
        assert!(worker["host"].is_string() && worker["clock"]["error_ns"].as_u64().is_some(), "{worker}");
    }

    /// The same bytes over and over: an engine that knows tasks by their content would run one.
    #[test]
    fn equal_items_are_run_each() {
        let directory = tempfile::tempdir().unwrap();
        let zeros = directory.path().join("zeros");
        fs::write(&zeros, [0; 1000]).unwrap();
        let options = format!(
            "--executor dask --data-size-bytes 1000 --task-count 50 --max-workers 3 --payload-file {} --submit-batch 5",
            zeros.display()
        );
        trials(&options).iter().for_each(assert_complete);
    }
}
