//! psbench's Kafka publisher and subscriber beside Kafka's own performance tools: `cargo bench -p psbench --bench kafka`.
//!
//! Each round measures the tool and psbench one after the other, against the same broker, with the same settings of the clients; what is
//! printed are medians of rounds and their ratio. Compare ratios: absolute figures are the machine's. Needs Kafka: `psbench services fetch
//! kafka`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark has nobody to tell its errors")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use psbench::brokers::{Broker, BrokerChoice, KafkaSettings, Message, MessageFormat};

#[path = "../tests/integration/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the rest is for the tests")]
mod support;

use support::{Kafka, text};

const ROUNDS: usize = 3;

fn main() {
    let kafka = Kafka::start(&["message.max.bytes=10000000"]);
    println!("{:>10} {:>8} {:>12} {:>12} {:>8}", "", "bytes", "psbench/s", "tool/s", "ratio");
    for (size, count) in [(1000, 500_000), (1_000_000, 1500)] {
        let (mut publish, mut consume) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let broker = open(&kafka, size);
            let (ours, theirs) = (format!("ours-{size}-{round}"), format!("theirs-{size}-{round}"));
            broker.subscribe(&theirs).unwrap();
            let tool = producer_tool(&kafka, &theirs, size, count);
            publish.push((produce(&*broker, &ours, size, count), tool));
            let tool = consumer_tool(&kafka, &theirs, count);
            consume.push((receive(&*broker, &ours, count), tool));
            broker.delete(&ours).unwrap();
            broker.delete(&theirs).unwrap();
        }
        row("publish", size, &publish);
        row("consume", size, &consume);
    }
}

fn row(what: &str, size: usize, rounds: &[(f64, f64)]) {
    let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let (ours, tool, ratio) = (median(&|round| round.0), median(&|round| round.1), median(&|(a, b)| a / b));
    println!("{what:>10} {size:>8} {ours:>12.0} {tool:>12.0} {ratio:>8.2}");
}

fn open(kafka: &Kafka, size: usize) -> Box<dyn Broker> {
    let settings = KafkaSettings {
        servers: vec![("127.0.0.1".into(), kafka.port().parse().unwrap())],
        // A subscriber that comes later finds what was published.
        properties: [("auto.offset.reset".into(), "earliest".into())].into(),
        format: MessageFormat::Psbench,
        partitions: 1,
        replication: None,
        retention: None,
        max_message_bytes: None,
        largest_message: size as u64,
    };
    BrokerChoice::Kafka(settings).open().unwrap()
}

/// Messages a second, from the first to the acknowledgement of the last.
fn produce(broker: &dyn Broker, topic: &str, size: usize, count: usize) -> f64 {
    const TOGETHER: usize = 64;
    let message = Message { head: Bytes::from_static(&[1; 40]), payload: vec![7; size].into() };
    let messages = vec![message.clone(); TOGETHER];
    let mut publisher = broker.config().publisher(topic).unwrap();
    let started = Instant::now();
    for first in (0..count).step_by(TOGETHER) {
        publisher.publish(&messages[..TOGETHER.min(count - first)]).unwrap();
    }
    publisher.end(&Message { head: Bytes::from_static(b"end"), payload: Bytes::new() }).unwrap();
    count as f64 / started.elapsed().as_secs_f64()
}

/// Messages a second, from the subscription to the last.
fn receive(broker: &dyn Broker, topic: &str, count: usize) -> f64 {
    let started = Instant::now();
    let mut subscriber = broker.subscribe(topic).unwrap();
    let (mut received, mut messages) = (0, Vec::new());
    while received < count {
        subscriber.receive(&mut messages, Duration::from_secs(5)).unwrap();
        received += messages.len();
        messages.clear();
    }
    count as f64 / started.elapsed().as_secs_f64()
}

fn tool(class: &str) -> Command {
    let cache = std::env::var_os("PSBENCH_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/psbench"));
    let home = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    let home = home.into_iter().find(|path| path.join("libs").exists()).expect("psbench services fetch kafka");
    let mut command = Command::new("java");
    command.arg("-cp").arg(format!("{}/libs/*", home.display())).arg(format!("org.apache.kafka.tools.{class}"));
    command
}

fn producer_tool(kafka: &Kafka, topic: &str, size: usize, count: usize) -> f64 {
    let mut command = tool("ProducerPerformance");
    command.args(["--topic", topic, "--num-records", &count.to_string(), "--record-size", &size.to_string()]);
    command.args(["--throughput", "-1", "--producer-props", &format!("bootstrap.servers={}", kafka.address())]);
    command.args([
        "acks=all",
        "linger.ms=0",
        "batch.size=1000000",
        "buffer.memory=67108864",
        "max.request.size=8000000",
    ]);
    let said = text(&command.output().unwrap());
    let rate = said.lines().rev().find_map(|line| line.split(", ").nth(1)?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("{said}"))
}

fn consumer_tool(kafka: &Kafka, topic: &str, count: usize) -> f64 {
    let mut command = tool("ConsumerPerformance");
    command.args(["--topic", topic, "--bootstrap-server", &kafka.address(), "--messages", &count.to_string()]);
    command.args(["--fetch-size", "16777216", "--hide-header"]);
    let said = text(&command.output().unwrap());
    // The last column: messages a second, without the time to join the group.
    let rate = said.lines().rev().find_map(|line| line.rsplit(", ").next()?.trim().parse().ok());
    rate.unwrap_or_else(|| panic!("{said}"))
}
