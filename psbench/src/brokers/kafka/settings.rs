//! How a Kafka cluster is used.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::MessageFormat;

/// A Kafka cluster, and how psbench uses it. Holds no secret: those come from the environment of whoever connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaSettings {
    /// `host`, `port` of servers to begin with; the cluster tells of the others.
    pub servers: Vec<(String, u16)>,
    /// Properties of librdkafka that the user gave, by name.
    pub properties: BTreeMap<String, String>,
    /// Of messages.
    pub format: MessageFormat,
    /// Partitions of a topic that psbench makes, at least 1.
    pub partitions: u32,
    /// Its replicas; absent for the cluster's default, as all that follow.
    pub replication: Option<u16>,
    /// How long it keeps messages.
    pub retention: Option<Duration>,
    /// Its largest batch of messages, bytes; absent for what the items need.
    pub max_message_bytes: Option<u64>,
    /// The largest message of any trial, bytes.
    pub largest_message: u64,
}

/// What a message takes beside its payload, bytes: its head as the key, and Kafka's framing of it and of its batch. Generously, since a
/// limit above what is needed costs nothing.
#[cfg(feature = "kafka")]
pub(super) const MESSAGE_OVERHEAD: u64 = 64 << 10;

/// Of a topic's name, in characters.
pub(crate) const LONGEST_TOPIC: usize = 249;

/// What a trial's topic has beyond the name that it begins with, in characters: a hyphen and a UUID.
pub(crate) const OF_A_TRIAL: usize = 33;

impl KafkaSettings {
    #[cfg(feature = "kafka")]
    /// Whether messages lie in partitions by turns. ProxyStore's consumers end with the first end of a stream that they see, so its
    /// streams go to one partition.
    pub(super) fn spreads(&self) -> bool {
        self.format == MessageFormat::Psbench
    }

    /// The servers, as librdkafka takes them.
    pub(super) fn address(&self) -> String {
        let servers = self.servers.iter().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
        servers.collect::<Vec<_>>().join(",")
    }

    /// As errors name it.
    pub(in super::super) fn label(&self) -> String {
        format!("kafka at {}", self.address())
    }
}
