//! Whole runs over connectors at other programs' services.

#[path = "../../../connectors/tests/support/s3.rs"]
#[allow(dead_code, reason = "the rest is for the connectors' own tests")]
mod s3_server;

use crate::support::{Bench, Endpoint, Redis, assert_complete, text};
use s3_server::{BUCKET, S3Server, SECRET_KEY, credentials};

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
        "{RUN} --ps-connector s3 --ps-s3-bucket {BUCKET} --ps-s3-endpoint {} --ps-lifetime run",
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

#[test]
fn two_connectors_share_the_items_by_size() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let files = tempfile::tempdir().unwrap();
    let trials = bench.trials(&format!(
        "{RUN} --ps-lifetime run --ps-connector multi --ps-multi redis,max=1kB,tag=here file,min=1001,tag=here peer,priority=9 \
         --ps-tags here --ps-host 127.0.0.1 --ps-port {} --ps-file-dir {}",
        server.port,
        files.path().display()
    ));
    assert_eq!(trials.len(), 2);
    trials.iter().for_each(assert_complete);
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut server.connection()).unwrap();
    // Twice 12, as the first trial is run once more to warm up, and one to try whether it may.
    assert!(stats.contains("cmdstat_set:calls=25,"), "the small items, and they alone, went to Redis: {stats}");
    assert_eq!((server.keys().len(), files.path().read_dir().unwrap().count()), (0, 0));
}
