//! The main job, end to end: the real program, real worker processes, a real Redis.

use std::collections::HashSet;

use serde_json::Value;

use crate::support::{Bench, Redis, assert_complete, finish, in_role, send_signal, text, wait_until, workers_of};

const UNLIMITED: [&str; 2] = ["--client-output-buffer-limit", "pubsub 0 0 0"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_executor_broker_connector_and_method_moves_every_item() {
    let server = Redis::start(&UNLIMITED);
    let files = tempfile::tempdir().unwrap();
    let redis = server.as_connector();
    let file = format!("--ps-connector file --ps-file-dir {}", files.path().join("objects").display());
    let connectors = [
        redis.as_str(),
        &file,
        "--ps-connector peer",
        "--ps-connector peer --ps-address 127.0.0.1",
        "--ps-connector shm",
        "--ps-connector memory",
    ];
    for executor in ["thread", "process"] {
        for (n, connector) in connectors.iter().enumerate() {
            if executor == "process" && connector.ends_with("memory") {
                continue;
            }
            let broker = ["memory", "redis", "redis-queue"][n % 3];
            let servers =
                if broker == "memory" { String::new() } else { format!("--stream-servers {}", server.address()) };
            let arguments = format!(
                "--executor {executor} --max-workers 4 --stream {broker} {servers} {connector} --data-size-bytes 1000 2MB \
                 --stream-method default proxy --task-count 30 --task-sleep 1ms --verify"
            );
            let trials = Bench::new().trials(&arguments);
            assert_eq!(trials.len(), 4);
            trials.iter().for_each(assert_complete);
        }
    }
    assert_eq!(server.keys(), [""; 0], "objects or queues were left behind");
    assert_eq!(std::fs::read_dir(files.path().join("objects")).unwrap().count(), 0, "files were left behind");
}

#[test]
fn the_known_command_runs_its_six_experiments() {
    let server = Redis::start(&UNLIMITED);
    let bench = Bench::new();
    let arguments = format!(
        "--executor thread --max-workers 4 --stream-method default proxy --data-size-bytes 100000 1000000 10000000 --task-count 16 \
         --task-sleep 0.1 --ps-connector redis --ps-host localhost --ps-port {port} --stream redis --stream-servers localhost:{port}",
        port = server.port
    );
    let trials = bench.trials(&arguments);
    assert_eq!(trials.len(), 6);
    trials.iter().for_each(assert_complete);
    let csv = std::fs::read_to_string(bench.run_directory().join("results.csv")).unwrap();
    let old = "executor,connector,stream,data_size_bytes,task_count,task_sleep,method,workers,completed_tasks,\
               start_submit_tasks_timestamp,end_tasks_done_timestamp";
    assert!(csv.starts_with(old), "{csv}");
    assert_eq!(csv.lines().count(), 7);
    assert!(bench.run_directory().join("log.txt").exists());
}

#[test]
fn stages_are_stamped_and_bulk_data_passes_by_the_dispatcher() {
    let bench = Bench::new();
    let trials =
        bench.trials("--executor process --max-workers 3 --data-size-bytes 1MB --task-count 20 --task-sleep 0.01");
    let [default, proxy] = &trials[..] else { panic!("{trials:#?}") };
    let stages = |trial: &Value| trial["latency"].as_object().unwrap().keys().cloned().collect::<HashSet<_>>();
    let by_proxy: HashSet<String> = ["store", "resolve", "lifetime"].map(Into::into).into();
    assert_eq!(stages(proxy).difference(&stages(default)).cloned().collect::<HashSet<_>>(), by_proxy);
    for trial in &trials {
        assert!(trial["latency"].as_object().unwrap().values().all(|latency| latency["count"] == 20), "{trial:#}");
        assert!(number(&trial["latency"]["work"]["min_ns"]) >= 10e6);
        assert!(number(&trial["latency"]["end_to_end"]["min_ns"]) >= number(&trial["latency"]["work"]["min_ns"]));
        let roles: Vec<_> =
            trial["processes"].as_array().unwrap().iter().map(|process| process["role"].as_str().unwrap()).collect();
        assert_eq!(roles.iter().filter(|role| **role == "generator").count(), 1, "{roles:?}");
        assert_eq!(roles.len(), 4, "{roles:?}");
        assert!(
            trial["processes"].as_array().unwrap().iter().all(|process| number(&process["peak_memory_bytes"]) > 1e6)
        );
    }
    assert!(number(&default["dispatcher_bytes"]["received"]) > 20e6);
    assert!(number(&proxy["dispatcher_bytes"]["received"]) < 20.0 * 300.0, "{}", proxy["dispatcher_bytes"]);
}

#[test]
fn results_keep_to_the_committed_schema() {
    let bench = Bench::new();
    bench.trials("--executor thread --max-workers 3 --data-size-bytes 1kB --task-count 10 --task-sleep 0 --repeat 3");
    let schema = crate::support::read_json(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/results.schema.json").as_ref());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let results = bench.results();
    let errors: Vec<String> = validator.iter_errors(&results).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    let order: Vec<&str> =
        results["trials"].as_array().unwrap().iter().map(|trial| trial["method"].as_str().unwrap()).collect();
    assert_eq!(order, ["default", "proxy", "default", "proxy", "default", "proxy"]);
}

#[test]
fn a_short_first_trial_is_preceded_by_one_that_is_not_recorded() {
    let warms_up = |arguments: &str| {
        let bench = Bench::new();
        let arguments = format!("--executor thread --max-workers 3 --data-size-bytes 1kB {arguments}");
        assert_eq!(bench.trials(&arguments).len(), 2);
        std::fs::read_to_string(bench.run_directory().join("log.txt")).unwrap().contains("warming up")
    };
    assert!(warms_up("--task-count 10 --task-sleep 0"));
    assert!(!warms_up("--task-count 5 --task-sleep 0.5"));
}

#[test]
fn the_pace_is_kept() {
    let trials = Bench::new().trials("--executor thread --max-workers 4 --stream-method default --data-size-bytes 1kB --task-count 51 --task-sleep 0 --rate 100/s");
    let rates = &trials[0]["rates"];
    assert_eq!(number(&rates["scheduled_items_per_s"]), 100.0);
    // Never early, and a busy machine may be late.
    let took = number(&trials[0]["end_tasks_done_timestamp"]) - number(&trials[0]["start_submit_tasks_timestamp"]);
    assert!(took >= 0.5, "51 items, of which the last is due after half a second, took {took} s");
}

#[test]
fn objects_can_stay_to_the_end_and_late_items_are_counted() {
    let server = Redis::start(&[]);
    let arguments = format!(
        "--executor process --max-workers 3 --stream-method proxy --data-size-bytes 10kB --task-count 20 --task-sleep 5ms --ps-lifetime run \
         --ps-connector redis --ps-host 127.0.0.1 --ps-port {} --deadline 1ms --verify",
        server.port
    );
    let trials = Bench::new().trials(&arguments);
    assert_complete(&trials[0]);
    assert_eq!(trials[0]["items"]["late"], 20);
    assert_eq!(server.keys(), [""; 0]);
}

#[test]
fn the_quick_recipe_runs_and_tells_of_what_its_latencies_are() {
    let bench = Bench::new();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../runs/quick.toml");
    let output = bench.run(&format!("--recipe {recipe} --task-count 50"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let results = bench.results();
    results["trials"].as_array().unwrap().iter().for_each(assert_complete);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("Saturated stream (--rate max)") && told.contains("queued"), "{told}");
    // Both methods have the same bound.
    let bounds: Vec<_> =
        results["trials"].as_array().unwrap().iter().map(|trial| &trial["max_inflight_items"]).collect();
    assert!(bounds.chunks(2).all(|pair| pair[0].is_u64() && pair[0] == pair[1]), "{bounds:?}");
    let paced = Bench::new().run("--max-workers 2 --data-size-bytes 1kB --task-count 5 --rate 100/s");
    assert!(!text(&paced).contains("aturated") && !text(&paced).contains("under way"), "{}", text(&paced));
}

#[test]
fn frames_of_a_file_are_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let frames = directory.path().join("frames");
    std::fs::write(&frames, (0..=255).cycle().take(10_000).collect::<Vec<u8>>()).unwrap();
    let arguments = format!(
        "--executor process --max-workers 2 --data-size-bytes 4kB --task-count 9 --task-sleep 0 --task sum --verify --payload-file {}",
        frames.display()
    );
    let trials = Bench::new().trials(&arguments);
    trials.iter().for_each(assert_complete);
    assert_eq!(trials[0]["payload"], "file (2 variants)");
}

#[test]
fn spinning_tasks_use_the_processor() {
    let trials = Bench::new().trials("--executor process --max-workers 2 --stream-method default --data-size-bytes 1kB --task-count 4 --task spin --task-sleep 500ms");
    assert_complete(&trials[0]);
    let cpu: f64 =
        trials[0]["processes"].as_array().unwrap().iter().map(|process| number(&process["cpu_seconds"])).sum();
    // 2 s of spinning, of which a busy machine leaves a part; sleeping takes some milliseconds.
    assert!(cpu > 0.2, "{cpu} CPU seconds");
}

#[test]
fn a_task_starts_when_any_worker_is_free() {
    let (server, bench) = (Redis::start(&[]), Bench::new());
    let arguments = format!(
        "--executor process --max-workers 4 --stream-method proxy --data-size-bytes 1kB --task-count 90 --task-sleep 50ms --rate max {}",
        server.as_connector()
    );
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("tasks run", || server.resolved() > 3);
    let stopped = workers_of(child.id())[1];
    send_signal(stopped, "STOP");
    wait_until("the others run all but its one", || server.keys().len() <= 1);
    send_signal(stopped, "CONT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let trial = &bench.results()["trials"][0];
    assert_complete(trial);
    let tasks: Vec<u64> = in_role(trial, "worker").iter().map(|worker| worker["tasks"].as_u64().unwrap()).collect();
    assert!(tasks.len() == 3 && tasks.iter().any(|tasks| *tasks < 30), "{tasks:?}");
}

#[test]
fn two_runs_at_one_broker_with_one_topic_do_not_mix() {
    let server = Redis::start(&UNLIMITED);
    let benches = [Bench::new(), Bench::new()];
    let arguments = format!(
        "--executor thread --max-workers 3 --stream redis --stream-servers {} --stream-topic same --stream-method default \
         --data-size-bytes 1kB --task-count 2000 --task-sleep 0.5ms",
        server.address()
    );
    let running: Vec<_> = benches.iter().map(|bench| bench.command(&arguments).spawn().unwrap()).collect();
    for (child, bench) in running.into_iter().zip(&benches) {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_complete(&bench.results()["trials"][0]);
    }
}

#[test]
fn many_workers_and_a_deep_prefetch_move_every_item() {
    for executor in ["thread", "process"] {
        let arguments = format!(
            "--executor {executor} --max-workers 9 --prefetch 16 --data-size-bytes 100 300kB --task-count 3000 --task-sleep 0 --verify"
        );
        Bench::new().trials(&arguments).iter().for_each(assert_complete);
    }
}

/// The dispatcher's peak of memory in each trial, bytes.
fn dispatcher_memory(trials: &[Value]) -> Vec<f64> {
    let dispatcher = |trial: &Value| {
        let processes = trial["processes"].as_array().unwrap();
        number(&processes.iter().find(|process| process["role"] == "dispatcher").unwrap()["peak_memory_bytes"])
    };
    trials.iter().map(dispatcher).collect()
}

#[test]
fn under_proxies_the_dispatchers_memory_is_flat() {
    let trials = Bench::new()
        .trials("--max-workers 3 --data-size-bytes 1kB 20MB --stream-method default proxy --task-count 40 --repeat 2");
    trials.iter().for_each(assert_complete);
    let memory = dispatcher_memory(&trials);
    // Whatever the default trials in between have needed.
    let proxies: Vec<f64> = memory.iter().skip(1).step_by(2).copied().collect();
    let most = proxies.iter().copied().fold(0.0, f64::max);
    assert!(proxies.iter().all(|memory| most - memory < 5e6), "{memory:?}");
    assert!(memory[6] > most + 10e6, "the default method held items of 20 MB: {memory:?}");
}

#[test]
fn in_flight_bytes_bound_the_dispatchers_memory() {
    let trials = |limit: &str| {
        let options = "--max-workers 5 --data-size-bytes 10MB --stream-method default --task-count 36 --prefetch 2";
        Bench::new().trials(&format!("{options} --task-sleep 200ms --rate max {limit}"))
    };
    let bounded = trials("--max-inflight-bytes 20MB");
    assert_complete(&bounded[0]);
    // What it holds, what the broker inside it holds, each with a message above its bound, one on its way in, three that the
    // allocator keeps for the next ones, and itself: mostly pages of a program that is not optimised.
    let most = 20e6 + 16.0 * 1048576.0 + 3.0 * 10e6 + 3.0 * 10e6 + 60e6;
    let memory = dispatcher_memory(&bounded)[0];
    assert!(memory < most, "{memory} bytes, at most {most}");
    let memory = dispatcher_memory(&trials(""))[0];
    assert!(memory > most, "12 items of 10 MB were to be outstanding: {memory} bytes, more than {most}");
}
