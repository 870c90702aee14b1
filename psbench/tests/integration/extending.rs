//! The examples of an own connector, broker and executor: each keeps its contract, and is chosen by name on the command line.

#[allow(dead_code, reason = "its main function is not called here")]
#[path = "../../examples/own_broker.rs"]
mod own_broker;
#[allow(dead_code, reason = "its main function is not called here")]
#[path = "../../examples/own_connector.rs"]
mod own_connector;
#[allow(dead_code, reason = "its main function is not called here")]
#[path = "../../examples/own_executor.rs"]
mod own_executor;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Bench, assert_complete, in_role, problems, text};
use psbench::brokers::{self, OWN_BROKERS};
use psbench::sweep::{ExecutorRequest, WorkerProcesses};
use psbench_connectors::{ConnectorFactory, OWN_CONNECTORS};
use psbench_executors::conformance::TestWork;
use psbench_executors::pilot::PilotOptions;
use psbench_executors::process::ProcessOptions;

/// The program of an example, which is built with the tests.
fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_psbench")).with_file_name("examples").join(name);
    assert!(program.exists(), "`cargo build --examples` makes {}", program.display());
    program
}

/// Runs a small sweep over both methods with an example's program.
fn sweep(name: &str, options: &str) -> serde_json::Value {
    let program = example(name);
    let bench = Bench::new();
    let options = format!("--data-size-bytes 10000 --task-count 40 --max-workers 3 --verify {options}");
    let output = bench.command_of(&program, &options).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let results = bench.results();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 2);
    trials.iter().for_each(assert_complete);
    results
}

#[test]
fn an_own_connector_conforms_and_is_chosen_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    OWN_CONNECTORS.add("scratch", Arc::new(own_connector::Factory));
    psbench_connectors::conformance::check(&|keys| own_connector::Factory.open(place, keys).unwrap());
    let results = sweep("own_connector", &format!("--ps-connector scratch --ps-place {place}"));
    assert_eq!(results["trials"][1]["connector"], "scratch");
    assert_eq!(std::fs::read_dir(place).unwrap().count(), 0, "every object was evicted");
}

#[test]
fn an_own_broker_conforms_and_is_chosen_by_name() {
    OWN_BROKERS.add("spool", Arc::new(own_broker::Factory));
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    brokers::conformance::check(&own_broker::Spool(place.into()));
    let results = sweep("own_broker", &format!("--stream spool --stream-servers {place}"));
    assert_eq!(results["trials"][0]["stream"], "spool");
    assert_eq!(std::fs::read_dir(place).unwrap().count(), 0, "every topic was deleted");
}

#[test]
fn an_own_executor_conforms_and_is_chosen_by_name() {
    psbench_executors::conformance::check(&|workers, sink| {
        let processes = WorkerProcesses {
            started: ProcessOptions::new("nothing"),
            placed: PilotOptions::new(workers),
            command: Vec::new(),
        };
        let work = Arc::new(TestWork::default());
        own_executor::start(
            ExecutorRequest { workers, sharing: workers, work, options: BTreeMap::new(), processes },
            sink,
        )
        .unwrap()
    });
    let results = sweep("own_executor", "--executor fresh-threads --ps-connector memory");
    assert_eq!(results["trials"][0]["executor"], "fresh-threads");
    let several = "--executor fresh-threads --ps-connector memory --max-workers 4 --generators 2";
    assert_eq!(sweep("own_executor", several)["trials"][0]["generators"], 2);
}

#[test]
fn an_own_executor_starts_workers_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (launcher, started) = (directory.path().join("launcher"), directory.path().join("started"));
    let lines = format!("#!/bin/sh\necho $$ >> '{}'\nexec \"$@\"\n", started.display());
    std::fs::write(&launcher, lines).unwrap();
    std::fs::set_permissions(&launcher, PermissionsExt::from_mode(0o755)).unwrap();
    let options = "--executor by-command --worker-tls --prefetch 2 --task-timeout 60s --executor-option prefix=";
    let results = sweep("own_launcher", &format!("{options}{}", launcher.display()));
    let started = std::fs::read_to_string(started).unwrap();
    for trial in results["trials"].as_array().unwrap() {
        assert_eq!((&trial["executor"], problems(trial)), (&"by-command".into(), String::new()));
        let (generators, workers) = (in_role(trial, "generator"), in_role(trial, "worker"));
        assert_eq!((generators.len(), workers.len()), (1, 2), "{trial:#}");
        for process in generators.iter().chain(&workers) {
            let pid = process["pid"].as_u64().unwrap().to_string();
            assert!(started.lines().any(|line| line == pid), "{pid}: {started}");
        }
    }
    assert_eq!(results["options"]["executor-option"][0], format!("prefix={}", launcher.display()));
}

#[test]
fn an_own_executor_says_what_is_wrong_with_its_options() {
    let refused = |options: &str, code: i32, wanted: &str| {
        let bench = Bench::new();
        let output = bench.command_of(&example("own_launcher"), options).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(text(&output).contains(wanted), "{}", text(&output));
        bench
    };
    let own = "--executor by-command --data-size-bytes 1kB 2kB --task-count 5 --max-workers 3";
    refused(&format!("{own} --executor-option colour=blue"), 2, "--executor by-command: has no option colour");
    refused(&format!("{own} --executor-option prefix"), 2, "--executor-option prefix: write NAME=VALUE");
    refused(&format!("{own} --ps-connector memory"), 2, "worker processes can't reach it");
    // Found only as the first trial starts, it ends the sweep.
    let bench =
        refused(&format!("{own} --executor-option prefix=/nowhere/launcher"), 1, "/nowhere/launcher: not found");
    assert_eq!(bench.results()["trials"].as_array().unwrap().len(), 1);
    // One of psbench's has none.
    let bench = Bench::new();
    let output = bench.run("--data-size-bytes 1kB --task-count 5 --executor-option colour=blue");
    assert!(text(&output).contains("--executor-option has no effect with --executor process"), "{}", text(&output));
}

#[test]
fn the_examples_are_short() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for example in ["own_broker.rs", "own_connector.rs", "own_executor.rs", "own_launcher.rs"] {
        let lines = std::fs::read_to_string(examples.join(example)).unwrap().lines().count();
        assert!(lines < 60, "{example} has {lines} lines");
    }
}
