//! Whole trials of psbench beside the limit of what they run on: `cargo bench -p psbench --bench limits`.
//!
//! Each round measures the limit and the trial one after the other; what is printed are medians of rounds and their ratio. Compare ratios:
//! absolute figures are the machine's. Needs `redis-server`, `redis-benchmark` and `iperf3`; a row whose program is missing says so.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark has nobody to tell its errors")]

use std::fs;
use std::hint::black_box;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "../tests/integration/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the rest is for the tests")]
mod support;

use support::{Bench, Redis, free_port, text};

const LARGE: usize = 10_000_000;
const SMALL: usize = 1000;
const ROUNDS: usize = 3;
/// Items of a trial of large and of small items: about a second each.
const LARGE_ITEMS: usize = 400;
const SMALL_ITEMS: usize = 40_000;
/// Commands sent ahead of their answers by redis-benchmark: as many as psbench's generator stores together.
const PIPELINE: &str = "64";

fn main() {
    let redis = Redis::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let files = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let port = redis.port;
    println!("{LARGE} B by proxy, process executor, 3 workers, no task time, payloads made ahead; GB/s");
    println!("{:>16} {:>10} {:>10} {:>8}  limit", "path", "psbench", "limit", "ratio");
    let file = format!("--ps-connector file --ps-file-dir {}", files.path().display());
    let in_redis = format!("--ps-connector redis --ps-host 127.0.0.1 --ps-port {port}");
    row("shm", "memcpy, one thread", || bulk("--ps-connector shm"), || Ok(memcpy()));
    row("peer, unix", "iperf3, one stream over loopback TCP", || bulk("--ps-connector peer"), iperf3);
    let tcp = "--ps-connector peer --ps-address 127.0.0.1";
    row("peer, tcp", "iperf3, one stream over loopback TCP", || bulk(tcp), iperf3);
    let set_get = || redis_benchmark(port, LARGE, "1", &["set", "get"]).map(|each| LARGE as f64 / each / 1e9);
    row("redis", "redis-benchmark, SET and GET", || bulk(&in_redis), set_get);
    row("file", "write, read and remove, page cache", || bulk(&file), || Ok(page_cache(files.path())));

    println!("\n{SMALL} B by proxy over Redis and the redis connector; thousands of items a second");
    println!("{:>16} {:>10} {:>10} {:>8}  limit", "prefetch", "psbench", "limit", "ratio");
    let commands = ["publish channel", "set", "get", "del"];
    for prefetch in [0, 16] {
        let options = format!(
            "{in_redis} --stream redis --stream-servers 127.0.0.1:{port} --prefetch {prefetch} --data-size-bytes {SMALL} \
             --task-count {SMALL_ITEMS}"
        );
        let limit = || redis_benchmark(port, SMALL, PIPELINE, &commands).map(|each| 1e-3 / each);
        let label = format!("redis-benchmark, {} of each item, {PIPELINE} together", commands.join(", "));
        row(&prefetch.to_string(), &label, || rate(&trial(&options), "items_per_s") / 1e3, limit);
    }

    println!("\nthe dispatcher under proxies, 20 items/s");
    println!("{:>16} {:>12} {:>16}", "bytes", "memory, MB", "CPU, µs an item");
    for size in [SMALL, 100_000, LARGE, 10 * LARGE] {
        let dispatcher = |items: usize| {
            let trial =
                trial(&format!("--data-size-bytes {size} --task-count {items} --rate 20/s --ps-memory-limit 2GB"));
            let processes = trial["processes"].as_array().unwrap();
            let dispatcher = processes.iter().find(|process| process["role"] == "dispatcher").unwrap();
            ["peak_memory_bytes", "cpu_seconds"].map(|name| dispatcher[name].as_f64().unwrap())
        };
        // Less what starting and ending the workers costs.
        let ([_, short], [memory, long]) = (dispatcher(20), dispatcher(160));
        println!("{size:>16} {:>12.1} {:>16.0}", memory / 1e6, (long - short) / 140.0 * 1e6);
    }
}

/// One row: medians of psbench and its limit, in turns, and the median of their ratios.
fn row(path: &str, limit_is: &str, psbench: impl Fn() -> f64, limit: impl Fn() -> Result<f64, String>) {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        match limit() {
            Ok(limit) => rounds.push((psbench(), limit)),
            Err(missing) => return println!("{path:>16} {missing}"),
        }
    }
    let figure = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let (mine, limits, ratio) = (figure(&|round| round.0), figure(&|round| round.1), figure(&|(a, b)| a / b));
    println!("{path:>16} {mine:>10.2} {limits:>10.2} {ratio:>8.2}  {limit_is}");
}

/// Goodput of a trial of large items, GB/s.
fn bulk(connector: &str) -> f64 {
    let options = format!("{connector} --data-size-bytes {LARGE} --task-count {LARGE_ITEMS} --prefetch 1");
    rate(&trial(&options), "goodput_bytes_per_s") / 1e9
}

fn trial(options: &str) -> Value {
    let bench = Bench::new();
    let options = format!("--stream-method proxy --max-workers 3 --task-sleep 0 --pregenerate always {options}");
    let output = bench.run(&options);
    assert!(output.status.success(), "{}", text(&output));
    bench.results()["trials"][0].clone()
}

fn rate(trial: &Value, name: &str) -> f64 {
    trial["rates"][name].as_f64().unwrap()
}

/// Copies between warm buffers of an item's size, GB/s.
fn memcpy() -> f64 {
    let (from, mut to) = (vec![1_u8; LARGE], vec![vec![2_u8; LARGE]; 4]);
    let started = Instant::now();
    for n in 0..LARGE_ITEMS {
        to[n % 4].copy_from_slice(black_box(&from));
        black_box(&mut to);
    }
    (LARGE * LARGE_ITEMS) as f64 / started.elapsed().as_secs_f64() / 1e9
}

/// Files of an item's size written, read and removed, one after the other, GB/s.
fn page_cache(dir: &Path) -> f64 {
    let (object, mut read) = (vec![1_u8; LARGE], vec![0_u8; LARGE]);
    let path = dir.join("limit");
    let started = Instant::now();
    for _ in 0..LARGE_ITEMS / 4 {
        fs::write(&path, &object).unwrap();
        std::io::Read::read_exact(&mut fs::File::open(&path).unwrap(), &mut read).unwrap();
        fs::remove_file(&path).unwrap();
    }
    (LARGE * LARGE_ITEMS / 4) as f64 / started.elapsed().as_secs_f64() / 1e9
}

/// Seconds that the server needs for these commands on one value of `size` bytes, each measured alone.
fn redis_benchmark(port: u16, size: usize, pipeline: &str, commands: &[&str]) -> Result<f64, String> {
    let requests = if size == LARGE { LARGE_ITEMS } else { SMALL_ITEMS * 5 }.to_string();
    commands.iter().try_fold(0.0, |sum, command| {
        let mut run = Command::new("redis-benchmark");
        run.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "3", "-P", pipeline, "-n", &requests, "--csv"]);
        match *command {
            "set" | "get" => run.args(["-t", command, "-d", &size.to_string()]),
            other => run.args(other.split(' ')).arg("x".repeat(100)),
        };
        let output = found("redis-benchmark", run.output())?;
        let line = text(&output);
        let rate = line.lines().last().and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse::<f64>().ok());
        Ok(sum + 1.0 / rate.unwrap_or_else(|| panic!("redis-benchmark {command}: {line}")))
    })
}

/// One stream over loopback TCP, GB/s.
fn iperf3() -> Result<f64, String> {
    let port = free_port().to_string();
    let mut server: Child = found(
        "iperf3",
        Command::new("iperf3").args(["-s", "-1", "-B", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).spawn(),
    )?;
    let rate = (0..50).find_map(|_| {
        sleep(Duration::from_millis(20));
        let output = Command::new("iperf3").args(["-c", "127.0.0.1", "-p", &port, "-t", "2", "-J"]).output().ok()?;
        let report: Value = serde_json::from_slice(&output.stdout).ok()?;
        report["end"]["sum_received"]["bits_per_second"].as_f64()
    });
    server.wait().unwrap();
    Ok(rate.expect("iperf3 did not come up") / 8e9)
}

/// What a program gave, or that it is not there.
fn found<T>(program: &str, result: std::io::Result<T>) -> Result<T, String> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("not measured: {program} is not installed")),
        other => Ok(other.unwrap()),
    }
}
