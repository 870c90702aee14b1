//! Streams whose dispatcher reaches the broker through SciStream's gateways.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psbench::brokers::{BrokerChoice, Message, MessageFormat, PathPlan, conformance};
use scistream::client::Wishes;
use serde_json::Value;

use crate::support::{
    Bench, Gateway, HANGS, NOBODY, Opened, Redis, Reference, assert_balanced, assert_complete, finish, gateways,
    in_role, interrupt_twice, is_alive, problems, send_signal, text, wait_until,
};

/// The broker, behind these gateways.
fn through(producer: &Gateway, consumer: &Gateway, broker: BrokerChoice) -> BrokerChoice {
    let plan = PathPlan { gateways: Some(gateways(producer, consumer)), rate: 0, wishes: Wishes::default() };
    BrokerChoice::Through { broker: Box::new(broker), plan: Arc::new(plan) }
}

/// Conforms, by way of both gateways, and leaves no session at either.
fn conforms(broker: BrokerChoice) {
    let (producer, consumer) = (Gateway::start(), Gateway::start());
    let opened = Opened::new(through(&producer, &consumer, broker).open().unwrap());
    conformance::check(&opened);
    for gateway in [&producer, &consumer] {
        assert_eq!(gateway.sessions().len(), 1);
        assert!(gateway.bytes_to_clients() > 0);
    }
    drop(opened);
    for gateway in [&producer, &consumer] {
        assert!(gateway.sessions().is_empty());
    }
}

/// Says of either gateway that is gone that the stream goes through it, and finds its way again when that is back.
fn recovers(broker: BrokerChoice) {
    let mut pair = [Gateway::start(), Gateway::start()];
    let broker = through(&pair[0], &pair[1], broker).open().unwrap();
    for side in 0..2 {
        let mut subscriber = broker.subscribe("lost").unwrap();
        pair[side].kill();
        let until = Instant::now() + HANGS;
        let error = loop {
            match subscriber.receive(&mut Vec::new(), Duration::from_secs(1)) {
                Ok(()) => assert!(Instant::now() < until, "a subscriber that hears nothing any more does not say so"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains(&format!("gateways of {} and {}", pair[0].address(), pair[1].address())), "{error}");
        for error in [broker.subscribe("lost").err().unwrap(), broker.delete("lost").unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains(&format!("the control server at {}", pair[side].address())), "{error}");
        }
        pair[side].resume();
        broker.delete("lost").unwrap();
        let mut subscriber = broker.subscribe("found").unwrap();
        let message = Message { head: "head".into(), payload: "payload".into() };
        broker.config().publisher("found").unwrap().end(&message).unwrap();
        let mut received = Vec::new();
        while received.is_empty() {
            subscriber.receive(&mut received, Duration::from_secs(1)).unwrap();
            assert!(Instant::now() < until + HANGS, "nothing came");
        }
        assert_eq!(received[0].head, message.head);
        broker.delete("found").unwrap();
    }
}

/// The options for these gateways.
fn via(producer: &Gateway, consumer: &Gateway) -> String {
    via_those_at(producer.address(), consumer.address())
}

fn via_those_at(producer: &str, consumer: &str) -> String {
    format!(
        "--stream-via-scistream --scistream-insecure --scistream-producer-s2cs {producer} --scistream-consumer-s2cs {consumer}"
    )
}

/// The results of a small sweep, which carries all items as they were.
fn carried(stream: &str, via: &str) -> Value {
    let bench = Bench::new();
    let trials = bench.trials(&format!(
        "{stream} {via} --executor thread --stream-method default --max-workers 3 --data-size-bytes 1kB 300kB --task-count 30 --rate max --verify"
    ));
    assert_eq!(trials.len(), 2);
    trials.iter().for_each(assert_complete);
    bench.results()
}

/// The stream goes between gateways by this type of data server, of which both are told what it uses.
fn carries_by(kind: &str, stream: &str) {
    let (producer, consumer) = (Gateway::offering(kind), Gateway::offering(kind));
    let results = carried(stream, &via(&producer, &consumer));
    let path = &results["environment"]["broker"]["via"]["paths"][0];
    assert_eq!((&path["producer_type"], &path["consumer_type"]), (&kind.into(), &kind.into()), "{path:#}");
    for trial in results["trials"].as_array().unwrap() {
        let gateways = in_role(trial, "gateway");
        assert_eq!(gateways.len(), 2, "{trial:#}");
        assert!(gateways.iter().all(|gateway| gateway["cpu_seconds"].as_f64().unwrap() > 0.0), "{gateways:#?}");
    }
    assert!(producer.sessions().is_empty() && consumer.sessions().is_empty());
}

/// Both methods run; what the broker carries comes through both gateways, but not what generators send it, and nothing is left at these.
fn carries(stream: &str) {
    const SIZE: u64 = 1_000_000;
    const COUNT: u64 = 40;
    let (producer, consumer) = (Gateway::start(), Gateway::start());
    let bench = Bench::new();
    // The proxies' trial is long enough to be held for a look at what the other one has brought.
    let arguments = format!(
        "{stream} {} --stream-method default proxy --data-size-bytes {SIZE} --task-count {COUNT} --task-sleep 0.1 --verify",
        via(&producer, &consumer)
    );
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("the first trial has ended", || bench.log().contains("[1/2]"));
    send_signal(child.id(), "STOP");
    for gateway in [&producer, &consumer] {
        let sessions = gateway.sessions();
        let carried = |way: &str| sessions.iter().map(|session| session["traffic"][way].as_u64().unwrap()).max();
        assert!(carried("bytes_to_client") > Some(COUNT * SIZE), "{sessions:#?}");
        assert!(carried("bytes_to_target") < Some(SIZE), "{sessions:#?}");
    }
    send_signal(child.id(), "CONT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let results = bench.results();
    for trial in results["trials"].as_array().unwrap() {
        assert_complete(trial);
        assert_eq!(trial["stream_via"], "scistream");
    }
    let via = &results["environment"]["broker"]["via"];
    assert_eq!(via["producer_s2cs"], producer.address());
    assert_eq!(via["consumer_s2cs"], consumer.address());
    let path = &via["paths"][0];
    assert_eq!((&path["producer_type"], &path["consumer_type"]), (&"copy".into(), &"copy".into()));
    assert_eq!(path["target"], results["environment"]["broker"]["address"]);
    assert!(producer.sessions().is_empty() && consumer.sessions().is_empty());
}

/// A gateway that is lost ends the trial in time, with every item accounted for.
fn balances(stream: &str) {
    for side in 0..2 {
        let mut pair = [Gateway::start(), Gateway::start()];
        let bench = Bench::new();
        let arguments = format!(
            "{stream} {} --stream-method default --data-size-bytes 100kB --task-count 600 --task-sleep 0.1 --max-workers 3",
            via(&pair[0], &pair[1])
        );
        let child = bench.command(&arguments).spawn().unwrap();
        wait_until("items come through", || pair[1].bytes_to_clients() > 500_000);
        pair[side].kill();
        let output = finish(child);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let trial = &bench.results()["trials"][0];
        let count = |name: &str| trial["items"][name].as_u64().unwrap();
        assert_balanced(trial);
        assert!(count("finished") >= 3, "{trial:#}");
        let said = problems(trial);
        assert!(said.contains(&format!("gateways of {} and {}", pair[0].address(), pair[1].address())), "{said}");
        assert!(pair[1 - side].sessions().is_empty());
    }
}

/// However a run ends, no session stays.
fn leaves_nothing(stream: &str, interrupts: usize) {
    let (producer, consumer) = (Gateway::start(), Gateway::start());
    let bench = Bench::new();
    let arguments = format!(
        "{stream} {} --stream-method default --data-size-bytes 10kB --task-count 12000 --task-sleep 1 --rate 20/s",
        via(&producer, &consumer)
    );
    let child = bench.command(&arguments).spawn().unwrap();
    wait_until("items come through", || consumer.bytes_to_clients() > 50_000);
    match interrupts {
        1 => send_signal(child.id(), "INT"),
        _ => interrupt_twice(&child, &bench),
    }
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(producer.sessions().is_empty() && consumer.sessions().is_empty());
}

/// What a run says that does not start, in one line.
#[track_caller]
fn refused(arguments: &str) -> String {
    let bench = Bench::new();
    let output = finish(bench.command(arguments).spawn().unwrap());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 0);
    said
}

fn redis_at(stream: &str, redis: &Redis) -> String {
    format!("--stream {stream} --stream-servers {}", redis.address())
}

#[test]
fn redis_carries_through_gateways() {
    let redis = Redis::start(&[]);
    redis::cmd("CONFIG")
        .arg(&["SET", "client-output-buffer-limit", "pubsub 0 0 0"])
        .exec(&mut redis.connection())
        .unwrap();
    ["redis", "redis-queue"].iter().for_each(|stream| carries(&redis_at(stream, &redis)));
}

#[test]
fn redis_carries_over_quic() {
    let redis = Redis::start(&[]);
    ["redis", "redis-queue"].iter().for_each(|stream| carries_by("quic", &redis_at(stream, &redis)));
}

#[test]
fn redis_carries_through_the_references_gateways() {
    let redis = Redis::start(&[]);
    for stream in ["redis", "redis-queue"] {
        let (producer, consumer) = (Reference::start(), Reference::start());
        let results = carried(&redis_at(stream, &redis), &via_those_at(&producer.address(), &consumer.address()));
        let path = &results["environment"]["broker"]["via"]["paths"][0];
        assert_eq!((&path["target"], &path["producer_type"]), (&redis.address().into(), &Value::Null), "{path:#}");
        for (server, role) in [(&producer, "PROD"), (&consumer, "CONS")] {
            let calls = server.calls();
            assert!(calls.contains(&format!("update {role}")), "{calls:?}");
            assert_eq!(calls.last().map(String::as_str), Some("release"), "{calls:?}");
        }
    }
}

#[test]
fn a_gateway_lost_on_the_way_to_redis_loses_no_count() {
    let redis = Redis::start(&[]);
    ["redis", "redis-queue"].iter().for_each(|stream| balances(&redis_at(stream, &redis)));
}

#[test]
fn no_session_stays_of_a_run_over_redis() {
    let redis = Redis::start(&[]);
    leaves_nothing(&redis_at("redis", &redis), 1);
    leaves_nothing(&redis_at("redis-queue", &redis), 2);
}

#[test]
fn without_gateways_there_is_a_private_pair() {
    let redis = Redis::start(&[]);
    let arguments = format!(
        "{} --stream-via-scistream --scistream-type splice --stream-method default --data-size-bytes 1MB --task-count 400",
        redis_at("redis-queue", &redis)
    );
    let bench = Bench::new();
    let trials = bench.trials(&arguments);
    assert_complete(&trials[0]);
    let gateways = in_role(&trials[0], "gateway");
    assert_eq!(gateways.len(), 2, "{:#}", trials[0]["processes"]);
    for gateway in gateways {
        assert!(gateway["cpu_seconds"].as_f64().unwrap() > 0.0, "{gateway:#}");
        assert!(!is_alive(gateway["pid"].as_u64().unwrap().try_into().unwrap()), "{gateway:#}");
    }
    let results = bench.results();
    assert_eq!(results["environment"]["broker"]["via"]["paths"][0]["consumer_type"], "splice");
}

#[test]
fn one_private_pair_serves_broker_and_connector() {
    let redis = Redis::start(&[]);
    let arguments = format!(
        "{} --stream-via-scistream --ps-connector scistream --stream-method default proxy --data-size-bytes 100kB --task-count 50",
        redis_at("redis-queue", &redis)
    );
    for trial in Bench::new().trials(&arguments) {
        assert_complete(&trial);
        assert_eq!(in_role(&trial, "gateway").len(), 2, "{:#}", trial["processes"]);
    }
}

#[test]
fn what_can_not_be_is_one_line_ahead_of_the_run() {
    let redis = Redis::start(&[]);
    let (producer, consumer) = (Gateway::start(), Gateway::start());
    let said = refused(&format!("--stream memory {}", via(&producer, &consumer)));
    assert!(said.contains("--stream memory") && said.contains("redis-queue or kafka"), "{said}");
    let said = refused(&format!(
        "{} --stream-via-scistream --scistream-insecure --scistream-producer-s2cs {} --scistream-consumer-s2cs {NOBODY}",
        redis_at("redis", &redis),
        producer.address()
    ));
    assert!(said.contains(&format!("the control server at {NOBODY}")), "{said}");
    let said = refused(&format!("--stream redis --stream-servers {NOBODY} {}", via(&producer, &consumer)));
    assert!(said.contains(NOBODY) && said.contains(&format!("gateways of {}", producer.address())), "{said}");
    assert!(said.contains(&format!("{}, by 127.0.0.1:", consumer.address())), "{said}");
    assert!(producer.sessions().is_empty() && consumer.sessions().is_empty());
}

#[test]
fn a_dry_run_names_the_gateways_and_asks_none() {
    let arguments = "--dry-run --stream redis --stream-via-scistream --scistream-insecure --scistream-producer-s2cs gw1.invalid:5000 \
                     --scistream-consumer-s2cs gw2.invalid:5000 --scistream-rate 1000";
    let output = Bench::new().run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = text(&output);
    assert!(
        said.contains("redis at localhost:6379 through the gateways of gw1.invalid:5000 and gw2.invalid:5000"),
        "{said}"
    );
    assert!(!said.contains("no effect"), "{said}");
}

/// Both kinds of Redis brokers at this server.
fn both(redis: &Redis) -> [BrokerChoice; 2] {
    let (server, format) =
        (psbench_connectors::redis::RedisServer::tcp("127.0.0.1", redis.port), MessageFormat::Psbench);
    [BrokerChoice::Redis { server: server.clone(), format }, BrokerChoice::RedisQueue { server, format }]
}

#[test]
fn redis_conforms() {
    both(&Redis::start(&[])).into_iter().for_each(conforms);
}

#[test]
fn redis_is_found_again() {
    both(&Redis::start(&[])).into_iter().for_each(recovers);
}

#[cfg(feature = "kafka")]
mod kafka {
    use std::process::Command;

    use psbench::brokers::{Broker, KafkaSettings};

    use super::*;
    use crate::support::Kafka;

    #[test]
    fn conforms() {
        let kafka = Kafka::shared();
        super::conforms(BrokerChoice::Kafka(kafka.settings()));
    }

    /// What comes of as many messages as there are, in any order.
    fn pass(broker: &dyn Broker, topic: &str, count: u32) {
        let mut subscriber = broker.subscribe(topic).unwrap();
        let message = |n: u32| Message { head: n.to_le_bytes().to_vec().into(), payload: vec![7; 100_000].into() };
        let sent: Vec<Message> = (0..count).map(message).collect();
        broker.config().publisher(topic).unwrap().publish(&sent).unwrap();
        let until = Instant::now() + HANGS;
        let mut received = Vec::new();
        while received.len() < sent.len() {
            subscriber.receive(&mut received, Duration::from_secs(1)).unwrap();
            assert!(Instant::now() < until, "{} of {count} came", received.len());
        }
        received.sort_by_key(|message| u32::from_le_bytes(message.head[..].try_into().unwrap()));
        assert!(received == sent, "others came than were sent");
        broker.delete(topic).unwrap();
    }

    fn at(kafka: &Kafka) -> String {
        format!("--stream kafka --stream-servers {} --kafka-option message.timeout.ms=8000", kafka.address())
    }

    #[test]
    fn carries_through_gateways() {
        carries(&at(&Kafka::shared()));
    }

    mod slow {
        use super::*;

        #[test]
        fn is_found_again() {
            let kafka = Kafka::shared();
            recovers(BrokerChoice::Kafka(kafka.settings()));
        }

        #[test]
        fn carries_over_quic() {
            carries_by("quic", &at(&Kafka::shared()));
        }

        #[test]
        fn a_gateway_lost_loses_no_count() {
            balances(&at(&Kafka::shared()));
        }

        #[test]
        fn no_session_stays() {
            let kafka = Kafka::shared();
            leaves_nothing(&at(&kafka), 1);
            leaves_nothing(&at(&kafka), 2);
        }

        /// Where the broker says it is, only the producer's side reaches it: its name is known there alone.
        #[test]
        fn a_broker_that_is_elsewhere_by_its_own_account_is_reached() {
            const COUNT: u64 = 50;
            if !rustix::process::geteuid().is_root() {
                eprintln!("skipped: a_broker_that_is_elsewhere_by_its_own_account_is_reached takes root");
                return;
            }
            let directory = tempfile::tempdir().unwrap();
            let hosts = directory.path().join("hosts");
            fs::write(&hosts, "127.0.0.1 localhost broker.producer.invalid\n").unwrap();
            let there = || {
                let mut command = Command::new("unshare");
                let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
                command.args(["--mount", "sh", "-c", script]).arg(&hosts).arg(env!("CARGO_BIN_EXE_psbench"));
                command
            };
            let kafka = Kafka::start(&["advertised.listeners=PLAINTEXT://broker.producer.invalid:{port}"]);
            let stream = format!(
                "--interop proxystore --stream kafka --stream-topic frames --stream-servers {}",
                kafka.address()
            );
            let consumes =
                format!("{stream} --generator external --stream-method default --task-count {COUNT} --verify=false");
            let said = refused(&consumes);
            assert!(said.contains(&format!("broker.producer.invalid:{}", kafka.port())), "{said}");

            let (producer, consumer) = (Gateway::start_by(there()), Gateway::start());
            let bench = Bench::new();
            let consuming = bench.command(&format!("{consumes} {}", via(&producer, &consumer))).spawn().unwrap();
            wait_until("it is subscribed", || {
                let log = |run: fs::DirEntry| fs::read_to_string(run.path().join("log.txt")).unwrap_or_default();
                fs::read_dir(bench.directory.path())
                    .unwrap()
                    .flatten()
                    .any(|run| log(run).contains("waiting for a producer"))
            });
            let mut generating = there();
            let generates =
                format!("generate {stream} --stream-method default --data-size-bytes 100kB --task-count {COUNT}");
            let output = generating.args(generates.split_whitespace()).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
            let output = finish(consuming);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
            let results = bench.results();
            assert_complete(&results["trials"][0]);
            assert_eq!(results["trials"][0]["items"]["finished"], COUNT);
            let paths = results["environment"]["broker"]["via"]["paths"].as_array().unwrap();
            let targets: Vec<_> = paths.iter().map(|path| path["target"].as_str().unwrap()).collect();
            assert_eq!(targets, [kafka.address(), format!("broker.producer.invalid:{}", kafka.port())]);
        }

        #[test]
        fn each_broker_of_a_cluster_has_a_path_and_one_that_joins_later_too() {
            const COUNT: u32 = 100;
            let (first, second) = (Kafka::start(&[]), Kafka::start(&[]));
            let (producer, consumer) = (Gateway::start(), Gateway::start());
            let settings = KafkaSettings { partitions: 4, ..first.settings() };
            let broker = through(&producer, &consumer, BrokerChoice::Kafka(settings)).open().unwrap();
            pass(&*broker, "alone", COUNT);
            assert_eq!(consumer.sessions().len(), 1);
            second.join(&first);
            wait_until("both brokers have partitions", || {
                let topic = "joined";
                let subscriber = broker.subscribe(topic);
                drop(subscriber);
                broker.delete(topic).unwrap();
                consumer.sessions().len() == 2
            });
            pass(&*broker, "together", COUNT);
            for gateway in [&producer, &consumer] {
                for session in gateway.sessions() {
                    let bytes = session["traffic"]["bytes_to_client"].as_u64().unwrap();
                    // Of each, at least a fourth of what went through both in the end.
                    assert!(bytes > u64::from(COUNT) * 100_000 / 4, "{session:#}");
                }
            }
            let via = broker.info().unwrap().via.unwrap();
            let mut targets: Vec<_> = via.paths.into_iter().map(|path| path.target).collect();
            let mut both = [first.address(), second.address()];
            targets.sort();
            both.sort();
            assert_eq!(targets, both);
            drop(broker);
            assert!(producer.sessions().is_empty() && consumer.sessions().is_empty());
        }
    }
}

/// What takes long, or is held in full elsewhere.
mod slow {
    use super::*;

    #[test]
    fn redis_carries_through_haproxy() {
        let redis = Redis::start(&[]);
        ["redis", "redis-queue"].iter().for_each(|stream| carries_by("haproxy", &redis_at(stream, &redis)));
    }

    #[test]
    fn redis_carries_through_stunnel() {
        let redis = Redis::start(&[]);
        ["redis", "redis-queue"].iter().for_each(|stream| carries_by("stunnel", &redis_at(stream, &redis)));
    }
}
