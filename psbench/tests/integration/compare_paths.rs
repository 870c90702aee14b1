//! Paths beside each other, end to end: the real program, real worker processes, a real Redis.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::{Bench, NOBODY, Redis, assert_complete, text};

const SMALL: &str = "--max-workers 3 --task-count 20 --data-size-bytes 1kB 100kB";

fn texts<'a>(values: &'a Value, key: &str) -> Vec<&'a str> {
    values.as_array().unwrap().iter().map(|value| value[key].as_str().unwrap()).collect()
}

#[test]
fn every_path_moves_every_item_and_the_results_keep_to_the_schema() {
    let server = Redis::start(&[]);
    let files = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    let arguments = format!(
        "{SMALL} --paths broker redis file shm peer --ps-host 127.0.0.1 --ps-port {} --ps-file-dir {} --repeat 6 --verify",
        server.port,
        files.path().display()
    );
    let output = bench.compare_paths(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let results = bench.results();
    let schema = crate::support::read_json(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/results.schema.json").as_ref());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&results).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);

    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 5 * 2 * 6);
    for trial in trials {
        assert_complete(trial);
        match trial["path"].as_str().unwrap() {
            "broker" => assert_eq!((trial["method"].as_str(), trial["connector"].as_str()), (Some("default"), None)),
            path => assert_eq!((trial["method"].as_str(), trial["connector"].as_str()), (Some("proxy"), Some(path))),
        }
    }
    let of_a_turn =
        |turn: &[Value]| turn.iter().map(|trial| trial["path"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert!(trials.chunks(5).all(|turn| of_a_turn(turn).len() == 5));
    let first: BTreeSet<_> = trials.chunks(5).map(|turn| turn[0]["path"].as_str().unwrap()).collect();
    assert_eq!(first.len(), 5, "one path came first too often: {first:?}");

    assert_eq!(texts(&results["break_evens"], "path"), ["redis", "file", "shm", "peer"]);
    for found in results["break_evens"].as_array().unwrap() {
        assert_eq!(found["break_even"]["rounds"], 6, "{found}");
        assert!(found["break_even"]["interval"]["coverage"].as_f64().unwrap() >= 0.95, "{found}");
    }
    let to_peer: Vec<_> =
        results["path_ratios"].as_array().unwrap().iter().filter(|ratio| ratio["to"] == "peer").collect();
    assert_eq!(to_peer.len(), 4 * 2);
    assert!(to_peer.iter().all(|ratio| ratio["goodput"]["n"] == 6), "{to_peer:#?}");

    let told = String::from_utf8(output.stdout).unwrap();
    for part in ["vs peer", "carries more than", "Where workers reach the data directly, "] {
        assert!(told.contains(part), "{told}");
    }
    let chart = fs::read_to_string(bench.run_directory().join("paths.svg")).unwrap();
    assert!(
        ["broker", "redis", "file", "shm"].iter().all(|path| chart.contains(&format!(">\n{path}\n</text>"))),
        "{chart}"
    );
    let csv = fs::read_to_string(bench.run_directory().join("results.csv")).unwrap();
    assert!(csv.lines().next().unwrap().contains(",path,"), "{csv}");
}

#[test]
fn a_path_that_cannot_be_used_is_left_out() {
    let (_, nowhere) = NOBODY.rsplit_once(':').unwrap();
    let bench = Bench::new();
    let arguments = format!("{SMALL} --paths redis broker shm --ps-host 127.0.0.1 --ps-port {nowhere} --repeat 1");
    let output = bench.compare_paths(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = text(&output);
    assert_eq!(told.matches("--paths redis is left out: ").count(), 1, "{told}");
    assert!(told.contains("redis could not be used."), "{told}");
    let results = bench.results();
    assert_eq!(texts(&results["unusable_paths"], "path"), ["redis"]);
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(
        texts(&results["trials"], "path").into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from(["broker", "shm"])
    );
    trials.iter().for_each(assert_complete);
    assert!(trials.iter().enumerate().all(|(place, trial)| trial["index"] == place));

    let bench = Bench::new();
    let arguments = format!("{SMALL} --paths redis broker --ps-host 127.0.0.1 --ps-port {nowhere}");
    let output = bench.compare_paths(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).starts_with("error: --paths redis: "), "{}", text(&output));
    assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 0, "nothing ran");
}

#[test]
fn scistream_paths_run_beside_the_others() {
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let bench = Bench::new();
    let arguments = format!(
        "{SMALL} --paths broker broker-via-scistream peer scistream:copy scistream:quic --stream redis --stream-servers {} --repeat 2 \
         --verify",
        server.address()
    );
    let output = bench.compare_paths(&arguments).output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("Through gateways, "), "{told}");
    let results = bench.results();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 5 * 2 * 2);
    trials.iter().for_each(assert_complete);
    for trial in trials.iter().filter(|trial| trial["path"].as_str().unwrap().starts_with("scistream")) {
        assert_eq!(trial["connector"], "scistream");
        assert_eq!(crate::support::in_role(trial, "gateway").len(), 2, "{trial:#}");
    }
    assert_eq!(results["environment"]["broker"]["via"]["paths"][0]["target"], server.address());
    let to_both: BTreeSet<_> = texts(&results["break_evens"], "to").into_iter().collect();
    assert_eq!(to_both, BTreeSet::from(["broker", "broker-via-scistream"]));
}

#[test]
fn what_was_recorded_runs_again_as_a_recipe() {
    let bench = Bench::new();
    let output = bench.compare_paths(&format!("{SMALL} --paths shm peer --repeat 1")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let recorded = bench.results()["options"].as_object().unwrap().clone();
    let given =
        recorded.iter().filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    let recipe: String = given.map(|(name, value)| format!("{name} = {value}\n")).collect();
    let path = bench.directory.path().join("again.toml");
    fs::write(&path, recipe).unwrap();
    let output = bench.compare_paths(&format!("--recipe {} --dry-run", path.display())).output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("20 items in each trial") && told.contains("4 trials"), "{told}");
    assert!(told.contains("path shm: ") && told.contains("path peer: ") && !told.contains("WARNING"), "{told}");
}

#[test]
fn the_committed_recipe_plans() {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../runs/paths.toml");
    let output = Bench::new().compare_paths(&format!("--recipe {recipe} --dry-run")).output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("path broker: memory") && told.contains("paths.svg") && !told.contains("WARNING"), "{told}");
}

#[test]
fn bad_input_is_one_line() {
    for (arguments, line) in [
        (
            "--paths broker disk",
            "--paths disk: unknown; there are: broker, broker-via-scistream, scistream:TYPE, endpoint, file,",
        ),
        ("--paths broker daos", "--paths daos: not in this version; there are: broker,"),
        ("--paths broker scistream:ucx", "--paths scistream:ucx: "),
        (
            "--paths broker-via-scistream shm",
            "--paths broker-via-scistream: --stream memory: it has no server behind a gateway",
        ),
        ("--paths shm shm", "--paths shm: one path alone has nothing to be compared with"),
        ("--ps-connector redis", "--ps-connector redis: psbench compare-paths has --paths in its place"),
        ("--stream-method proxy", "--stream-method proxy: psbench compare-paths has --paths in its place"),
        ("--paths broker file", "--paths file: --ps-connector file needs --ps-file-dir (or leave file out)"),
        ("--generator external --interop proxystore", "--generator external: another program's stream takes one path"),
        ("--data-size-bytes 0", "--data-size-bytes 0: an item has at least 1 byte"),
    ] {
        let bench = Bench::new();
        let output = bench.compare_paths(arguments).output().unwrap();
        let told = text(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.starts_with(&format!("error: {line}")) && told.trim_end().lines().count() == 1, "{told}");
    }
    let output = Bench::new().run("--paths shm peer");
    assert!(text(&output).starts_with("error: --paths is no option of psbench stream-scaling"), "{}", text(&output));
}

#[test]
fn help_shows_what_paths_replace_in_their_place() {
    let help = |subcommand: &str| {
        let output = assert_cmd::Command::cargo_bin("psbench").unwrap().args([subcommand, "--help"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (compare, scale) = (help("compare-paths"), help("stream-scaling"));
    for option in ["--stream-method", "--ps-connector "] {
        assert!(scale.contains(option) && !compare.contains(&format!("\n      {option}")), "{option}");
    }
    assert!(compare.contains("--paths") && !scale.contains("--paths"));
    assert!(compare.contains("[default: 6]"), "{compare}");
}
