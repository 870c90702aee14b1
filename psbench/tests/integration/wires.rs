//! What the dispatcher tells of its bytes, held against what a wire to the broker carried.

use crate::interop::{External, TOPIC, generate_at, produce};
use crate::support::{Bench, Kafka, Redis, Wire, assert_complete};

const COUNT: u64 = 200;
const SIZE: u64 = 2_000;

/// Who makes the items, and in which form they come.
const PRODUCERS: [&str; 4] = ["psbench's form", "ProxyStore's form", "another psbench", "Python"];

/// Runs a stream of each producer by each method, with the dispatcher's connections on the wire. `port`: the server's own, for
/// producers that are no part of the trial.
fn hold_to_the_wire(broker: &str, wire: &Wire, port: u16, framing: u64) {
    let objects = tempfile::tempdir().unwrap();
    let files = format!("--ps-connector file --ps-file-dir {}", objects.path().display());
    let stream = format!("--stream {broker} --data-size-bytes {SIZE} --task-count {COUNT} {files}");
    for (n, producer) in PRODUCERS.into_iter().enumerate() {
        for method in ["default", "proxy"] {
            let topic = format!("{TOPIC}-{n}-{method}");
            let arguments = format!("{stream} --stream-method {method}");
            wire.most();
            let trial = match producer {
                "psbench's form" | "ProxyStore's form" => {
                    let form = if n == 0 { "" } else { "--interop proxystore" };
                    // Long enough not to be run once unrecorded ahead, which would be on the wire, too.
                    let arguments =
                        format!("{arguments} {form} --max-workers 3 --rate 150/s --stream-servers {}", wire.address);
                    Bench::new().trials(&arguments)[0].clone()
                }
                _ => {
                    let external = External::start_at(&wire.address.to_string(), &topic, &arguments);
                    if producer == "Python" {
                        let store = format!("file:{}", objects.path().display());
                        let store = if method == "proxy" { store.as_str() } else { "none" };
                        produce(broker, &port.to_string(), &topic, [&COUNT.to_string(), &SIZE.to_string(), "1", store]);
                    } else {
                        generate_at(&format!("127.0.0.1:{port}"), &topic, &arguments);
                    }
                    let (code, trial) = external.finish();
                    assert_eq!(code, 0, "{trial:#}");
                    trial
                }
            };
            assert_complete(&trial);
            let (told, carried) = (trial["dispatcher_bytes"]["received"].as_u64().unwrap(), wire.most());
            let most = told + COUNT * framing + (16 << 10);
            assert!(
                (told..=most).contains(&carried),
                "{broker}, {producer}, {method}: {told} bytes were told, and {carried} came, of which framing takes {most} at most"
            );
            let least = if method == "default" { COUNT * SIZE } else { COUNT * 60 };
            assert!(told > least, "{broker}, {producer}, {method}: {told} bytes for {COUNT} items");
        }
    }
}

#[test]
fn bytes_from_redis_are_those_on_the_wire() {
    let server = Redis::start(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
    let wire = Wire::start();
    wire.lead_to(&server.address());
    for broker in ["redis", "redis-queue"] {
        hold_to_the_wire(broker, &wire, server.port, 150);
    }
}

#[cfg(feature = "kafka")]
#[test]
fn bytes_from_kafka_are_those_on_the_wire() {
    let wire = Wire::start();
    // Clients connect where the broker says that it is.
    let kafka = Kafka::start(&[&format!("advertised.listeners=PLAINTEXT://{}", wire.address)]);
    wire.lead_to(&kafka.address());
    hold_to_the_wire("kafka", &wire, kafka.port().parse().unwrap(), 400);
}
