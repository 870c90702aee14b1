//! Streams whose dispatcher reaches the broker through SciStream's gateways.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use psbench::brokers::{Broker, BrokerChoice, BrokerError, Message, MessageFormat, PathPlan, Publisher, conformance};
use scistream::client::Wishes;

use support::{Gateway, Redis, gateways, wait_until};

struct Opened(Box<dyn Broker>);

impl conformance::Parts for Opened {
    fn broker(&self) -> &dyn Broker {
        &*self.0
    }

    fn publisher(&self, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
        self.0.config().publisher(topic)
    }
}

/// The broker, behind these gateways.
fn through(producer: &Gateway, consumer: &Gateway, broker: BrokerChoice) -> BrokerChoice {
    let plan = PathPlan { gateways: Some(gateways(producer, consumer)), rate: 0, wishes: Wishes::default() };
    BrokerChoice::Through { broker: Box::new(broker), plan: Arc::new(plan) }
}

/// Conforms, by way of both gateways, and leaves no session at either.
fn conforms(broker: BrokerChoice) {
    let (producer, consumer) = (Gateway::start(), Gateway::start());
    let opened = Opened(through(&producer, &consumer, broker).open().unwrap());
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
        let until = Instant::now() + Duration::from_secs(60);
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
            assert!(Instant::now() < until + Duration::from_secs(60), "nothing came");
        }
        assert_eq!(received[0].head, message.head);
        broker.delete("found").unwrap();
    }
}

/// Both kinds of Redis brokers at this server.
fn both(redis: &Redis) -> [BrokerChoice; 2] {
    let (server, format) = (("127.0.0.1".to_owned(), redis.port), MessageFormat::Psbench);
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
    use psbench::brokers::KafkaSettings;

    use super::*;
    use crate::support::Kafka;

    fn settings(address: &str) -> KafkaSettings {
        let (host, port) = address.rsplit_once(':').unwrap();
        KafkaSettings {
            servers: vec![(host.into(), port.parse().unwrap())],
            properties: [("message.timeout.ms".into(), "8000".into())].into(),
            format: MessageFormat::Psbench,
            partitions: 1,
            replication: None,
            retention: None,
            max_message_bytes: None,
            largest_message: 4 << 20,
        }
    }

    #[test]
    fn conforms() {
        let kafka = Kafka::shared();
        super::conforms(BrokerChoice::Kafka(settings(&kafka.address())));
    }

    #[test]
    fn is_found_again() {
        let kafka = Kafka::shared();
        recovers(BrokerChoice::Kafka(settings(&kafka.address())));
    }

    /// What comes of as many messages as there are, in any order.
    fn pass(broker: &dyn Broker, topic: &str, count: u32) {
        let mut subscriber = broker.subscribe(topic).unwrap();
        let message = |n: u32| Message { head: n.to_le_bytes().to_vec().into(), payload: vec![7; 100_000].into() };
        let sent: Vec<Message> = (0..count).map(message).collect();
        broker.config().publisher(topic).unwrap().publish(&sent).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let mut received = Vec::new();
        while received.len() < sent.len() {
            subscriber.receive(&mut received, Duration::from_secs(1)).unwrap();
            assert!(Instant::now() < until, "{} of {count} came", received.len());
        }
        received.sort_by_key(|message| u32::from_le_bytes(message.head[..].try_into().unwrap()));
        assert!(received == sent, "others came than were sent");
        broker.delete(topic).unwrap();
    }

    #[test]
    fn each_broker_of_a_cluster_has_a_path_and_one_that_joins_later_too() {
        const COUNT: u32 = 100;
        let (first, second) = (Kafka::start(&[]), Kafka::start(&[]));
        let (producer, consumer) = (Gateway::start(), Gateway::start());
        let settings = KafkaSettings { partitions: 4, ..settings(&first.address()) };
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
