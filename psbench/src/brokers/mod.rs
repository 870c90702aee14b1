//! Brokers: what carries the stream from generator to dispatcher.
//!
//! A new broker is one module that implements [`Publisher`] and [`Subscriber`], one variant in the registry ([`BrokerChoice`] and
//! [`BrokerConfig`]), and one test that calls [`conformance::check`]. A program can bring its own without changing this crate:
//! [`BrokerFactory`].

mod choice;
pub mod conformance;
mod format;
pub(crate) mod kafka;
mod memory;
mod own;
mod paths;
pub mod proxystore;
mod queue;
mod redis;
mod report;
mod route;
mod through;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use psbench_connectors::Secret;
use psbench_connectors::redis::RedisServer;
use serde::{Deserialize, Serialize};

pub use self::choice::BrokerChoice;
pub use self::format::MessageFormat;
pub use self::kafka::KafkaSettings;
pub(crate) use self::kafka::{LONGEST_TOPIC, OF_A_TRIAL};
pub use self::memory::MemoryBroker;
pub use self::own::{BrokerFactory, OWN_BROKERS};
pub use self::paths::{PathError, PathPlan};
use self::redis::{RedisBroker, RedisPublisher};
pub use self::report::{ClientStatistics, LagSample, PublisherReport};
use self::route::Route;
use crate::clock::Nanos;
use crate::environment::BrokerInfo;

/// One message: opaque bytes in two parts, so that bulk data need not be copied to stand next to its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Small metadata.
    pub head: Bytes,
    /// Bulk data, or a proxy; may be empty.
    pub payload: Bytes,
}

impl Message {
    /// Bytes of both parts.
    pub fn len(&self) -> u64 {
        (self.head.len() + self.payload.len()) as u64
    }

    /// Whether both parts are empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Sends messages to one topic, in order. Used by one generator's thread; every call is bounded in time.
///
/// A topic may be in several partitions, which are ordered each for itself: then message `n` of this publisher, counted from 0, goes to
/// partition `n` modulo their number.
pub trait Publisher: Send {
    /// Hands over messages, with as few round trips as the broker allows. Returns when the broker has them, or its client, which then
    /// sees to it that they get there; blocks while a broker that holds senders back is full. After an error some may have been sent.
    fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError>;

    /// Sends the publisher's last message, so that a subscriber gets it after all others, and once. Returns when the broker has all there
    /// is; an error tells of the messages that it does not have.
    fn end(&mut self, last: &Message) -> Result<(), BrokerError> {
        self.publish(std::slice::from_ref(last))
    }

    /// What there is to tell of this publisher, after its end or an error. Provided for those that know of nothing.
    fn report(&self) -> PublisherReport {
        PublisherReport::default()
    }
}

/// Receives the messages of one topic, in order, from the moment it was made. Used by the dispatcher's thread.
pub trait Subscriber: Send {
    /// Appends what has arrived to `messages`, waiting at most `wait` for the first. Appends nothing when nothing came.
    fn receive(&mut self, messages: &mut Vec<Message>, wait: Duration) -> Result<(), BrokerError>;

    /// What came from the broker so far for messages, in the form in which the broker carries them, bytes. Provided for brokers that carry
    /// them as they are: those that were received are counted, then.
    fn received_bytes(&self) -> Option<u64> {
        None
    }

    /// The latest look at how much waits for this subscriber; `None` where nobody looks. Returns at once.
    fn lag(&self) -> Option<LagSample> {
        None
    }

    /// Whether a message can still come that was sent by then, by publishers that have all ended since; `None` where the broker does not
    /// tell. What [`receive`](Self::receive) would append at once can still come. Returns at once.
    fn may_come(&self, _sent_by: Nanos) -> Option<bool> {
        None
    }

    /// What the broker's client counted so far; `None` where it does not.
    fn statistics(&self) -> Option<ClientStatistics> {
        None
    }
}

/// A broker as the dispatcher sees it.
pub trait Broker: Send + Sync {
    /// Subscribes to a topic. On return the broker has confirmed it: what is published from now on is received.
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError>;

    /// What a generator in another process or on another host needs to publish.
    fn config(&self) -> BrokerConfig;

    /// Deletes what the broker still holds of a topic.
    fn delete(&self, topic: &str) -> Result<(), BrokerError>;

    /// Deletes what [`delete`](Self::delete) could not, of all trials so far; an error names what stays. Called once after the last trial.
    fn delete_rest(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// How many subscribers a topic has; `None` where the broker keeps messages until one comes.
    fn subscribers(&self, _topic: &str) -> Result<Option<u64>, BrokerError> {
        Ok(None)
    }

    /// Makes sure ahead of a run that messages to topics that begin with `topic` will pass. `largest`: of the items that go whole, bytes. Returns
    /// warnings.
    fn check(&self, _topic: &str, _largest: u64) -> Result<Vec<String>, BrokerError> {
        Ok(Vec::new())
    }

    /// Its version and settings, for the results. Provided for brokers that have none to tell.
    fn info(&self) -> Result<BrokerInfo, BrokerError> {
        let (name, address) = match self.config() {
            BrokerConfig::Own { name, place } => (name, Some(place)),
            _ => ("unknown".into(), None),
        };
        Ok(BrokerInfo { name, version: "unknown".into(), address, via: None, configuration: BTreeMap::new() })
    }
}

/// All that a generator needs to publish: see [`BrokerConfig::publisher`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerConfig {
    /// The broker inside psbench.
    Memory {
        /// Its Unix socket's name in the abstract namespace.
        socket: String,
        /// What a publisher must know.
        secret: Secret,
    },
    /// Redis pub/sub.
    Redis {
        /// How it is reached.
        server: RedisServer,
        /// Of messages.
        format: MessageFormat,
    },
    /// Redis lists.
    RedisQueue {
        /// How it is reached.
        server: RedisServer,
        /// Of messages.
        format: MessageFormat,
    },
    /// Apache Kafka.
    Kafka(KafkaSettings),
    /// A broker that this program brings with it.
    Own {
        /// The name it is [registered](OWN_BROKERS) under.
        name: String,
        /// What a publisher needs, in a form of the broker's own.
        place: String,
    },
}

impl BrokerConfig {
    /// A publisher to `topic`.
    pub fn publisher(&self, topic: &str) -> Result<Box<dyn Publisher>, BrokerError> {
        Ok(match self {
            Self::Memory { socket, secret } => memory::publisher(socket, *secret, topic)?,
            Self::Redis { server, format } => Box::new(RedisPublisher::pub_sub(server, *format, topic)?),
            Self::RedisQueue { server, format } => Box::new(RedisPublisher::queue(server, *format, topic)?),
            Self::Kafka(settings) => kafka::publisher(settings, topic)?,
            Self::Own { name, place } => own::factory(name)?.publisher(place, topic)?,
        })
    }
}

impl BrokerChoice {
    /// Starts the embedded broker, or connects to the server.
    pub fn open(&self) -> Result<Box<dyn Broker>, BrokerError> {
        connect(self, &Route::Direct)
    }
}

/// Starts the embedded broker, or connects to the server by this route.
fn connect(choice: &BrokerChoice, route: &Route) -> Result<Box<dyn Broker>, BrokerError> {
    Ok(match choice {
        BrokerChoice::Memory => Box::new(MemoryBroker::start()?),
        BrokerChoice::Redis { server, format } => Box::new(RedisBroker::pub_sub(server, *format, route)?),
        BrokerChoice::RedisQueue { server, format } => Box::new(RedisBroker::queue(server, *format, route)?),
        BrokerChoice::Kafka(settings) => kafka::open(settings, route)?,
        BrokerChoice::Own { name, servers } => own::factory(name)?.open(servers)?,
        BrokerChoice::Through { broker, plan } => through::open(broker, plan)?,
    })
}

/// Deletes what trials of this process would leave at brokers; for a process that is about to exit.
pub(crate) fn abandon() {
    redis::abandon();
    kafka::abandon();
}

/// Why a broker could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A socket failed.
    #[error("{broker}: {action}: {source}")]
    Io {
        /// The broker and its address.
        broker: String,
        /// What was tried.
        action: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The Redis server refused, vanished or did not answer.
    #[error("{broker}: {action}: {}{remedy}", psbench_connectors::redis::said(source))]
    Redis {
        /// The broker and its address.
        broker: String,
        /// What was tried.
        action: String,
        /// The client's reason.
        source: ::redis::RedisError,
        /// What to do, beginning with a separator, or empty.
        remedy: String,
    },
    /// The Kafka cluster refused, vanished or did not answer.
    #[error("{broker}: {action}: {source}{remedy}")]
    Kafka {
        /// The broker and its address.
        broker: String,
        /// What was tried.
        action: String,
        /// The client's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to do, beginning with a separator, or empty.
        remedy: String,
    },
    /// There is no path to the broker.
    #[error("{broker}: {source}")]
    Path {
        /// The broker and its address.
        broker: String,
        /// Why.
        source: PathError,
    },
    /// A broker behind gateways, or one of these, refused, vanished or did not answer.
    #[error("{source} (reached through {gateways})")]
    Through {
        /// What the broker's client told.
        source: Box<BrokerError>,
        /// Which.
        gateways: String,
    },
    /// The subscriber no longer gets messages.
    #[error("{broker}: the subscriber was dropped{remedy}")]
    Dropped {
        /// The broker and its address.
        broker: String,
        /// Why and what to do, beginning with a separator.
        remedy: String,
    },
    /// Nobody is subscribed to the topic, but somebody who was cut off may come back.
    #[error("{broker}: nobody is subscribed to topic {topic} any more")]
    Unheard {
        /// The broker and its address.
        broker: String,
        /// The topic.
        topic: String,
        /// How many of the messages were heard.
        heard: usize,
    },
    /// Nobody is subscribed to the topic any more.
    #[error("{broker}: nobody is subscribed to topic {topic} any more")]
    NoSubscriber {
        /// The broker and its address.
        broker: String,
        /// The topic.
        topic: String,
    },
    /// A broker that a program brings with it failed for a reason of its own.
    #[error(transparent)]
    Own(Box<dyn std::error::Error + Send + Sync>),
    /// What arrived is no message of psbench.
    #[error("{broker}: {reason}")]
    Protocol {
        /// The broker and its address.
        broker: String,
        /// What was wrong.
        reason: String,
    },
}

impl BrokerError {
    /// Of a broker that a program brings with it. The reason should name the broker and its place.
    pub fn own(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Own(reason.into())
    }
}

impl fmt::Debug for dyn Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({:?})", self.config())
    }
}
