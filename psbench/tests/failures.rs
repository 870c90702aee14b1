//! What goes wrong mid-run ends in an accounted loss within a bounded time, with what was measured on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::process::{Child, Output};
use std::time::Duration;

use support::{
    Bench, Redis, assert_balanced, assert_complete, is_alive, output_within, problems, send_signal, text, wait_until,
    workers_of,
};

/// A trial of some seconds: 3 workers, a task each 100 ms.
const SLOW: &str = "--max-workers 4 --data-size-bytes 10kB --task-count 60 --task-sleep 0.3 --stream-method proxy";

/// How many objects were taken from the server.
fn resolved(server: &Redis) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut server.connection()).unwrap();
    let calls = stats.split_once("cmdstat_getdel:calls=").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// Starts a run and waits until its workers work.
fn started(bench: &Bench, arguments: &str, workers: usize) -> (Child, Vec<u32>) {
    let child = bench.command(arguments).spawn().unwrap();
    wait_until("the workers are there", || workers_of(child.id()).len() == workers);
    let pids = workers_of(child.id());
    std::thread::sleep(Duration::from_millis(800));
    (child, pids)
}

#[test]
fn a_killed_worker_fails_its_tasks_by_name_and_is_replaced() {
    let bench = Bench::new();
    let (child, workers) = started(&bench, &format!("--executor process {SLOW}"), 4);
    // The generator's worker is the first.
    send_signal(workers[2], "KILL");
    let output = output_within(child, 60);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert_eq!(trial["status"], "incomplete");
    assert_eq!(trial["items"]["failed"], 1, "{trial:#}");
    assert_eq!(trial["items"]["finished"], 59);
    let problems = problems(trial);
    assert!(problems.contains(&workers[2].to_string()) && problems.contains("signal 9"), "{problems}");
}

#[test]
fn a_killed_generator_ends_the_trial_and_not_the_sweep() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process {SLOW} --repeat 2 --ps-connector redis --ps-host 127.0.0.1 --ps-port {port} --stream redis-queue --stream-servers \
         127.0.0.1:{port}",
        port = server.port
    );
    let (child, workers) = started(&bench, &arguments, 4);
    send_signal(workers[0], "KILL");
    let output = output_within(child, 90);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let results = bench.results();
    let trial = &results["trials"][0];
    assert_balanced(trial);
    assert_eq!(trial["status"], "incomplete");
    assert!(trial["problems"][0].as_str().unwrap().contains("signal 9"), "{trial:#}");
    assert_complete(&results["trials"][1]);
    assert_eq!(server.keys(), [""; 0], "objects of the killed generator were left behind");
}

#[test]
fn a_broker_that_dies_ends_the_trial_with_what_was_measured() {
    for stream in ["redis", "redis-queue"] {
        let server = Redis::start(&[]);
        let bench = Bench::new();
        let arguments =
            format!("--executor thread {SLOW} --repeat 2 --stream {stream} --stream-servers {}", server.address());
        let child = bench.command(&arguments).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(2500));
        let address = server.address();
        drop(server);
        let output = output_within(child, 60);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let results = bench.results();
        let trials = results["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 2, "the sweep goes on with the next trial");
        assert_balanced(&trials[0]);
        assert!(trials[0]["items"]["finished"].as_u64().unwrap() > 3, "{}", trials[0]["items"]);
        assert!(problems(&trials[0]).contains(&address), "{}", problems(&trials[0]));
        assert_eq!(trials[1]["status"], "failed");
    }
}

#[test]
fn a_broker_that_stops_answering_ends_the_trial_in_time() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments =
        format!("--executor process {SLOW} --timeout 6s --stream redis --stream-servers {}", server.address());
    let (child, _) = started(&bench, &arguments, 4);
    server.signal("STOP");
    let output = output_within(child, 60);
    server.signal("CONT");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert!(problems(trial).contains("--timeout"), "{}", problems(trial));
}

#[test]
fn a_subscriber_past_the_servers_limit_is_counted_and_the_remedy_named() {
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 4mb 2mb 5"]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process --max-workers 3 --data-size-bytes 10MB --task-count 20 --task-sleep 0 --stream redis --stream-servers {}",
        server.address()
    );
    let output = output_within(bench.command(&arguments).spawn().unwrap(), 60);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let results = bench.results();
    let [default, proxy] = &results["trials"].as_array().unwrap()[..] else { panic!("{results:#}") };
    assert_balanced(default);
    assert!(default["items"]["lost"].as_u64().unwrap() > 0, "{}", default["items"]);
    // The cause comes first; that the generator found no subscriber any more follows from it.
    let cause = default["problems"][0].as_str().unwrap();
    assert!(cause.contains("client-output-buffer-limit"), "{}", problems(default));
    assert!(
        text(&output).contains("client-output-buffer-limit"),
        "the remedy is not on the terminal: {}",
        text(&output)
    );
    assert_complete(proxy);
}

#[test]
fn objects_that_vanish_fail_by_name() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process {SLOW} --prefetch 20 --rate max --ps-connector redis --ps-host 127.0.0.1 --ps-port {}",
        server.port
    );
    let (child, _) = started(&bench, &arguments, 4);
    redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
    let output = output_within(child, 60);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    let problems = problems(trial);
    let named = ["redis", &server.address(), "worker"].iter().all(|part| problems.contains(part));
    assert!(named, "{problems}");
}

#[test]
fn objects_that_change_are_found_corrupt() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process {SLOW} --verify --prefetch 20 --rate max --ps-connector redis --ps-host 127.0.0.1 --ps-port {}",
        server.port
    );
    let (child, _) = started(&bench, &arguments, 4);
    for key in server.keys() {
        // XX: not one that was evicted in the meantime.
        let mut connection = server.connection();
        let forged = [&b"BS\n"[..], &[7; 10_000]].concat();
        redis::cmd("SET").arg(key).arg(forged).arg("XX").exec(&mut connection).unwrap();
    }
    let output = output_within(child, 60);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert!(trial["items"]["corrupt"].as_u64().unwrap() > 10, "{}", trial["items"]);
    assert_eq!(trial["items"]["corrupt"], trial["items"]["failed"]);
    assert!(problems(trial).contains("checksum"), "{}", problems(trial));
}

#[test]
fn an_interrupt_finishes_what_runs_saves_and_exits_with_130() {
    for executor in ["thread", "process"] {
        let server = Redis::start(&[]);
        let bench = Bench::new();
        let arguments = format!(
            "--executor {executor} {SLOW} --repeat 3 --ps-connector redis --ps-host 127.0.0.1 --ps-port {}",
            server.port
        );
        let child = bench.command(&arguments).spawn().unwrap();
        wait_until("some items are resolved", || resolved(&server) > 3);
        send_signal(child.id(), "INT");
        let output = output_within(child, 20);
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
        let results = bench.results();
        let trials = results["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 1);
        assert_eq!(trials[0]["status"], "interrupted");
        let items = &trials[0]["items"];
        assert!(items["finished"].as_u64().unwrap() > 3, "{items}");
        assert_balanced(&trials[0]);
    }
}

#[test]
fn an_interrupt_does_not_wait_for_what_has_not_begun() {
    let bench = Bench::new();
    let arguments =
        "--executor process --max-workers 3 --data-size-bytes 1kB --task-count 500 --task-sleep 0.5 --rate max";
    let (child, _) = started(&bench, arguments, 3);
    send_signal(child.id(), "INT");
    let output = output_within(child, 10);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("interrupt again"), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_balanced(trial);
    assert_eq!(trial["status"], "interrupted");
    assert!(problems(trial).contains("not run"), "{}", problems(trial));
}

#[test]
fn a_second_interrupt_leaves_no_objects_even_of_threads() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor thread {SLOW} --task-sleep 5 --rate max --ps-connector redis --ps-host 127.0.0.1 --ps-port {}",
        server.port
    );
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("objects are stored", || server.keys().len() > 10);
    send_signal(child.id(), "INT");
    std::thread::sleep(Duration::from_millis(500));
    send_signal(child.id(), "INT");
    let output = output_within(child, 5);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_eq!(server.keys(), [""; 0], "objects were left behind");
}

#[test]
fn a_second_interrupt_leaves_at_once() {
    let bench = Bench::new();
    let arguments = "--executor process --max-workers 3 --data-size-bytes 1kB --task-count 10 --task-sleep 30";
    let (child, workers) = started(&bench, arguments, 3);
    send_signal(child.id(), "INT");
    std::thread::sleep(Duration::from_millis(500));
    send_signal(child.id(), "INT");
    let output = output_within(child, 5);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    wait_until("the workers are gone", || !workers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn nothing_is_left_of_a_killed_run() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process {SLOW} --ps-lifetime run --ps-connector redis --ps-host 127.0.0.1 --ps-port {port} --stream redis --stream-servers 127.0.0.1:{port}",
        port = server.port
    );
    let (mut child, workers) = started(&bench, &arguments, 4);
    assert!(!server.keys().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the workers are gone", || !workers.iter().any(|pid| is_alive(*pid)));
    assert_eq!(server.keys(), [""; 0], "objects were left behind");
}

#[test]
fn a_full_disk_is_named() {
    let small = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        std::process::Command::new("mount").args(arguments).status().is_ok_and(|status| status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs", small.path().to_str().unwrap()]) {
        eprintln!("skipped: a_full_disk_is_named needs the right to mount a tmpfs");
        return;
    }
    let objects = small.path().join("objects");
    let bench = Bench::new();
    let arguments = format!(
        "--executor process --max-workers 3 --stream-method proxy --data-size-bytes 600kB --task-count 20 --task-sleep 1 --rate max \
         --ps-connector file --ps-file-dir {}",
        objects.display()
    );
    let output = output_within(bench.command(&arguments).spawn().unwrap(), 60);
    let trial = bench.results()["trials"][0].clone();
    let left = std::fs::read_dir(&objects).map_or(0, Iterator::count);
    let saved = bench.command(
        "--executor thread --max-workers 2 --data-size-bytes 1kB --task-count 2000 --task-sleep 0 --repeat 300",
    );
    let full = full_results(saved, small.path());
    assert!(std::process::Command::new("umount").arg(small.path()).status().unwrap().success());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_balanced(&trial);
    let problems = problems(&trial);
    assert!(problems.contains("objects") && problems.contains("No space left"), "{problems}");
    assert_eq!(left, 0, "files were left on the full disk");
    let said = text(&full);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("results.") && said.contains("No space left"), "{said}");
}

/// Runs with results on the small disk, until it is full.
fn full_results(mut command: std::process::Command, directory: &std::path::Path) -> Output {
    command.arg("--run-dir").arg(directory);
    output_within(command.spawn().unwrap(), 120)
}
