//! `--trace`: what psbench writes, pandas and DuckDB read.

use std::path::Path;
use std::process::Command;

use crate::support::{Bench, Redis, assert_complete, finish, python, send_signal, text, wait_until};
use serde_json::Value;

/// What `tests/python/trace.py` finds in the traces of a run.
fn read(run: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/trace.py");
    let mut traces: Vec<_> = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()).collect();
    traces.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    let output = Command::new(python()).arg(script).args(traces).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn pandas_and_duckdb_read_every_item() {
    let bench = Bench::new();
    let trials =
        bench.trials("--trace --max-workers 3 --data-size-bytes 1kB --task-count 5000 --stream-method default proxy");
    trials.iter().for_each(assert_complete);
    let found = read(&bench.run_directory());
    assert_eq!((&found["rows"], &found["in_order"]), (&10_000.into(), &true.into()), "{found}");
    assert!(found["types"].as_str().unwrap().starts_with("datetime64[ns"), "{found}");
    let first = found["first"].as_f64().unwrap();
    let started = trials[0]["start_submit_tasks_timestamp"].as_f64().unwrap();
    assert!((first - started).abs() < 60.0, "{first} is not about {started}");
    for (n, method) in ["default", "proxy"].iter().enumerate() {
        let [name, rows, sequences, stored, resolved, bytes, longest, failures] =
            &found["methods"][n].as_array().unwrap()[..]
        else {
            panic!("{found}");
        };
        assert_eq!((name, rows, sequences), (&(*method).into(), &5000.into(), &5000.into()));
        let by_proxy: Value = if *method == "proxy" { 5000.into() } else { 0.into() };
        assert_eq!((stored, resolved), (&by_proxy, &by_proxy));
        assert_eq!((bytes, failures), (&5_000_000.into(), &0.into()));
        // The histogram has three digits.
        let recorded = trials[n]["latency"]["end_to_end"]["max_ns"].as_f64().unwrap();
        let longest = longest.as_f64().unwrap();
        assert!((longest - recorded).abs() <= recorded * 0.002, "{longest} is not {recorded}");
    }
}

#[test]
fn items_that_failed_are_in_the_trace_with_their_reason() {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let options =
        "--trace --max-workers 2 --stream-method proxy --data-size-bytes 1kB --task-count 20 --task-sleep 2 --rate max";
    let child = bench.command(&format!("{options} {}", server.as_connector())).spawn().unwrap();
    wait_until("a task runs", || server.resolved() > 0);
    send_signal(child.id(), "INT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let items = bench.results()["trials"][0]["items"].clone();
    let found = read(&bench.run_directory());
    assert_eq!(found["rows"], items["generated"], "{items}");
    let failures = found["failures"].as_array().unwrap();
    assert_eq!(items["failed"], failures.len(), "{found}");
    assert!(failures.iter().any(|reason| reason.as_str().unwrap().contains("not run")), "{found}");
}
