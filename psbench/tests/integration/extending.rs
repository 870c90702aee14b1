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

use std::path::Path;
use std::sync::Arc;

use crate::support::{Bench, assert_complete, text};
use psbench::brokers::{self, OWN_BROKERS};
use psbench::sweep::ExecutorRequest;
use psbench_connectors::{ConnectorFactory, OWN_CONNECTORS};
use psbench_executors::conformance::TestWork;

/// Runs a small sweep over both methods with an example's program, which is built with the tests.
fn sweep(example: &str, options: &str) -> serde_json::Value {
    let program = Path::new(env!("CARGO_BIN_EXE_psbench")).with_file_name("examples").join(example);
    assert!(program.exists(), "`cargo build --examples` makes {}", program.display());
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
        let request = ExecutorRequest { workers, sharing: workers, work: Arc::new(TestWork::default()) };
        own_executor::start(request, sink).unwrap()
    });
    let results = sweep("own_executor", "--executor fresh-threads --ps-connector memory");
    assert_eq!(results["trials"][0]["executor"], "fresh-threads");
    let several = "--executor fresh-threads --ps-connector memory --max-workers 4 --generators 2";
    assert_eq!(sweep("own_executor", several)["trials"][0]["generators"], 2);
}

#[test]
fn the_examples_are_short() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for example in ["own_broker.rs", "own_connector.rs", "own_executor.rs"] {
        let lines = std::fs::read_to_string(examples.join(example)).unwrap().lines().count();
        assert!(lines < 60, "{example} has {lines} lines");
    }
}
