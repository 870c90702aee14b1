//! The broker inside psbench: a queue of messages for each topic.
//!
//! A publisher in this process appends to the queue itself; one in another process reaches it over a Unix socket. The topic's bound
//! holds publishers back; nothing is dropped.

mod socket;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use psbench_connectors::Secret;

use self::socket::{Server, SocketPublisher};
use super::queue::{Abandoned, Queue};
use super::{Broker, BrokerConfig, BrokerError, Message, Publisher, Subscriber};
use crate::clock::Nanos;
use crate::environment::BrokerInfo;

/// The broker inside psbench.
#[derive(Debug)]
pub struct MemoryBroker {
    topics: Arc<Topics>,
    server: Server,
}

/// The topics that have a subscriber.
#[derive(Debug, Default)]
struct Topics(Mutex<HashMap<String, Arc<Queue>>>);

impl Topics {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Queue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, topic: &str) -> Option<Arc<Queue>> {
        self.lock().get(topic).map(Arc::clone)
    }
}

/// The brokers of this process, by their sockets' names.
static LOCAL: Mutex<BTreeMap<String, Weak<Topics>>> = Mutex::new(BTreeMap::new());

fn local() -> MutexGuard<'static, BTreeMap<String, Weak<Topics>>> {
    LOCAL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryBroker {
    /// Starts the broker and its socket.
    pub fn start() -> Result<Self, BrokerError> {
        let topics = Arc::new(Topics::default());
        let server = Server::start(Arc::clone(&topics))?;
        local().insert(server.name().into(), Arc::downgrade(&topics));
        Ok(Self { topics, server })
    }
}

impl Drop for MemoryBroker {
    fn drop(&mut self) {
        local().remove(self.server.name());
    }
}

impl Broker for MemoryBroker {
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
        let queue = Arc::new(Queue::default());
        self.topics.lock().insert(topic.into(), Arc::clone(&queue));
        Ok(Box::new(MemorySubscriber { queue, topic: topic.into(), topics: Arc::clone(&self.topics) }))
    }

    fn config(&self) -> BrokerConfig {
        BrokerConfig::Memory { socket: self.server.name().into(), secret: self.server.secret() }
    }

    fn delete(&self, topic: &str) -> Result<(), BrokerError> {
        self.topics.lock().remove(topic);
        Ok(())
    }

    fn info(&self) -> Result<BrokerInfo, BrokerError> {
        Ok(BrokerInfo {
            name: "memory".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            address: None,
            via: None,
            configuration: BTreeMap::new(),
        })
    }
}

struct MemorySubscriber {
    queue: Arc<Queue>,
    topic: String,
    topics: Arc<Topics>,
}

impl Subscriber for MemorySubscriber {
    fn receive(&mut self, messages: &mut Vec<Message>, wait: Duration) -> Result<(), BrokerError> {
        self.queue.pop(messages, wait)
    }

    fn received_bytes(&self) -> Option<u64> {
        Some(self.queue.received())
    }

    fn may_come(&self, _: Nanos) -> Option<bool> {
        // A publisher in this process has put its messages there itself.
        Some(!self.queue.is_drained())
    }
}

impl Drop for MemorySubscriber {
    fn drop(&mut self) {
        self.queue.abandon();
        self.topics.lock().remove(&self.topic);
    }
}

/// A publisher: on the queue itself where the broker is in this process, else over its socket.
pub(super) fn publisher(socket: &str, secret: Secret, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
    let here = local().get(socket).and_then(Weak::upgrade);
    let Some(topics) = here else {
        return Ok(Box::new(SocketPublisher::connect(socket, secret, topic)?));
    };
    let queue = topics.get(topic).ok_or_else(|| no_subscriber(topic))?;
    Ok(Box::new(LocalPublisher { queue, topic: topic.into() }))
}

fn no_subscriber(topic: &str) -> BrokerError {
    BrokerError::NoSubscriber { broker: "memory".into(), topic: topic.into() }
}

struct LocalPublisher {
    queue: Arc<Queue>,
    topic: String,
}

impl Publisher for LocalPublisher {
    fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        let mut messages = messages.iter().cloned().collect::<VecDeque<_>>();
        self.queue.count(messages.iter().map(Message::len).sum());
        match self.queue.push(&mut messages, || true) {
            Ok(_) => Ok(()),
            Err(Abandoned) => Err(no_subscriber(&self.topic)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use bytes::Bytes;

    use super::*;
    use crate::brokers::conformance;

    /// Publishes over the socket although the broker is in this process.
    struct OverSocket(MemoryBroker);

    impl conformance::Parts for OverSocket {
        fn broker(&self) -> &dyn Broker {
            &self.0
        }

        fn publisher(&self, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
            Ok(Box::new(SocketPublisher::connect(self.0.server.name(), self.0.server.secret(), topic)?))
        }
    }

    #[test]
    fn conforms_within_the_process() {
        conformance::check(&MemoryBroker::start().unwrap());
    }

    #[test]
    fn conforms_over_the_socket() {
        conformance::check(&OverSocket(MemoryBroker::start().unwrap()));
    }

    /// With a counter in between.
    #[test]
    fn bytes_over_the_socket_are_those_on_the_wire() {
        let broker = MemoryBroker::start().unwrap();
        let mut subscriber = broker.subscribe("topic").unwrap();
        let name = format!("psbench-wire-{}", uuid::Uuid::new_v4());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let wire = UnixListener::bind_addr(&address).unwrap();
        let mut server = socket::connect(broker.server.name()).unwrap();
        let counting = std::thread::spawn(move || {
            let (mut client, _) = wire.accept().unwrap();
            let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
            std::io::copy(&mut client, &mut server).unwrap()
        });
        let mut publisher = SocketPublisher::connect(&name, broker.server.secret(), "topic").unwrap();
        for size in [0, 100, 1 << 20] {
            let message = Message { head: Bytes::from_static(b"head"), payload: Bytes::from(vec![0; size]) };
            publisher.publish(&vec![message; 10]).unwrap();
        }
        let mut messages = Vec::new();
        while messages.len() < 30 {
            subscriber.receive(&mut messages, Duration::from_secs(60)).unwrap();
        }
        drop(publisher);
        let (told, carried) = (subscriber.received_bytes().unwrap(), counting.join().unwrap());
        // Beside the messages the wire had the secret and the topic.
        assert!((told + 16..told + 64).contains(&carried), "{told} bytes were told, and {carried} came");
    }

    #[test]
    fn a_publisher_learns_that_the_subscriber_left() {
        let broker = OverSocket(MemoryBroker::start().unwrap());
        let subscriber = broker.0.subscribe("topic").unwrap();
        let mut publisher = conformance::Parts::publisher(&broker, "topic").unwrap();
        drop(subscriber);
        let message = Message { head: Bytes::from_static(b"h"), payload: Bytes::from(vec![0; 1 << 20]) };
        let refused = (0..1000).find_map(|_| publisher.publish(std::slice::from_ref(&message)).err());
        assert!(refused.is_some(), "1 GB went to nobody");
    }

    #[test]
    fn a_stranger_is_not_served() {
        let broker = MemoryBroker::start().unwrap();
        let _subscriber = broker.subscribe("topic").unwrap();
        let wrong = SocketPublisher::connect(broker.server.name(), Secret([1; 16]), "topic").err().unwrap();
        assert!(wrong.to_string().contains("secret"), "{wrong}");
        let mut garbage = socket::connect(broker.server.name()).unwrap();
        garbage.write_all(&[0xff; 4096]).unwrap_or_default();
        garbage.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut answer = Vec::new();
        // Closed by the broker: an end or a reset, but no waiting.
        if let Err(error) = garbage.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn callers_that_say_nothing_make_way_for_publishers() {
        let broker = MemoryBroker::start().unwrap();
        let mut subscriber = broker.subscribe("topic").unwrap();
        let mut silent: Vec<_> = (0..300).map(|_| socket::connect(broker.server.name()).unwrap()).collect();
        let mut publisher = SocketPublisher::connect(broker.server.name(), broker.server.secret(), "topic").unwrap();
        let after: Vec<_> = (0..300).map(|_| socket::connect(broker.server.name()).unwrap()).collect();
        // The first ones have ended, by an end or a reset.
        assert!(matches!(silent[0].read(&mut [0]), Ok(0) | Err(_)));
        let message = Message { head: Bytes::from_static(b"head"), payload: Bytes::from_static(b"payload") };
        publisher.publish(std::slice::from_ref(&message)).unwrap();
        let mut messages = Vec::new();
        while messages.is_empty() {
            subscriber.receive(&mut messages, Duration::from_secs(60)).unwrap();
        }
        assert_eq!(messages, [message]);
        drop(broker);
        // Nobody is left waiting.
        for mut caller in silent.into_iter().chain(after) {
            assert!(matches!(caller.read(&mut [0]), Ok(0) | Err(_)));
        }
    }

    #[test]
    fn the_socket_goes_with_the_broker() {
        let broker = MemoryBroker::start().unwrap();
        let name = broker.server.name().to_owned();
        drop(broker);
        assert_eq!(socket::connect(&name).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
