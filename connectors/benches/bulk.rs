//! What it costs to bring large objects to another process of this host: shared memory beside sockets, and both beside one thread's
//! memcpy of as many bytes.
//!
//! `cargo bench -p psbench-connectors`; figures are medians of a few rounds. Compare them within one run only: the ratios are what
//! they are for.

#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell its errors")]

use std::env::{args, current_exe};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::peer::PeerAddress;
use psbench_connectors::{Connector, ConnectorConfig, KeySource, Proxy, Resolver, Secret, StoreOptions};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const READER: &str = "reader";
const LARGE: usize = 10_000_000;
/// From those that are always sent inline to those that never are.
const SIZES: [usize; 5] = [10_000, 30_000, 100_000, 1_000_000, LARGE];
/// Objects stored and not yet taken: one in the reader's hands, and the next.
const OUTSTANDING: usize = 2;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(100);

fn main() {
    match args().nth(1).as_deref() {
        Some(READER) => read(),
        _ => measure(),
    }
}

fn measure() {
    for sum in [false, true] {
        let reading = if sum { "the reader sums all bytes" } else { "the reader only takes" };
        println!("\nput here, taken by another process; {reading}; GB/s (ratio to memcpy)");
        println!("{:>10} {:>8} {:>16} {:>16} {:>16}", "bytes", "memcpy", "shm", "peer unix", "peer tcp");
        for size in if sum { &SIZES[4..] } else { &SIZES[..] } {
            let object: Bytes = (0..*size).map(|i| ((i * 31) >> 3) as u8).collect();
            let (memcpy, rates) = compare(&object, sum);
            print!("{size:>10} {memcpy:>8.2}");
            rates.iter().for_each(|rate| print!(" {rate:>8.2} ({:>5.2})", rate / memcpy));
            println!();
        }
    }
    println!("\none object of {LARGE} B at a time: microseconds to put it, and for the reader to take it");
    let object = Bytes::from(vec![1; LARGE]);
    for config in configs() {
        let mut route = Route::start(&config, false);
        route.round(&object);
        let (put, take) = route.parts(&object);
        println!("{:12} put {put:8.0}   take {take:8.0}", describe(&config));
    }
}

fn configs() -> [ConnectorConfig; 3] {
    let (secret, limit) = (Secret::default(), 1 << 30);
    [
        ConnectorConfig::Shm { path: PathBuf::new(), host: Uuid::nil(), secret, limit },
        ConnectorConfig::Peer { address: PeerAddress::private(), secret, limit },
        ConnectorConfig::Peer { address: PeerAddress::loopback(), secret, limit },
    ]
}

fn describe(config: &ConnectorConfig) -> &'static str {
    match config {
        ConnectorConfig::Shm { .. } => "shm",
        ConnectorConfig::Peer { address: PeerAddress::Unix(_), .. } => "peer unix",
        _ => "peer tcp",
    }
}

/// GB/s of memcpy and of each connector. They take turns, so that whatever else the machine does meets all of them.
fn compare(object: &Bytes, sum: bool) -> (f64, Vec<f64>) {
    let mut routes = configs().map(|config| Route::start(&config, sum));
    routes.iter_mut().for_each(|route| {
        route.round(object);
    });
    let mut rates = vec![Vec::new(); routes.len()];
    let mut copies = Vec::new();
    for _ in 0..ROUNDS {
        copies.push(copy(object));
        for (route, rates) in routes.iter_mut().zip(&mut rates) {
            rates.push(route.round(object));
        }
    }
    (median(copies), rates.into_iter().map(median).collect())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// GB/s between two buffers that were touched before.
fn copy(object: &[u8]) -> f64 {
    let mut to = vec![0; object.len()];
    let (begun, mut copies) = (Instant::now(), 0);
    while begun.elapsed() < ROUND {
        to.copy_from_slice(black_box(object));
        black_box(&mut to);
        copies += 1;
    }
    (copies * object.len()) as f64 / 1e9 / begun.elapsed().as_secs_f64()
}

/// A connector here and a process that takes what it stores. Proxies go to that through a pipe, and for each it answers how long
/// it took.
struct Route {
    connector: Arc<dyn Connector>,
    reader: Child,
    proxies: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Route {
    fn start(config: &ConnectorConfig, sum: bool) -> Self {
        let connector = config.open(KeySource::random()).unwrap();
        let mut reader = Command::new(current_exe().unwrap())
            .args([READER, &sum.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let proxies = reader.stdin.take().unwrap();
        let answers = BufReader::new(reader.stdout.take().unwrap());
        Self { connector, reader, proxies, answers }
    }

    fn put(&mut self, object: &Bytes) {
        let key = self.connector.put(object.clone()).unwrap();
        let proxy = Proxy { config: Arc::new(self.connector.config().clone()), key, checksum: None, evict: true };
        let proxy = proxy.encode().unwrap();
        self.proxies.write_all(&[&[proxy.len() as u8], &proxy[..]].concat()).unwrap();
    }

    /// Microseconds that the reader took.
    fn taken(&mut self) -> f64 {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().parse().unwrap()
    }

    /// GB/s with a few outstanding.
    fn round(&mut self, object: &Bytes) -> f64 {
        let (begun, mut objects) = (Instant::now(), 0);
        for _ in 1..OUTSTANDING {
            self.put(object);
        }
        while begun.elapsed() < ROUND {
            self.put(object);
            self.taken();
            objects += 1;
        }
        let elapsed = begun.elapsed();
        for _ in 1..OUTSTANDING {
            self.taken();
        }
        (objects * object.len()) as f64 / 1e9 / elapsed.as_secs_f64()
    }

    /// Median microseconds to put one and to take it, with nothing else going on.
    fn parts(&mut self, object: &Bytes) -> (f64, f64) {
        let mut parts: Vec<(f64, f64)> = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < 3 * ROUND {
            let put = Instant::now();
            self.put(object);
            let put = put.elapsed().as_secs_f64() * 1e6;
            parts.push((put, self.taken()));
        }
        let (puts, takes) = parts.into_iter().unzip();
        (median(puts), median(takes))
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

/// The other process.
fn read() {
    let sum = args().nth(2).unwrap() == "true";
    let resolver = Resolver::new("reader", StoreOptions::default());
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut len = [0];
    while input.read_exact(&mut len).is_ok() {
        let mut proxy = vec![0; usize::from(len[0])];
        input.read_exact(&mut proxy).unwrap();
        let proxy = Proxy::decode(&proxy).unwrap();
        let begun = Instant::now();
        let object = resolver.resolve(&proxy, false).unwrap();
        if sum {
            black_box(object.bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte))));
        }
        drop(object);
        writeln!(output, "{}", begun.elapsed().as_micros()).unwrap();
    }
}
