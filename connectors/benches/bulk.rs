//! What it costs to bring large objects to another process of this host: shared memory beside sockets, and both beside one thread's
//! memcpy of as many bytes.
//!
//! `cargo bench -p psbench-connectors`; figures are medians of a few rounds. Compare them within one run only: the ratios are what
//! they are for.

#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell its errors")]

use std::env::{args, current_exe};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench_connectors::peer::PeerAddress;
use psbench_connectors::{Connector, ConnectorSpec, KeySource, Lifetime, Proxy, Resolver, StoreOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const READER: &str = "reader";
const LARGE: usize = 10_000_000;
/// The smallest goes over the socket with either connector.
const SIZES: [usize; 4] = [30_000, 100_000, 1_000_000, LARGE];
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
    for (work, sizes) in [(Work::Nothing, &SIZES[..]), (Work::Sum, &[LARGE][..])] {
        println!("\nput here, taken by another process, which does {work:?} with it; GB/s (ratio to memcpy)");
        println!("{:>10} {:>8} {:>16} {:>16} {:>16}", "bytes", "memcpy", "shm", "peer unix", "peer tcp");
        for size in sizes {
            let object: Bytes = (0..*size).map(|i| ((i * 31) >> 3) as u8).collect();
            let (memcpy, rates) = compare(&object, work);
            print!("{size:>10} {memcpy:>8.2}");
            rates.iter().for_each(|rate| print!(" {rate:>8.2} ({:>5.2})", rate / memcpy));
            println!();
        }
    }
    println!("\none object of {LARGE} B at a time; microseconds");
    println!("{:>10} {:>8} {:>8} {:>8}", "", "put", "take", "sum");
    let object = Bytes::from(vec![1; LARGE]);
    for config in configs() {
        let mut route = Route::start(&config, Work::Sum);
        route.round(&object);
        let [put, take, sum] = route.parts(&object);
        println!("{:>10} {put:>8.0} {take:>8.0} {sum:>8.0}", describe(&config));
    }
}

/// What the reader does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Nothing,
    /// Adds up all bytes, as psbench's `--task sum`.
    Sum,
}

fn configs() -> [ConnectorSpec; 3] {
    let limit = 1 << 30;
    [
        ConnectorSpec::Shm { limit },
        ConnectorSpec::Peer { address: PeerAddress::private(), limit },
        ConnectorSpec::Peer { address: PeerAddress::loopback(), limit },
    ]
}

fn describe(config: &ConnectorSpec) -> &'static str {
    match config {
        ConnectorSpec::Shm { .. } => "shm",
        ConnectorSpec::Peer { address: PeerAddress::Unix(_), .. } => "peer unix",
        _ => "peer tcp",
    }
}

/// GB/s of memcpy and of each connector. They take turns, so that whatever else the machine does meets all of them.
fn compare(object: &Bytes, work: Work) -> (f64, Vec<f64>) {
    let mut routes = configs().map(|config| Route::start(&config, work));
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
    fn start(config: &ConnectorSpec, work: Work) -> Self {
        let connector = config.open(KeySource::random()).unwrap();
        let mut reader = Command::new(current_exe().unwrap())
            .args([READER, &format!("{work:?}")])
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
        let proxy = Proxy { address: self.connector.address(), key, checksum: None, lifetime: Lifetime::Owned };
        let proxy = proxy.encode().unwrap();
        self.proxies.write_all(&[&[proxy.len() as u8], &proxy[..]].concat()).unwrap();
    }

    /// Microseconds that the reader took, to take and to sum.
    fn taken(&mut self) -> [f64; 2] {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let (take, sum) = line.trim_end().split_once(' ').unwrap();
        [take, sum].map(|time| time.parse().unwrap())
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

    /// Median microseconds to put, to take and to sum, with nothing else going on.
    fn parts(&mut self, object: &Bytes) -> [f64; 3] {
        let mut parts = [const { Vec::new() }; 3];
        let begun = Instant::now();
        while begun.elapsed() < 3 * ROUND {
            let put = Instant::now();
            self.put(object);
            let put = microseconds(put);
            let [take, sum] = self.taken();
            parts.iter_mut().zip([put, take, sum]).for_each(|(times, time)| times.push(time));
        }
        parts.map(median)
    }
}

fn microseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

/// The other process.
fn read() {
    let sums = args().nth(2).unwrap() == format!("{:?}", Work::Sum);
    let resolver = Resolver::new("reader", StoreOptions::default());
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut len = [0];
    while input.read_exact(&mut len).is_ok() {
        let mut proxy = vec![0; usize::from(len[0])];
        input.read_exact(&mut proxy).unwrap();
        let proxy = Proxy::decode(&proxy).unwrap();
        let begun = Instant::now();
        let object = resolver.resolve(&proxy, false).unwrap();
        let take = microseconds(begun);
        let begun = Instant::now();
        if sums {
            black_box(object.bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte))));
        }
        let sum = microseconds(begun);
        drop(object);
        writeln!(output, "{take} {sum}").unwrap();
    }
}
