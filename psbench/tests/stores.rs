//! Whole runs over connectors at other programs' services.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "../../connectors/tests/support/s3.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod s3_server;
mod support;

use s3_server::{BUCKET, S3Server, SECRET_KEY, credentials};
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

#[test]
fn a_bucket_moves_every_item_and_is_empty_afterwards() {
    let server = S3Server::start();
    let bench = Bench::new();
    let mut command = bench.command(&format!(
        "{RUN} --ps-connector s3 --ps-s3-bucket {BUCKET} --ps-s3-endpoint {} --evict end",
        server.url()
    ));
    let output = command.envs(credentials(SECRET_KEY)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for trial in bench.results()["trials"].as_array().unwrap() {
        assert_complete(trial);
    }
    assert_eq!(server.objects(), [""; 0].map(std::path::PathBuf::from));
    let recorded = std::fs::read_to_string(bench.run_directory().join("results.json")).unwrap();
    assert!(!recorded.contains(SECRET_KEY) && !text(&output).contains(SECRET_KEY));
}
