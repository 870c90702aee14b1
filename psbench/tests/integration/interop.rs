//! Streams between psbench and the real ProxyStore, at either end, on a real Redis.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use bytes::Bytes;
use psbench_connectors::{ConnectorSpec, Key, KeySource};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Bench, Endpoint, Kafka, Redis, assert_complete, problems, python, send_signal, text, wait_until};

const UNLIMITED: [&str; 2] = ["--client-output-buffer-limit", "pubsub 0 0 0"];
const BROKERS: [&str; 2] = ["redis", "redis-queue"];
pub(crate) const TOPIC: &str = "frames";

/// A Python program of these tests.
fn program(name: &str, arguments: &[&str]) -> Command {
    script(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name), arguments)
}

fn script(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    // ProxyStore says of its streams that they are experimental.
    command.args(["-W", "ignore"]).arg(path).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn generate(server: &Redis, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
    command
        .args(["generate", "--interop", "proxystore", "--stream-topic", TOPIC])
        .args(["--stream-servers", &server.address()])
        .args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Another psbench generates a stream at this broker.
pub(crate) fn generate_at(address: &str, topic: &str, arguments: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_psbench"));
    command.args(["generate", "--interop", "proxystore", "--stream-topic", topic, "--stream-servers", address]);
    succeed(&command.args(arguments.split_whitespace()).output().unwrap());
}

/// Python generates one: this many items of this size, so many in a message, with their objects there, or `none`.
pub(crate) fn produce(broker: &str, port: &str, topic: &str, items: [&str; 4]) {
    succeed(&program("produce.py", &[&[broker, port, topic], &items[..]].concat()).output().unwrap());
}

fn redis_connector(server: &Redis) -> String {
    format!("--ps-connector redis --ps-host 127.0.0.1 --ps-port {}", server.port)
}

/// `psbench stream-scaling` that takes what another program generates.
pub(crate) struct External {
    bench: Bench,
    running: Child,
    /// What it says, after that it waits for a producer.
    says: BufReader<std::process::ChildStderr>,
}

impl External {
    /// Returns once it is subscribed.
    fn start(server: &Redis, arguments: &str) -> Self {
        Self::start_with(&server.address(), TOPIC, arguments, Path::new("/nowhere"))
    }

    /// The same at any broker.
    pub(crate) fn start_at(address: &str, topic: &str, arguments: &str) -> Self {
        Self::start_with(address, topic, arguments, Path::new("/nowhere"))
    }

    /// With ProxyStore's directory.
    fn start_with(address: &str, topic: &str, arguments: &str, home: &Path) -> Self {
        let bench = Bench::new();
        let arguments = format!(
            "--interop proxystore --generator external --stream-topic {topic} --stream-servers {address} --max-workers 3 {arguments}"
        );
        let mut running = bench.command(&arguments).env("PROXYSTORE_HOME", home).spawn().unwrap();
        let mut says = BufReader::new(running.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("waiting for a producer on topic frames") {
            line.clear();
            assert!(says.read_line(&mut line).unwrap() > 0, "it ended: {}", text(&running.wait_with_output().unwrap()));
        }
        Self { bench, running, says }
    }

    /// Its exit code and its one trial.
    pub(crate) fn finish(mut self) -> (i32, Value) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.says, &mut said).unwrap();
        let output = self.running.wait_with_output().unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("{said}{}", text(&output)));
        let trials = self.bench.results()["trials"].clone();
        assert_eq!(trials.as_array().unwrap().len(), 1, "{said}");
        (code, trials[0].clone())
    }
}

#[test]
fn python_consumes_what_psbench_generates() {
    const SIZE: usize = 10_000;
    const COUNT: usize = 100;
    let server = Redis::start(&UNLIMITED);
    let directory = tempfile::tempdir().unwrap();
    let payload = directory.path().join("payload");
    let content: Vec<u8> = (0..SIZE * COUNT).map(|n| (n * n / 97) as u8).collect();
    std::fs::write(&payload, &content).unwrap();
    let files = format!("--ps-connector file --ps-file-dir {}", directory.path().join("objects").display());
    for (broker, method, connector, form) in [
        ("redis", "default", String::new(), "objects"),
        ("redis", "proxy", redis_connector(&server), "objects"),
        ("redis", "proxy", files, "proxies"),
        ("redis-queue", "default", String::new(), "proxies"),
        ("redis-queue", "proxy", redis_connector(&server), "proxies"),
    ] {
        let output = directory.path().join("output");
        let port = server.port.to_string();
        let consumer = program("consume.py", &[broker, &port, TOPIC, output.to_str().unwrap(), form]).spawn().unwrap();
        let arguments = format!(
            "--stream {broker} --stream-method {method} {connector} --data-size-bytes {SIZE} --task-count {COUNT} --payload-file {}",
            payload.display()
        );
        let said = succeed(&generate(&server, &arguments).output().unwrap());
        assert!(said.starts_with(&format!("generated 100 items of 10 kB by {method} to topic frames in ")), "{said}");
        let consumed: Value = serde_json::from_str(&succeed(&consumer.wait_with_output().unwrap())).unwrap();
        assert!(std::fs::read(&output).unwrap() == content, "{broker} {method}: the items are not what was generated");
        let metadata = consumed["metadata"].as_array().unwrap();
        for (n, told) in metadata.iter().enumerate() {
            assert_eq!((&told["psbench.sequence"], &told["psbench.size"]), (&n.into(), &SIZE.into()));
            assert!(told["psbench.created_ns"].as_u64() <= told["psbench.published_ns"].as_u64(), "{told}");
        }
        // All were due at once: up to 64 share a message, and the end has its own.
        let messages = consumed["messages"].as_u64().unwrap();
        assert!((3..COUNT as u64 / 2).contains(&messages), "{messages} messages for {COUNT} items");
        assert_eq!(consumed["resolved"], if method == "proxy" && form == "proxies" { COUNT } else { 0 });
        assert_eq!(server.keys(), [""; 0], "{broker} {method} left objects behind");
    }
    assert_eq!(std::fs::read_dir(directory.path().join("objects")).unwrap().count(), 0, "files were left behind");
}

#[test]
fn psbench_consumes_what_python_produces() {
    const COUNT: &str = "37";
    let server = Redis::start(&UNLIMITED);
    let directory = tempfile::tempdir().unwrap();
    let (in_redis, in_files) =
        (format!("redis:{}", server.port), format!("file:{}", directory.path().join("objects").display()));
    let redis = redis_connector(&server);
    let files = format!("--ps-connector file --ps-file-dir {}", directory.path().join("objects").display());
    for (broker, batch, store, arguments) in [
        ("redis", "1", in_redis.as_str(), format!("--executor thread {redis}")),
        ("redis", "5", &in_files, format!("--executor process {files}")),
        ("redis", "5", "none", "--executor process --stream-method default".into()),
        ("redis-queue", "5", &in_redis, format!("--executor process {redis}")),
        ("redis-queue", "1", "none", "--executor thread --stream-method default".into()),
    ] {
        let external = External::start(&server, &format!("--stream {broker} {arguments} --task-count 100"));
        let port = server.port.to_string();
        succeed(&program("produce.py", &[broker, &port, TOPIC, COUNT, "5000", batch, store]).output().unwrap());
        let (code, trial) = external.finish();
        assert_eq!(code, 0, "{trial:#}");
        assert_complete(&trial);
        assert_eq!((&trial["items"]["generated"], &trial["items"]["finished"]), (&37.into(), &37.into()));
        assert_eq!((&trial["data_size_bytes"], &trial["topic"]), (&5000.into(), &TOPIC.into()));
        let stages: Vec<&String> = trial["latency"].as_object().unwrap().keys().collect();
        assert!(
            !stages.iter().any(|stage| ["broker", "end_to_end", "publish"].contains(&stage.as_str())),
            "{stages:?}"
        );
        assert_eq!(trial["latency"]["work"]["count"], 37);
        if store != "none" {
            assert_eq!(trial["store"]["evictions"], 37, "{trial:#}");
        }
        assert_eq!(server.keys(), [""; 0], "{broker} {store}: objects were left behind");
    }
    assert_eq!(std::fs::read_dir(directory.path().join("objects")).unwrap().count(), 0, "files were left behind");
}

/// The places that ProxyStore's users have beside Redis and files: as psbench takes them, and as the tests' programs do.
fn other_places(server: &Redis, endpoint: &Endpoint, objects: &Path) -> [(String, String); 2] {
    let (port, objects) = (server.port, objects.display());
    let id = endpoint.id;
    [
        (format!("--ps-connector endpoint --ps-endpoints {id}"), format!("endpoint:{id}")),
        (
            format!(
                "--ps-connector multi --ps-multi redis,max=6000 file,min=6001 --ps-host 127.0.0.1 --ps-port {port} --ps-file-dir {objects}"
            ),
            format!("multi:{port}:{objects}"),
        ),
    ]
}

#[test]
fn endpoints_and_several_connectors_carry_what_psbench_generates() {
    const COUNT: usize = 20;
    let (server, endpoint) = (Redis::start(&UNLIMITED), Endpoint::start());
    let directory = tempfile::tempdir().unwrap();
    let objects = directory.path().join("objects");
    for (connector, _) in other_places(&server, &endpoint, &objects) {
        for size in [5000, 10_000] {
            let (payload, output) = (directory.path().join("payload"), directory.path().join("output"));
            let content: Vec<u8> = (0..size * COUNT).map(|n| (n * n / 97) as u8).collect();
            std::fs::write(&payload, &content).unwrap();
            let port = server.port.to_string();
            let mut consume = program("consume.py", &["redis", &port, TOPIC, output.to_str().unwrap(), "proxies"]);
            let consumer = consume.env("PROXYSTORE_HOME", endpoint.home()).spawn().unwrap();
            let arguments = format!(
                "--stream redis --stream-method proxy {connector} --data-size-bytes {size} --task-count {COUNT} --payload-file {}",
                payload.display()
            );
            succeed(&generate(&server, &arguments).env("PROXYSTORE_HOME", endpoint.home()).output().unwrap());
            let consumed: Value = serde_json::from_str(&succeed(&consumer.wait_with_output().unwrap())).unwrap();
            assert!(std::fs::read(&output).unwrap() == content, "{connector}: the items are not what was generated");
            assert_eq!(consumed["resolved"], COUNT);
            assert_eq!(server.keys(), [""; 0], "{connector} left objects behind");
        }
    }
    assert_eq!(std::fs::read_dir(objects).unwrap().count(), 0, "files were left behind");
}

#[test]
fn endpoints_and_several_connectors_carry_what_python_produces() {
    let (server, endpoint) = (Redis::start(&UNLIMITED), Endpoint::start());
    let directory = tempfile::tempdir().unwrap();
    let objects = directory.path().join("objects");
    for (connector, place) in other_places(&server, &endpoint, &objects) {
        for size in ["5000", "10000"] {
            let arguments = format!("--stream redis-queue --executor process {connector} --task-count 100");
            let external = External::start_with(&server.address(), TOPIC, &arguments, endpoint.home());
            let port = server.port.to_string();
            let mut produce = program("produce.py", &["redis-queue", &port, TOPIC, "37", size, "5", &place]);
            succeed(&produce.env("PROXYSTORE_HOME", endpoint.home()).output().unwrap());
            let (code, trial) = external.finish();
            assert_eq!(code, 0, "{trial:#}");
            assert_complete(&trial);
            assert_eq!((&trial["items"]["finished"], &trial["store"]["evictions"]), (&37.into(), &37.into()));
            assert_eq!(server.keys(), [""; 0], "{place} left objects behind");
        }
    }
    assert_eq!(std::fs::read_dir(objects).unwrap().count(), 0, "files were left behind");
}

#[test]
fn python_consumes_what_psbench_generates_over_kafka() {
    const SIZE: usize = 10_000;
    const COUNT: usize = 100;
    let (server, kafka) = (Redis::start(&UNLIMITED), Kafka::shared());
    let directory = tempfile::tempdir().unwrap();
    let (payload, output) = (directory.path().join("payload"), directory.path().join("output"));
    let content: Vec<u8> = (0..SIZE * COUNT).map(|n| (n * n / 97) as u8).collect();
    std::fs::write(&payload, &content).unwrap();
    for (topic, method, form) in [("to-objects", "default", "objects"), ("to-proxies", "proxy", "proxies")] {
        let arguments = format!(
            "--stream kafka --stream-servers {} --stream-topic {topic} --stream-method {method} {} --data-size-bytes {SIZE} \
             --task-count {COUNT} --payload-file {}",
            kafka.address(),
            redis_connector(&server),
            payload.display()
        );
        succeed(&generate(&server, &arguments).output().unwrap());
        let mut consume = program("consume.py", &["kafka", kafka.port(), topic, output.to_str().unwrap(), form]);
        let consumed: Value = serde_json::from_str(&succeed(&consume.output().unwrap())).unwrap();
        assert!(std::fs::read(&output).unwrap() == content, "{method}: the items are not what was generated");
        assert_eq!(consumed["metadata"].as_array().unwrap().len(), COUNT);
        assert_eq!(consumed["resolved"], if method == "proxy" { COUNT } else { 0 });
        assert_eq!(server.keys(), [""; 0], "{method} left objects behind");
    }
}

#[test]
fn psbench_consumes_what_python_produces_over_kafka() {
    let (server, kafka) = (Redis::start(&UNLIMITED), Kafka::shared());
    let in_redis = format!("redis:{}", server.port);
    for (method, executor, batch, store) in [("default", "thread", "1", "none"), ("proxy", "process", "5", &*in_redis)]
    {
        let topic = format!("{TOPIC}-{method}");
        let external = External::start(
            &server,
            &format!(
                "--stream kafka --stream-servers {} --stream-topic {topic} --stream-method {method} --executor {executor} {} --task-count 100",
                kafka.address(),
                redis_connector(&server)
            ),
        );
        succeed(&program("produce.py", &["kafka", kafka.port(), &topic, "37", "5000", batch, store]).output().unwrap());
        let (code, trial) = external.finish();
        assert_eq!(code, 0, "{trial:#}");
        assert_complete(&trial);
        assert_eq!((&trial["items"]["finished"], &trial["data_size_bytes"]), (&37.into(), &5000.into()));
        assert_eq!(server.keys(), [""; 0], "{method} left objects behind");
    }
}

#[test]
fn a_longer_stream_is_taken_in_part() {
    let server = Redis::start(&UNLIMITED);
    let arguments = format!("--stream redis-queue --executor thread {} --task-count 12", redis_connector(&server));
    let external = External::start(&server, &arguments);
    let (port, place) = (server.port.to_string(), format!("redis:{}", server.port));
    succeed(&program("produce.py", &["redis-queue", &port, TOPIC, "40", "100", "5", &place]).output().unwrap());
    let (code, trial) = external.finish();
    assert_eq!(code, 0, "{trial:#}");
    assert_complete(&trial);
    assert_eq!(trial["items"]["planned"], 12);
}

#[test]
fn what_is_not_taken_stays_in_the_queue() {
    let server = Redis::start(&UNLIMITED);
    let (port, place) = (server.port.to_string(), format!("redis:{}", server.port));
    succeed(&program("produce.py", &["redis-queue", &port, TOPIC, "500", "100", "1", &place]).output().unwrap());
    let arguments = format!("--stream redis-queue --executor thread {} --task-count 5", redis_connector(&server));
    let (code, trial) = External::start(&server, &arguments).finish();
    assert_eq!(code, 0, "{trial:#}");
    assert_complete(&trial);
    let left: u64 = redis::cmd("LLEN").arg(TOPIC).query(&mut server.connection()).unwrap();
    // Of 500 messages and the stream's end.
    assert!((495..=496).contains(&left), "{left}");
}

#[test]
fn items_that_can_not_be_had_fail_by_name_and_the_rest_finishes() {
    let server = Redis::start(&UNLIMITED);
    for broker in BROKERS {
        let arguments = format!("--stream {broker} --executor process {}", redis_connector(&server));
        let external = External::start(&server, &arguments);
        succeed(&program("produce_odd.py", &[broker, &server.port.to_string(), TOPIC, "mixed"]).output().unwrap());
        let (code, trial) = external.finish();
        assert_eq!((code, &trial["status"]), (1, &"incomplete".into()), "{trial:#}");
        let items = &trial["items"];
        assert_eq!((&items["generated"], &items["finished"], &items["failed"]), (&8.into(), &5.into(), &3.into()));
        let problems = trial["problems"].to_string();
        for named in ["item 5: ", "`no-uuid` is no UUID", "a.b.MargoConnector", "LocalConnector"] {
            assert!(problems.contains(named), "{named}: {problems}");
        }
        // What two of the unusable events left there.
        assert_eq!(server.keys().len(), 2);
        redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
    }
}

#[test]
fn objects_of_any_kind_in_events_stay_serialised() {
    let server = Redis::start(&UNLIMITED);
    for broker in BROKERS {
        let external =
            External::start(&server, &format!("--stream {broker} --executor process --stream-method default"));
        succeed(&program("produce_odd.py", &[broker, &server.port.to_string(), TOPIC, "values"]).output().unwrap());
        let (code, trial) = external.finish();
        assert_eq!(code, 0, "{trial:#}");
        assert_complete(&trial);
        assert_eq!((&trial["items"]["finished"], problems(&trial)), (&11.into(), String::new()));
        // The array alone is 8 kB.
        assert!(trial["data_size_bytes"].as_u64().unwrap() > 8000 / 11, "{trial:#}");
    }
}

#[test]
fn the_python_psbenchs_raw_items_are_read() {
    let server = Redis::start(&UNLIMITED);
    let external = External::start(&server, "--stream redis --executor thread --stream-method default");
    succeed(&program("produce_odd.py", &["redis", &server.port.to_string(), TOPIC, "raw"]).output().unwrap());
    let (code, trial) = external.finish();
    assert_eq!(code, 0, "{trial:#}");
    assert_complete(&trial);
    assert_eq!((&trial["items"]["finished"], &trial["data_size_bytes"]), (&5.into(), &1000.into()));
}

#[test]
fn a_pickle_that_would_run_something_is_named_and_does_not() {
    let server = Redis::start(&UNLIMITED);
    let external = External::start(&server, "--stream redis --executor thread --stream-method default");
    let directory = tempfile::tempdir().unwrap();
    let mut produce = program("produce_odd.py", &["redis", &server.port.to_string(), TOPIC, "code"]);
    succeed(&produce.current_dir(directory.path()).output().unwrap());
    let (code, trial) = external.finish();
    assert_eq!((code, &trial["status"]), (1, &"failed".into()), "{trial:#}");
    assert!(trial["problems"][0].as_str().unwrap().contains("posix.system"), "{}", trial["problems"]);
}

#[test]
fn psbench_speaks_it_with_itself() {
    let server = Redis::start(&UNLIMITED);
    let directory = tempfile::tempdir().unwrap();
    let files = format!("--ps-connector file --ps-file-dir {}", directory.path().display());
    for (broker, executor, connector) in
        [("redis", "process", redis_connector(&server)), ("redis-queue", "thread", files)]
    {
        let arguments = format!(
            "--interop proxystore --executor {executor} --max-workers 4 --stream {broker} --stream-servers {} {connector} \
             --data-size-bytes 1000 2MB --task-count 30 --task-sleep 1ms --verify",
            server.address()
        );
        let trials = Bench::new().trials(&arguments);
        assert_eq!(trials.len(), 4);
        for trial in &trials {
            assert_complete(trial);
            assert!(trial["latency"].as_object().unwrap().values().all(|latency| latency["count"] == 30), "{trial:#}");
            assert!(trial["latency"]["end_to_end"]["count"] == 30 && trial["jitter"].is_object());
        }
        assert_eq!(server.keys(), [""; 0]);
    }
}

#[test]
fn one_psbench_generates_for_another() {
    let server = Redis::start(&UNLIMITED);
    let arguments = format!("{} --data-size-bytes 100kB", redis_connector(&server));
    let external = External::start(&server, &format!("--stream redis --executor process --verify {arguments}"));
    succeed(
        &generate(&server, &format!("--stream redis --verify --task-count 50 --rate 500/s {arguments}"))
            .output()
            .unwrap(),
    );
    let (code, trial) = external.finish();
    assert_eq!(code, 0, "{trial:#}");
    assert_complete(&trial);
    // Both are on one host, whose clock their times are of.
    assert_eq!((&trial["latency"]["end_to_end"]["count"], &trial["data_size_bytes"]), (&50.into(), &100_000.into()));
    assert_eq!(server.keys(), [""; 0]);
}

#[test]
fn nobody_subscribed_is_told_in_time() {
    let server = Redis::start(&UNLIMITED);
    let output = generate(&server, "--stream redis --stream-method default --wait-subscriber 0.1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("nobody subscribed to topic frames"), "{}", text(&output));
}

#[test]
fn an_interrupted_generator_ends_its_stream_in_order() {
    let server = Redis::start(&[]);
    let arguments =
        "--stream redis-queue --stream-method default --data-size-bytes 1kB --task-count 100000 --rate 50/s";
    let generator = generate(&server, arguments).spawn().unwrap();
    wait_until("the first items are in the queue", || server.keys() == [TOPIC]);
    send_signal(generator.id(), "INT");
    let output = generator.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let directory = tempfile::tempdir().unwrap();
    let items = directory.path().join("output");
    let port = server.port.to_string();
    let mut consume = program("consume.py", &["redis-queue", &port, TOPIC, items.to_str().unwrap(), "objects"]);
    let consumed: Value = serde_json::from_str(&succeed(&consume.output().unwrap())).unwrap();
    let count = consumed["metadata"].as_array().unwrap().len();
    assert!(text(&output).contains(&format!("generated {count} items of 1 kB")), "{count}: {}", text(&output));
    assert_eq!(std::fs::metadata(&items).unwrap().len(), count as u64 * 1000);
}

#[test]
fn a_subscriber_that_leaves_ends_the_generator() {
    let server = Redis::start(&UNLIMITED);
    let mut connection = server.connection();
    let mut subscription = connection.as_pubsub();
    subscription.subscribe(TOPIC).unwrap();
    let arguments = format!("--stream redis {} --data-size-bytes 1kB --rate 100/s", redis_connector(&server));
    let generator = generate(&server, &arguments).spawn().unwrap();
    subscription.get_message().unwrap();
    drop(subscription);
    drop(connection);
    let output = generator.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for said in ["nobody is subscribed to topic frames any more", "stay in redis 127.0.0.1"] {
        assert!(text(&output).contains(said), "{}", text(&output));
    }
}

#[test]
fn an_external_generator_that_never_comes_ends_with_the_timeout() {
    let server = Redis::start(&UNLIMITED);
    let external =
        External::start(&server, "--stream redis-queue --executor thread --stream-method default --timeout 5s");
    let (code, trial) = external.finish();
    assert_eq!((code, &trial["status"]), (1, &"failed".into()), "{trial:#}");
    // Not for the silence of a stream that has not begun.
    assert!(trial["problems"][0].as_str().unwrap().contains("given up after 5s"), "{}", trial["problems"]);
}

#[test]
fn a_stream_that_is_not_as_told_is_said() {
    let server = Redis::start(&UNLIMITED);
    let external = External::start(&server, &format!("--stream redis --executor thread {}", redis_connector(&server)));
    succeed(&program("produce_odd.py", &["redis", &server.port.to_string(), TOPIC, "raw"]).output().unwrap());
    let (code, trial) = external.finish();
    assert_eq!(code, 0, "{trial:#}");
    let problem = trial["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("5 of 5 items did not come by the method proxy"), "{problem}");
}

#[test]
fn an_interrupt_ends_the_wait_for_a_producer() {
    let server = Redis::start(&UNLIMITED);
    let external = External::start(&server, "--stream redis --executor process --stream-method default");
    send_signal(external.running.id(), "INT");
    let (code, trial) = external.finish();
    assert_eq!((code, &trial["status"]), (130, &"interrupted".into()), "{trial:#}");
}

#[test]
fn objects_are_shared_across_languages() {
    let server = Redis::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let places = [
        (
            ConnectorSpec::Redis(psbench_connectors::redis::RedisServer::tcp("127.0.0.1", server.port)),
            format!("redis:{}", server.port),
        ),
        (ConnectorSpec::File { dir: directory.path().into() }, format!("file:{}", directory.path().display())),
    ];
    for (config, place) in places {
        let mut running = program("store.py", &[&place]).stdin(Stdio::piped()).spawn().unwrap();
        let mut asked = running.stdin.take().unwrap();
        let mut told = BufReader::new(running.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut python = |action: &str, argument: &str| {
            writeln!(asked, "{action} {argument}").unwrap();
            told.next().expect("store.py answers")
        };
        let connector = config.open(KeySource::random()).unwrap();
        let ours = connector.put(Bytes::from_static(b"from Rust\n\0")).unwrap();
        assert_eq!(python("get", &ours.to_string()), "66726f6d20527573740a00");
        assert!(connector.evict(&ours).unwrap());
        assert_eq!(python("exists", &ours.to_string()), "False");
        let theirs = Key::named(Uuid::parse_str(&python("put", "50790a00ff")).unwrap());
        assert_eq!(connector.take(&theirs).unwrap().unwrap(), &b"Py\n\0\xff"[..]);
        assert_eq!(python("exists", &theirs.to_string()), "False");
        drop(asked);
        succeed(&running.wait_with_output().unwrap());
    }
}

#[test]
fn the_example_workflow_analyses_every_frame() {
    let server = Redis::start(&UNLIMITED);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/stream_futures.py");
    let port = server.port.to_string();
    let workflow = script(&example, &["--host", "127.0.0.1", "--port", &port, "--workers", "2"]).spawn().unwrap();
    let arguments = format!(
        "--stream redis --stream-method proxy {} --data-size-bytes 100kB --task-count 40 --rate 200/s --pregenerate never",
        redis_connector(&server)
    );
    succeed(&generate(&server, &arguments).output().unwrap());
    assert_eq!(succeed(&workflow.wait_with_output().unwrap()), "40 frames, 4000000 bytes, 40 different");
    assert_eq!(server.keys(), [""; 0], "frames were left behind");
}
