//! The worker pool from the command line: how processes are kept, and what becomes of tasks that their worker can't end.

use std::process::{Command, Stdio};

use crate::support::{
    Bench, Redis, assert_balanced, assert_complete, finish, in_role, send_signal, text, wait_until, workers_of,
};
use serde_json::Value;

/// Runs a trial that can't finish all of its items; returns it.
fn incomplete(bench: &Bench, options: &str) -> Value {
    let output = bench.run(options);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    bench.results()["trials"][0].clone()
}

#[test]
fn threads_of_few_processes_compute() {
    // A process for the generator, and 4 threads in 2 others.
    let trials = Bench::new()
        .trials("--max-workers 5 --threads-per-worker 2 --data-size-bytes 10kB --task-count 200 --verify --prefetch 3 --cpu-affinity alternating");
    for trial in &trials {
        assert_complete(trial);
        assert_eq!((in_role(trial, "generator").len(), in_role(trial, "worker").len()), (1, 2), "{trial}");
    }
}

#[test]
fn workers_may_open_as_many_files_as_their_user_may() {
    let bench = Bench::new();
    let command =
        bench.command("--executor process --max-workers 3 --data-size-bytes 1kB --task-count 10 --task-sleep 30");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 256 && exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    let mut child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the workers are there", || workers_of(child.id()).len() == 3);
    let limits: Vec<String> = workers_of(child.id())
        .iter()
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap())
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for limits in limits {
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let [soft, hard, ..] = files.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{files}") };
        assert_eq!(soft.parse::<u64>().unwrap(), hard.parse().map_or(65_536, |hard: u64| hard.min(65_536)), "{files}");
    }
}

#[test]
fn workers_are_replaced_and_nothing_is_lost() {
    let trials = Bench::new().trials(
        "--max-workers 3 --max-tasks-per-worker 10 --data-size-bytes 10kB --task-count 100 --rate 50/s --verify",
    );
    for trial in &trials {
        assert_complete(trial);
        assert_eq!(trial["problems"].as_array().unwrap().len(), 0, "{trial}");
        let workers = in_role(trial, "worker");
        assert!(workers.len() >= 9, "{} workers", workers.len());
        assert!(workers.iter().all(|worker| worker["tasks"].as_u64().unwrap() <= 10), "{workers:?}");
        let retired =
            workers.iter().filter(|worker| worker["end"].as_str().is_some_and(|end| end.contains("10 tasks")));
        assert!(retired.count() >= 7, "{workers:?}");
    }
}

#[test]
fn idle_workers_go_and_come_back() {
    let trials = Bench::new().trials(
        "--max-workers 3 --worker-idle 0.1 --data-size-bytes 1kB --task-count 6 --rate 2/s --stream-method proxy",
    );
    assert_complete(&trials[0]);
    let workers = in_role(&trials[0], "worker");
    assert!(workers.len() > 2, "none came back: {workers:?}");
    assert!(workers.iter().any(|worker| worker["end"].as_str().is_some_and(|end| end.contains("idle"))), "{workers:?}");
}

#[test]
fn a_task_that_hangs_is_ended_in_time() {
    let run = |executor: &str| {
        let server = Redis::start(&[]);
        let bench = Bench::new();
        let options = format!(
            "--executor {executor} --max-workers 3 --stream-method proxy --data-size-bytes 1kB --task-count 100 --task-sleep 0.1 \
             --rate max --task-timeout 1 {} --timeout 8",
            server.as_connector()
        );
        let child = bench.command(&options).spawn().unwrap();
        wait_until("objects are stored", || server.keys().len() > 50);
        // Tasks that resolve from now on hang.
        server.signal("STOP");
        let output = finish(child);
        server.signal("CONT");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = bench.results()["trials"][0].clone();
        assert_balanced(&trial);
        let problems = trial["problems"].to_string();
        assert!(problems.contains("longer than 1s"), "{executor}: {problems}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run("thread"));
        run("process");
    });
}

#[test]
fn an_item_that_outgrows_the_memory_of_a_process_is_named() {
    let trial = incomplete(
        &Bench::new(),
        "--max-workers 2 --stream-method default --data-size-bytes 1500MB --task-count 2 --worker-memory 1250MB --timeout 8",
    );
    assert_balanced(&trial);
    let problems = trial["problems"].to_string();
    assert!(problems.contains("no memory for an item of 1500000000 bytes"), "{problems}");
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    #[test]
    fn a_worker_that_stays_stopped_is_replaced() {
        let bench = Bench::new();
        let options = "--max-workers 3 --stream-method default --data-size-bytes 1kB --task-count 150 --task-sleep 0.2 --rate 10/s";
        let child = bench.command(options).spawn().unwrap();
        wait_until("the workers are ready", || bench.log().contains("workers are ready"));
        send_signal(workers_of(child.id())[2], "STOP");
        let output = finish(child);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = bench.results()["trials"][0].clone();
        assert_balanced(&trial);
        assert_eq!(trial["items"]["failed"], 1, "{}", trial["items"]);
        assert!(trial["problems"].to_string().contains("stopped (SIGSTOP)"), "{}", trial["problems"]);
    }
}
