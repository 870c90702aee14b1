//! Whole runs over connectors at other programs' services.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use support::{Bench, Endpoint, assert_complete, text};

/// A short run in worker processes.
const RUN: &str =
    "--executor process --max-workers 3 --stream-method proxy --data-size-bytes 1000 200kB --task-count 12 --rate max";

#[test]
fn an_endpoint_moves_every_item() {
    let endpoint = Endpoint::start();
    let bench = Bench::new();
    let mut command = bench.command(&format!("{RUN} --ps-connector endpoint --ps-endpoints {}", endpoint.id));
    let output = command.env("PROXYSTORE_HOME", endpoint.home()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for trial in bench.results()["trials"].as_array().unwrap() {
        assert_complete(trial);
    }
}
