//! Trials over a real Apache Kafka, and over one that misbehaves.

use std::net::TcpListener;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use psbench::brokers::{BrokerChoice, KafkaSettings, Message, conformance};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::support::{
    Bench, HANGS, Kafka, NOBODY, Opened, assert_balanced, assert_complete, finish, interrupt_twice, problems,
    send_signal, text, wait_until,
};

/// A trial of some seconds: 3 workers, a task each 100 ms.
const BUSY: &str = "--max-workers 4 --data-size-bytes 10kB --task-count 60 --task-sleep 0.3 --stream-method proxy";

/// Psbench waits so long for a cluster that is away, here: long enough for a restart.
const PATIENCE: &str = "--kafka-option message.timeout.ms=8000";

fn at(address: &str) -> String {
    format!("--stream kafka --stream-servers {address}")
}

/// The topics that are there whose names begin so.
fn topics(address: &str, prefix: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let metadata = consumer.fetch_metadata(None, HANGS).unwrap();
    metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| name.starts_with(prefix)).collect()
}

/// A name for topics that no other test has.
fn own_name() -> String {
    format!("test-{}", uuid::Uuid::new_v4().simple())
}

fn administrator(address: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", address).create().unwrap()
}

fn make_topic(address: &str, name: &str, partitions: i32, limit: &str) {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", limit);
    let administrator = administrator(address);
    let made = administrator.create_topics([&topic], &AdminOptions::new());
    assert_eq!(futures_executor::block_on(made).unwrap(), [Ok(name.to_owned())]);
    wait_until("the topic is there", || topics(address, name) == [name]);
}

fn delete_topic(address: &str, name: &str) {
    let administrator = administrator(address);
    let deleted = administrator.delete_topics(&[name], &AdminOptions::new());
    assert_eq!(futures_executor::block_on(deleted).unwrap(), [Ok(name.to_owned())]);
}

/// Waits until a trial's topic, whose name begins so, has this many messages; returns its name.
fn topic_with(address: &str, prefix: &str, messages: i64) -> String {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let until = Instant::now() + HANGS;
    while Instant::now() < until {
        for topic in topics(address, prefix) {
            let watermarks = consumer.fetch_watermarks(&topic, 0, Duration::from_secs(5));
            if watermarks.is_ok_and(|(_, next)| next >= messages) {
                return topic;
            }
        }
        sleep(Duration::from_millis(20));
    }
    panic!("no topic got {messages} messages");
}

#[test]
fn kafka_conforms_and_leaves_nothing() {
    let kafka = Kafka::shared();
    let opened = Opened::new(BrokerChoice::Kafka(kafka.settings()).open().unwrap());
    conformance::check(&opened);
    let used = opened.topics();
    assert!(used.len() >= 5, "{used:?}");
    let left = topics(&kafka.address(), "conformance-");
    assert!(!left.iter().any(|topic| used.contains(topic)), "{left:?}");
}

#[test]
fn each_partition_is_in_order_and_the_end_comes_last_and_once() {
    const COUNT: u32 = 1000;
    let kafka = Kafka::shared();
    let settings = KafkaSettings { partitions: 3, ..kafka.settings() };
    let broker = BrokerChoice::Kafka(settings).open().unwrap();
    let topic = own_name();
    let mut subscriber = broker.subscribe(&topic).unwrap();
    let message = |n: u32| Message { head: n.to_le_bytes().to_vec().into(), payload: vec![7; 100].into() };
    let end = Message { head: b"end".to_vec().into(), payload: bytes::Bytes::new() };
    let mut publisher = broker.config().publisher(&topic).unwrap();
    let sent: Vec<Message> = (0..COUNT).map(message).collect();
    publisher.publish(&sent).unwrap();
    publisher.end(&end).unwrap();
    assert_eq!(publisher.report().unacknowledged, 0);
    let mut received = Vec::new();
    while received.last() != Some(&end) {
        subscriber.receive(&mut received, HANGS).unwrap();
    }
    subscriber.receive(&mut received, Duration::from_millis(500)).unwrap();
    assert_eq!(received.len(), sent.len() + 1, "the end came once, and all else before it");
    for partition in 0..3 {
        let of_partition = |message: &&Message| {
            message.head.len() == 4 && u32::from_le_bytes(message.head[..].try_into().unwrap()) % 3 == partition
        };
        let received: Vec<_> = received.iter().filter(of_partition).collect();
        let expected: Vec<_> = sent.iter().filter(of_partition).collect();
        assert!(received == expected, "partition {partition} is not in order");
    }
    broker.delete(&topic).unwrap();
}

#[test]
fn both_methods_run_over_partitions_with_several_generators() {
    let kafka = Kafka::shared();
    for executor in ["process", "thread"] {
        let arguments = format!(
            "{} --executor {executor} --max-workers 5 --generators 2 --stream-partitions 3 --data-size-bytes 1kB 1MB --task-count 60 \
             --verify --kafka-option compression.type=zstd --kafka-option linger.ms=1 acks=1",
            at(&kafka.address())
        );
        let bench = Bench::new();
        let trials = bench.trials(&arguments);
        assert_eq!(trials.len(), 4);
        for trial in &trials {
            assert_complete(trial);
            assert_eq!(trial["items"]["unacknowledged"], 0);
            assert_eq!(trial["generators"], 2);
            assert!(trial["broker"]["lag"]["samples"].as_array().unwrap().iter().all(|look| look["messages"].is_u64()));
        }
        let configuration = &bench.results()["environment"]["broker"]["configuration"];
        for (setting, value) in [
            ("client.acks", "1"),
            ("client.linger.ms", "1"),
            ("client.compression.type", "zstd"),
            ("topic.partitions", "3"),
            ("broker.message.max.bytes", "1048588"),
        ] {
            assert_eq!(configuration[setting], value, "{configuration:#}");
        }
    }
}

#[test]
fn queue_depth_and_round_trips_are_recorded() {
    let kafka = Kafka::shared();
    let arguments = format!(
        "{} --data-size-bytes 100kB --task-count 150 --rate 100/s --stream-method default --kafka-option statistics.interval.ms=100",
        at(&kafka.address())
    );
    let trial = &Bench::new().trials(&arguments)[0];
    assert_complete(trial);
    let [publisher, subscriber] = [&trial["broker"]["publishers"][0], &trial["broker"]["subscriber"]];
    for client in [publisher, subscriber] {
        assert!(client["samples"].as_u64().unwrap() > 0, "{client:#}");
        assert!(client["round_trips"].as_u64().unwrap() > 0, "{client:#}");
        let (mean, max) =
            (client["round_trip_mean_ns"].as_f64().unwrap(), client["round_trip_max_ns"].as_f64().unwrap());
        assert!(mean > 1e4 && mean <= max, "{client:#}");
    }
    assert!(!trial["broker"]["lag"]["samples"].as_array().unwrap().is_empty(), "{:#}", trial["broker"]["lag"]);
}

#[test]
fn an_interrupted_trial_deletes_its_topic() {
    let (kafka, bench, own) = (Kafka::shared(), Bench::new(), own_name());
    let arguments = format!("{} {BUSY} --task-count 600 --stream-topic {own}", at(&kafka.address()));
    let child = bench.command(&arguments).spawn().unwrap();
    topic_with(&kafka.address(), &own, 10);
    send_signal(child.id(), "INT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    wait_until("the topic is deleted", || topics(&kafka.address(), &own).is_empty());
}

#[test]
fn an_impatient_user_leaves_no_topic_either() {
    let (kafka, bench, own) = (Kafka::shared(), Bench::new(), own_name());
    let arguments = format!("{} {BUSY} --task-sleep 3600 --rate max --stream-topic {own}", at(&kafka.address()));
    let child = bench.command(&arguments).spawn().unwrap();
    topic_with(&kafka.address(), &own, 2);
    interrupt_twice(&child, &bench);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    wait_until("the topic is deleted", || topics(&kafka.address(), &own).is_empty());
}

#[test]
fn a_topic_that_is_there_already_is_asked_for_its_limit() {
    let kafka = Kafka::shared();
    let topic = own_name();
    make_topic(&kafka.address(), &topic, 1, "100000");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_psbench"));
    let arguments = format!(
        "generate --interop proxystore {} --stream-topic {topic} --stream-method default --data-size-bytes 5MB --task-count 3",
        at(&kafka.address())
    );
    let output = command.args(arguments.split_whitespace()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("max.message.bytes is 100000") && said.contains("set max.message.bytes="), "{said}");
    delete_topic(&kafka.address(), &topic);
}

#[test]
fn a_topic_deleted_mid_run_is_named() {
    let (kafka, bench, own) = (Kafka::shared(), Bench::new(), own_name());
    let arguments = format!("{} {BUSY} {PATIENCE} --stream-topic {own}", at(&kafka.address()));
    let child = bench.command(&arguments).spawn().unwrap();
    let topic = topic_with(&kafka.address(), &own, 10);
    delete_topic(&kafka.address(), &topic);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = problems(&bench.results()["trials"][0]);
    assert!(said.contains(&format!("topic {topic} is gone")) && said.contains("was the topic deleted"), "{said}");
}

/// What a run says that can't start.
fn refused(arguments: &str) -> String {
    let output = finish(Bench::new().command(arguments).spawn().unwrap());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_broker_that_is_not_there_is_named_with_what_to_do() {
    let said = refused(&at(NOBODY));
    assert!(said.contains(&format!("no broker at {NOBODY}")) && said.contains("--stream-servers"), "{said}");
    let said = refused(&at("no-such-host.invalid:9092"));
    assert!(said.contains("no broker at no-such-host.invalid:9092"), "{said}");
    let said = refused("--stream kafka");
    assert!(said.contains("--stream-servers") && said.contains("psbench services up kafka"), "{said}");
}

#[test]
fn something_else_than_kafka_is_noticed() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let said = refused(&at(&address));
    assert!(said.contains("did not answer as Kafka does") && said.contains(&address), "{said}");
}

#[test]
fn properties_are_checked_by_name_and_secrets_are_not_taken() {
    for (option, named) in [
        ("lingerms=5", "--kafka-option lingerms=5: librdkafka has no property of that name"),
        ("linger.ms=long", "--kafka-option linger.ms=long: "),
        ("linger.ms", "write property=value"),
        ("sasl.password=hunter2", "PSBENCH_KAFKA_SASL_PASSWORD"),
        ("group.id=mine", "a group of its own"),
    ] {
        let said = refused(&format!("{} --kafka-option {option}", at(NOBODY)));
        assert!(said.contains(named), "{said}");
    }
    let said = refused(&format!("{} --stream-replication 0", at(NOBODY)));
    assert!(said.contains("--stream-replication 0: write a number"), "{said}");
}

#[test]
fn more_replicas_than_brokers_are_refused_by_name() {
    let kafka = Kafka::shared();
    let bench = Bench::new();
    let arguments = format!("{} --stream-replication 3 --stream-method proxy --task-count 5", at(&kafka.address()));
    let output = bench.run(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = problems(&bench.results()["trials"][0]);
    assert!(said.contains("--stream-replication"), "{said}");
}

#[test]
fn a_topic_that_kafka_does_not_take_is_refused_ahead() {
    let longest = "x".repeat(216);
    for (topic, external, problem) in [
        ("a b", false, "letters, digits, dots, underscores and hyphens"),
        ("ä", false, "letters, digits, dots, underscores and hyphens"),
        (&format!("{longest}x"), false, "is of 217 characters, and may have 216"),
        (&"x".repeat(250), true, "is of 250 characters, and may have 249"),
        ("..", true, "Kafka has no topic of that name"),
    ] {
        let external = if external { "--interop proxystore --ps-connector redis --generator external" } else { "" };
        let mut command = Bench::new().command(&format!("{} {external}", at(NOBODY)));
        let output = finish(command.args(["--stream-topic", topic]).spawn().unwrap());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let said = text(&output);
        assert!(said.starts_with("error: --stream-topic") && said.contains(problem), "{said}");
    }
    // The longest is one.
    let kafka = Kafka::shared();
    let arguments = format!("{} --stream-topic {longest} --task-count 5 --stream-method proxy", at(&kafka.address()));
    assert_complete(&Bench::new().trials(&arguments)[0]);
    assert_eq!(topics(&kafka.address(), &longest), [""; 0]);
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    /// Gives a user rights on topics that begin so: all operations up to this one, in the order in which a trial needs them.
    const RIGHTS: &str = r#"
import sys
from confluent_kafka.admin import *
admin = AdminClient({"bootstrap.servers": sys.argv[1], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
                     "sasl.username": "admin", "sasl.password": "secret"})
operations = [AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.READ, AclOperation.WRITE, AclOperation.DELETE]
given = [AclBinding(ResourceType.TOPIC, f"with-{count}", ResourcePatternType.PREFIXED, "User:bench", "*", operation, AclPermissionType.ALLOW)
         for count in range(1, 6) for operation in operations[:count]]
for made in admin.create_acls(given).values():
    made.result()
"#;

    #[test]
    fn a_right_that_is_missing_is_named_with_its_topic() {
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
        let kafka = Kafka::start(&[
            "listeners=SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller-port}",
            "advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=SASL_PLAINTEXT",
            "sasl.enabled.mechanisms=PLAIN",
            "sasl.mechanism.inter.broker.protocol=PLAIN",
            &format!(
                "listener.name.sasl_plaintext.plain.sasl.jaas.config={login} username=\"admin\" password=\"secret\" \
                 user_admin=\"secret\" user_bench=\"bench\";"
            ),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:admin;User:ANONYMOUS",
        ]);
        let given = std::process::Command::new("python").args(["-c", RIGHTS, &kafka.address()]).output().unwrap();
        assert!(given.status.success(), "{}", text(&given));
        for (rights, missing) in ["Create", "Describe", "Read", "Write", "Delete"].into_iter().enumerate() {
            let bench = Bench::new();
            let arguments = format!(
                "{} --stream-topic with-{rights} --executor thread --max-workers 2 --data-size-bytes 1kB --task-count 5 \
                 --stream-method proxy --kafka-option security.protocol=SASL_PLAINTEXT sasl.mechanism=PLAIN sasl.username=bench",
                at(&kafka.address())
            );
            let mut command = bench.command(&arguments);
            let output = finish(command.env("PSBENCH_KAFKA_SASL_PASSWORD", "bench").spawn().unwrap());
            assert_eq!(output.status.code(), Some(1), "{}", text(&output));
            let said = problems(&bench.results()["trials"][0]);
            let named = format!("user bench lacks the right {missing} on topic with-{rights}-");
            assert!(said.contains(&named) && !said.contains("PSBENCH_KAFKA_SASL_PASSWORD"), "{said}");
            let remedy = format!("--operation {missing} --topic with-{rights} --resource-pattern-type prefixed");
            assert!(said.contains(&remedy), "{said}");
            // What was made and can't be deleted is named, those of no record, too.
            let stays = text(&output).contains("topics of trials stay there (with-");
            assert_eq!(stays, rights > 0, "{}", text(&output));
        }
        let bench = Bench::new();
        let arguments = format!(
            "{} --stream-topic with-5 --task-count 5 --kafka-option security.protocol=SASL_PLAINTEXT sasl.mechanism=PLAIN sasl.username=bench",
            at(&kafka.address())
        );
        // A group's rights are not needed, nor any on the cluster.
        let output = finish(bench.command(&arguments).env("PSBENCH_KAFKA_SASL_PASSWORD", "bench").spawn().unwrap());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        bench.results()["trials"].as_array().unwrap().iter().for_each(assert_complete);
    }

    #[test]
    fn topics_that_a_broker_does_not_delete_are_named_at_the_end() {
        let kafka = Kafka::start(&["delete.topic.enable=false"]);
        let bench = Bench::new();
        let arguments = format!(
            "{} --data-size-bytes 1kB --task-count 5 --stream-method proxy --repeat 2 --stream-topic kept",
            at(&kafka.address())
        );
        let output = bench.run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let left = topics(&kafka.address(), "kept-");
        assert!(left.len() >= 2, "{left:?}");
        let said = text(&output);
        let named = said.lines().find(|line| line.contains("topics of trials stay there")).expect(&said);
        assert!(
            left.iter().all(|topic| named.contains(topic)) && named.contains("delete.topic.enable=false"),
            "{named}"
        );
        for trial in bench.results()["trials"].as_array().unwrap() {
            assert_complete(trial);
            assert!(problems(trial).contains("delete the topic"), "{}", problems(trial));
        }
    }

    /// Whatever was made, or may have been, while the broker came and went.
    #[test]
    fn topics_of_trials_without_a_broker_are_deleted_later() {
        let kafka = Kafka::start(&[]);
        let bench = Bench::new();
        let arguments = format!("{} {BUSY} {PATIENCE} --repeat 4 --stream-topic away", at(&kafka.address()));
        let child = bench.command(&arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let first = topic_with(&kafka.address(), "away-", 15);
        kafka.stop();
        wait_until("it can't be deleted", || bench.log().contains("delete the topic"));
        kafka.resume();
        assert_eq!(topics(&kafka.address(), &first), [first]);
        let output = finish(child);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(!text(&output).contains("stay there"), "{}", text(&output));
        assert_eq!(topics(&kafka.address(), "away-"), [""; 0]);
    }

    #[test]
    fn large_items_raise_the_limits_that_can_be_raised() {
        let kafka = Kafka::start(&["message.max.bytes=100000"]);
        let arguments = format!("{} --data-size-bytes 20MB --task-count 6", at(&kafka.address()));
        let trials = Bench::new().trials(&arguments);
        trials.iter().for_each(assert_complete);
        assert!(trials[0]["dispatcher_bytes"]["received"].as_u64().unwrap() > 120_000_000, "{:#}", trials[0]);
    }

    #[test]
    fn a_limit_of_the_broker_is_named_with_the_value_needed_and_proxies_pass() {
        let kafka = Kafka::start(&["socket.request.max.bytes=1000000", "message.max.bytes=500000"]);
        let arguments = format!("{} --data-size-bytes 10MB --task-count 5", at(&kafka.address()));
        let bench = Bench::new();
        let output = bench.run(&format!("{arguments} --stream-method default"));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = problems(&bench.results()["trials"][0]);
        assert!(
            said.contains("socket.request.max.bytes is 1000000") && said.contains("socket.request.max.bytes=10065536"),
            "{said}"
        );
        assert!(said.contains("--stream-method proxy"), "{said}");
        assert_complete(&Bench::new().trials(&format!("{arguments} --stream-method proxy"))[0]);
    }

    #[test]
    fn a_broker_that_comes_back_loses_nothing() {
        let kafka = Kafka::start(&[]);
        let bench = Bench::new();
        // The subscriber finds it again long after the generator did.
        let arguments = format!(
            "{} {BUSY} --kafka-option message.timeout.ms=60000 --kafka-option fetch.error.backoff.ms=8000",
            at(&kafka.address())
        );
        let child = bench.command(&arguments).spawn().unwrap();
        topic_with(&kafka.address(), "", 10);
        kafka.stop();
        kafka.resume();
        let output = finish(child);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let trial = &bench.results()["trials"][0];
        assert_complete(trial);
        assert_eq!(trial["items"]["unacknowledged"], 0);
    }

    #[test]
    fn a_broker_that_stays_away_ends_the_trial_with_the_loss_counted() {
        let kafka = Kafka::start(&[]);
        let bench = Bench::new();
        let arguments = format!("{} {BUSY} {PATIENCE}", at(&kafka.address()));
        let child = bench.command(&arguments).spawn().unwrap();
        topic_with(&kafka.address(), "", 15);
        kafka.stop();
        let output = finish(child);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = &bench.results()["trials"][0];
        let items = &trial["items"];
        let count = |name: &str| items[name].as_u64().unwrap();
        assert_balanced(trial);
        let said = problems(trial);
        assert!(count("finished") >= 5 && count("lost") > 0 && count("unacknowledged") > 0, "{items}: {said}");
        assert!(said.contains("were not acknowledged") && said.contains("is the broker running?"), "{said}");
        assert!(said.contains(&kafka.address()), "{said}");
    }

    #[test]
    fn an_advertised_listener_that_can_not_be_reached_is_said_so() {
        let kafka = Kafka::start(&[&format!("advertised.listeners=PLAINTEXT://{NOBODY}")]);
        let said = refused(&at(&kafka.address()));
        assert!(said.contains(&format!("broker 1 is at {NOBODY}, which can't be reached")), "{said}");
        assert!(said.contains("advertised.listeners"), "{said}");
    }

    /// Over a listener with SSL and SASL, as facilities have them.
    #[cfg(feature = "kafka-ssl")]
    #[test]
    fn ssl_and_sasl_let_in_who_knows_the_password_and_nothing_tells_it() {
        const PASSWORD: &str = "open-sesame-7";
        let directory = tempfile::tempdir().unwrap();
        let (store, certificate) = (directory.path().join("store.p12"), directory.path().join("certificate.pem"));
        let keytool = |arguments: &str| {
            let mut command = std::process::Command::new("keytool");
            command
                .args(arguments.split(' '))
                .args(["-alias", "broker", "-storepass", "changeit", "-keystore"])
                .arg(&store);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        };
        keytool("-genkeypair -keyalg RSA -storetype PKCS12 -dname CN=broker -ext san=ip:127.0.0.1");
        keytool(&format!("-exportcert -rfc -file {}", certificate.display()));
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
        let kafka = Kafka::start(&[
            "listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller-port}",
            "advertised.listeners=SASL_SSL://127.0.0.1:{port}",
            "listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=SASL_SSL",
            "sasl.enabled.mechanisms=PLAIN",
            "sasl.mechanism.inter.broker.protocol=PLAIN",
            &format!(
                "listener.name.sasl_ssl.plain.sasl.jaas.config={login} username=\"a\" password=\"b\" user_a=\"b\" user_bench=\"{PASSWORD}\";"
            ),
            "ssl.keystore.type=PKCS12",
            "ssl.keystore.password=changeit",
            &format!("ssl.keystore.location={}", store.display()),
            // A broker tries its own listener when it starts.
            "ssl.truststore.type=PEM",
            &format!("ssl.truststore.location={}", certificate.display()),
        ]);
        let arguments = format!(
            "{} --data-size-bytes 100kB --task-count 50 --log-level DEBUG --log-file-level DEBUG --kafka-option security.protocol=SASL_SSL \
         sasl.mechanism=PLAIN sasl.username=bench ssl.ca.location={}",
            at(&kafka.address()),
            certificate.display()
        );
        let bench = Bench::new();
        let output = bench.command(&arguments).env("PSBENCH_KAFKA_SASL_PASSWORD", PASSWORD).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        bench.results()["trials"].as_array().unwrap().iter().for_each(assert_complete);
        assert!(!text(&output).contains(PASSWORD));
        for file in std::fs::read_dir(bench.run_directory()).unwrap() {
            let file = file.unwrap().path();
            assert!(!String::from_utf8_lossy(&std::fs::read(&file).unwrap()).contains(PASSWORD), "{}", file.display());
        }
        // Through gateways at another address than the certificate's, the broker is known by its own name all the same.
        let elsewhere = || {
            let mut program = std::process::Command::new("sh");
            program.args(["-c", "exec \"$0\" \"$@\" --listener-ip 127.0.0.2", env!("CARGO_BIN_EXE_psbench")]);
            crate::support::Gateway::start_by(program)
        };
        let (producer, consumer) = (elsewhere(), elsewhere());
        let through = format!(
            "{arguments} --stream-method default --stream-via-scistream --scistream-insecure --scistream-producer-s2cs {} \
         --scistream-consumer-s2cs {}",
            producer.address(),
            consumer.address()
        );
        let bench = Bench::new();
        let output = bench.command(&through).env("PSBENCH_KAFKA_SASL_PASSWORD", PASSWORD).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let results = bench.results();
        assert_complete(&results["trials"][0]);
        let begin = &results["environment"]["broker"]["via"]["paths"][0]["listener"];
        assert!(begin.as_str().unwrap().starts_with("127.0.0.2:"), "{begin}");
        let wrong = Bench::new().command(&arguments).env("PSBENCH_KAFKA_SASL_PASSWORD", "wrong").output().unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
        let said = text(&wrong);
        assert!(said.contains("Authentication failed") && said.contains("PSBENCH_KAFKA_SASL_PASSWORD"), "{said}");
    }

    #[test]
    fn a_growing_lag_is_marked_as_not_sustained() {
        let kafka = Kafka::shared();
        // 100 items a second, of which two workers do 40.
        let arguments = format!(
            "{} --executor thread --max-workers 3 --data-size-bytes 1kB --task-count 500 --task-sleep 0.05 --rate 100/s --stream-method proxy \
         --ps-connector memory",
            at(&kafka.address())
        );
        let bench = Bench::new();
        let output = bench.run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let trial = &bench.results()["trials"][0];
        let lag = &trial["broker"]["lag"];
        assert_eq!(lag["sustained"], false, "{lag:#}");
        assert!(lag["growth_per_s"].as_f64().unwrap() > 5.0, "{lag:#}");
        assert!(text(&output).contains("not sustained"), "{}", text(&output));
        assert!(problems(trial).contains("fell behind"), "{}", problems(trial));
    }
}
