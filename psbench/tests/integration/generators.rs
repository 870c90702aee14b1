//! Several generators of one stream, end to end.

use std::collections::BTreeMap;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::Value;

use crate::support::{
    Bench, Redis, assert_balanced, assert_complete, finish, interrupt_twice, problems, send_signal, text, wait_until,
    workers_of,
};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// When each item of a trial passed a stage, by its number, ns.
fn stamps(bench: &Bench, trial: usize, stage: &str) -> BTreeMap<u64, i64> {
    let file = std::fs::File::open(bench.run_directory().join(format!("trace-{trial:04}.parquet"))).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let fields: Vec<String> =
        reader.metadata().file_metadata().schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
    let column = |name: &str| fields.iter().position(|field| field == name).unwrap();
    let (sequence, stage) = (column("sequence"), column(stage));
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| (row.get_ulong(sequence).unwrap(), row.get_long(stage).unwrap())).collect()
}

#[test]
fn every_executor_broker_and_method_moves_the_items_of_all_generators_in_order() {
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    for (executor, generators, connector) in [
        ("process", 2, "--ps-connector peer".to_owned()),
        ("process", 3, server.as_connector()),
        ("thread", 3, server.as_connector()),
        ("thread", 2, "--ps-connector memory".to_owned()),
        ("thread", 2, "--ps-connector shm".to_owned()),
    ] {
        for broker in ["memory", "redis", "redis-queue"] {
            let servers =
                if broker == "memory" { String::new() } else { format!("--stream-servers {}", server.address()) };
            let arguments = format!(
                "--executor {executor} --max-workers {workers} --generators {generators} --stream {broker} {servers} {connector} \
                 --data-size-bytes 200kB --stream-method default proxy --task-count 60 --verify --prefetch 2",
                workers = generators + 2
            );
            let trials = Bench::new().trials(&arguments);
            assert_eq!(trials.len(), 2);
            for trial in &trials {
                assert_complete(trial);
                assert_balanced(trial);
                assert_eq!((&trial["problems"], &trial["generators"]), (&Value::Array(vec![]), &generators.into()));
                if trial["method"] == "proxy" {
                    assert_eq!(trial["store"]["puts"], 60, "{}", trial["store"]);
                }
                let processes = trial["processes"].as_array().unwrap();
                let generating = processes.iter().filter(|process| process["role"] == "generator").count();
                assert_eq!(generating, if executor == "process" { generators } else { 0 });
            }
        }
    }
    assert_eq!(server.keys(), [""; 0], "objects or queues were left behind");
}

#[test]
fn generators_take_turns_at_the_rate_asked_for() {
    for executor in ["process", "thread"] {
        let bench = Bench::new();
        let trials = bench.trials(&format!(
            "--executor {executor} --max-workers 6 --generators 3 --stream-method default --data-size-bytes 1kB --task-count 100 \
             --rate 100/s --trace"
        ));
        assert_complete(&trials[0]);
        let rates = &trials[0]["rates"];
        assert_eq!(number(&rates["scheduled_items_per_s"]), 100.0);
        let [due, made] = ["scheduled", "created"].map(|stage| stamps(&bench, 0, stage));
        assert_eq!(due.keys().copied().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        for (item, at) in &due {
            let late = at - due[&0] - *item as i64 * 10_000_000;
            assert!(late.abs() < 1000, "item {item} was due {late} ns after its place in the stream");
            assert!(made[item] >= *at, "item {item} was made {} ns too early", at - made[item]);
        }
    }
}

#[test]
fn a_task_time_is_shared_by_those_that_compute() {
    let trials = Bench::new().trials(
        "--executor thread --max-workers 6 --generators 2 --stream-method default --data-size-bytes 1kB --task-count 20 --task-sleep 40ms",
    );
    assert_complete(&trials[0]);
    // Four compute for 40 ms each: an item each 10 ms.
    assert_eq!(number(&trials[0]["rates"]["scheduled_items_per_s"]), 100.0);
    assert_eq!(number(&trials[0]["rates"]["ideal_items_per_s"]), 100.0);
}

/// The most items that were made and not yet done with at a time.
fn under_way(bench: &Bench, trial: usize) -> i32 {
    let of = |stage, by| stamps(bench, trial, stage).into_values().map(move |at| (at, by));
    // Of one instant those that go first.
    let mut changes: Vec<(i64, i32)> = of("created", 1).chain(of("recorded", -1)).collect();
    changes.sort_unstable();
    let sums = changes.into_iter().scan(0, |sum, (_, by)| {
        *sum += by;
        Some(*sum)
    });
    sums.max().unwrap()
}

#[test]
fn by_either_method_no_more_items_are_under_way_than_may_be() {
    let server = Redis::start(&[]);
    for (executor, generators, broker) in
        [("process", 1, "memory"), ("process", 2, "redis"), ("thread", 3, "redis-queue")]
    {
        let bench = Bench::new();
        let servers = if broker == "memory" { String::new() } else { format!("--stream-servers {}", server.address()) };
        let trials = bench.trials(&format!(
            "--executor {executor} --max-workers {} --generators {generators} --stream {broker} {servers} --data-size-bytes 1kB \
             --task-count 300 --rate max --max-inflight-items 7 --trace",
            generators + 2
        ));
        for (n, trial) in trials.iter().enumerate() {
            assert_complete(trial);
            assert_eq!(trial["max_inflight_items"], 7);
            let most = under_way(&bench, n);
            assert!((1..=7).contains(&most), "{most} items were under way: {executor}, {broker}");
        }
    }
}

#[test]
fn as_fast_as_they_can_three_generators_lose_and_reorder_nothing() {
    for method in ["default", "proxy"] {
        let trials = Bench::new().trials(&format!(
            "--executor process --max-workers 5 --generators 3 --stream-method {method} --data-size-bytes 1kB --task-count 5000 \
             --rate max --prefetch 16"
        ));
        assert_complete(&trials[0]);
    }
}

#[test]
fn a_killed_generator_ends_the_trial_when_the_others_have_done_their_part() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor process --max-workers 5 --generators 2 --data-size-bytes 10kB --task-count 100 --task-sleep 0.1 --rate 25/s \
         --stream-method proxy {} --stream redis-queue --stream-servers {} --repeat 2",
        server.as_connector(),
        server.address()
    );
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("items of both come", || server.resolved() >= 10);
    let workers = workers_of(child.id());
    assert_eq!(workers.len(), 5);
    // The generators' workers are the first two.
    send_signal(workers[1], "KILL");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let results = bench.results();
    let trial = &results["trials"][0];
    assert_balanced(trial);
    assert_eq!((&trial["status"], &trial["items"]["reordered"]), (&"incomplete".into(), &0.into()), "{trial:#}");
    let finished = trial["items"]["finished"].as_u64().unwrap();
    assert!((51..100).contains(&finished), "all 50 of the other one, and some: {}", trial["items"]);
    let problems = problems(trial);
    let named = ["generator 1: worker 1", "signal 9", "generator 1 did not tell"];
    assert!(named.iter().all(|part| problems.contains(part)), "{problems}");
    assert!(!problems.contains("generator 0") && !problems.contains("did not come within"), "{problems}");
    assert_complete(&results["trials"][1]);
    assert_eq!(server.keys(), [""; 0], "objects of the killed generator were left behind");
}

#[test]
fn an_interrupt_ends_all_generators() {
    for executor in ["process", "thread"] {
        let (server, bench) = (Redis::start(&[]), Bench::new());
        let arguments = format!(
            "--executor {executor} --max-workers 4 --generators 2 --data-size-bytes 1kB --task-count 2000 --rate 20/s --stream-method proxy {}",
            server.as_connector()
        );
        let child = bench.command(&arguments).spawn().unwrap();
        wait_until("items of both come", || server.resolved() >= 10);
        send_signal(child.id(), "INT");
        let output = finish(child);
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
        let trial = &bench.results()["trials"][0];
        assert_balanced(trial);
        assert_eq!(trial["status"], "interrupted");
        let items = &trial["items"];
        assert_eq!(items["lost"], 0, "{items}");
        assert_eq!(items["orphaned"], items["failed"], "those whose tasks had not begun: {items}");
        assert!((10..2000).contains(&trial["items"]["finished"].as_u64().unwrap()), "{}", trial["items"]);
    }
}

#[test]
fn a_second_interrupt_leaves_no_objects_of_any_generator() {
    let server = Redis::start(&[]);
    let bench = Bench::new();
    let arguments = format!(
        "--executor thread --max-workers 4 --generators 2 --data-size-bytes 1kB --task-count 200 --task-sleep 3600 --rate max \
         --stream-method proxy {}",
        server.as_connector()
    );
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("all objects are stored", || server.keys().len() >= 190);
    interrupt_twice(&child, &bench);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_eq!(server.keys(), [""; 0], "objects were left behind");
}

#[test]
fn numbers_that_make_no_trial_are_refused() {
    for (arguments, line) in [
        ("--generators 0", "--generators 0: write a number from 1 to 1024"),
        ("--generators 3 --max-workers 3", "--max-workers 3: at least 4 workers: 3 generate, the others compute"),
        ("--generators 3 --max-workers 8 2", "--max-workers 2: at least 4 workers: 3 generate, the others compute"),
        ("--generators 3 --task-count 2", "--generators 3: more than --task-count 2; write at most as many"),
        (
            "--generators 2 --interop proxystore --stream redis --ps-connector redis",
            "--generators 2: with --interop proxystore the first end of a stream ends its consumer; write 1",
        ),
        (
            "--generators 2 --interop proxystore --generator external --stream redis --ps-connector redis",
            "--generators 2: another program generates with --generator external; leave one of the two out",
        ),
        (
            "--generators 2 --ps-address 127.0.0.1 --ps-port 7000",
            "--ps-port 7000: each of 2 generators listens at a port of its own; leave it out for free ones",
        ),
        (
            "--generators 2 --max-workers 4 --cpu-affinity list:0:0:0",
            "--cpu-affinity list:0:0:0: cores for 3 of 4 worker processes; write as many sets",
        ),
    ] {
        let output = Bench::new().run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", text(&output));
        assert_eq!(text(&output).trim(), format!("error: {line}"), "{arguments}");
    }
    let output = Bench::new().run("--generators 5 --dry-run");
    assert!(output.status.success() && text(&output).contains("by 5 generators"), "{}", text(&output));
}
