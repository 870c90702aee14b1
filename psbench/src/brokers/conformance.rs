//! What every broker does, in one suite.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a suite of assertions: it panics where a broker does not conform"
)]

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Broker, BrokerError, Message, Publisher, Subscriber};

/// For what takes no time unless it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// The two sides of a broker under test.
pub trait Parts: Sync {
    /// The subscribing side.
    fn broker(&self) -> &dyn Broker;

    /// The publishing side.
    fn publisher(&self, topic: &str) -> Result<Box<dyn Publisher>, BrokerError>;
}

impl<B: Broker> Parts for B {
    fn broker(&self) -> &dyn Broker {
        self
    }

    fn publisher(&self, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
        self.config().publisher(topic)
    }
}

/// Panics where the broker does not keep the contract.
pub fn check(parts: &dyn Parts) {
    arrives_whole_and_in_order(parts);
    topics_are_apart(parts);
    nothing_arrives_twice_or_unasked(parts);
    batches_arrive_in_order(parts);
    information_is_there(parts);
}

/// A topic nobody else uses.
fn topic(name: &str) -> String {
    format!("conformance-{name}-{}", uuid::Uuid::new_v4().simple())
}

fn message(n: usize, size: usize) -> Message {
    let payload: Vec<u8> = (0..size).map(|i| (i * 31 + n) as u8).collect();
    Message { head: Bytes::from(format!("head {n}")), payload: payload.into() }
}

fn receive(subscriber: &mut dyn Subscriber, count: usize) -> Vec<Message> {
    let until = Instant::now() + HANGS;
    let mut received = Vec::new();
    while received.len() < count && Instant::now() < until {
        subscriber.receive(&mut received, Duration::from_millis(200)).unwrap();
    }
    assert_eq!(received.len(), count, "messages arrived");
    received
}

fn arrives_whole_and_in_order(parts: &dyn Parts) {
    let topic = topic("sizes");
    let mut subscriber = parts.broker().subscribe(&topic).unwrap();
    let mut publisher = parts.publisher(&topic).unwrap();
    let sent: Vec<Message> =
        [0, 1, 100, 65_535, 65_536, 300_000, 4 << 20].iter().enumerate().map(|(n, size)| message(n, *size)).collect();
    for message in &sent {
        publisher.publish(std::slice::from_ref(message)).unwrap();
    }
    assert!(receive(&mut *subscriber, sent.len()) == sent, "messages changed on their way");
    parts.broker().delete(&topic).unwrap();
}

fn batches_arrive_in_order(parts: &dyn Parts) {
    const BATCHES: usize = 40;
    const BATCH: usize = 300;
    let topic = topic("batches");
    let mut subscriber = parts.broker().subscribe(&topic).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = parts.publisher(&topic).unwrap();
            for batch in 0..BATCHES {
                let messages: Vec<Message> = (0..BATCH).map(|n| message(batch * BATCH + n, 500)).collect();
                publisher.publish(&messages).unwrap();
            }
        });
        let received = receive(&mut *subscriber, BATCHES * BATCH);
        for (n, received) in received.iter().enumerate() {
            assert!(*received == message(n, 500), "message {n} of a batch is not the one sent");
        }
    });
    parts.broker().delete(&topic).unwrap();
}

fn topics_are_apart(parts: &dyn Parts) {
    let (one, other) = (topic("one"), topic("other"));
    let mut first = parts.broker().subscribe(&one).unwrap();
    let mut second = parts.broker().subscribe(&other).unwrap();
    parts.publisher(&one).unwrap().publish(&[message(1, 10)]).unwrap();
    parts.publisher(&other).unwrap().publish(&[message(2, 10)]).unwrap();
    assert_eq!(receive(&mut *first, 1), [message(1, 10)]);
    assert_eq!(receive(&mut *second, 1), [message(2, 10)]);
    parts.broker().delete(&one).unwrap();
    parts.broker().delete(&other).unwrap();
}

fn nothing_arrives_twice_or_unasked(parts: &dyn Parts) {
    let topic = topic("once");
    let mut subscriber = parts.broker().subscribe(&topic).unwrap();
    let started = Instant::now();
    let mut received = Vec::new();
    subscriber.receive(&mut received, Duration::from_millis(50)).unwrap();
    assert!(received.is_empty(), "a message nobody sent");
    assert!(started.elapsed() < HANGS, "waited past its bound");
    parts.publisher(&topic).unwrap().publish(&[message(7, 7)]).unwrap();
    assert_eq!(receive(&mut *subscriber, 1), [message(7, 7)]);
    subscriber.receive(&mut received, Duration::from_millis(300)).unwrap();
    assert!(received.is_empty(), "a message came twice");
    parts.broker().delete(&topic).unwrap();
}

fn information_is_there(parts: &dyn Parts) {
    let info = parts.broker().info().unwrap();
    assert!(!info.name.is_empty() && !info.version.is_empty(), "{info:?}");
}
