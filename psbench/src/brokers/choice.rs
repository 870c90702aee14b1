//! Which broker carries the stream.

use std::fmt;

use psbench_connectors::is_loopback;

use super::{KafkaSettings, MessageFormat};

/// A broker, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerChoice {
    /// Inside psbench.
    Memory,
    /// Redis pub/sub.
    Redis {
        /// `host`, `port`.
        server: (String, u16),
        /// Of messages.
        format: MessageFormat,
    },
    /// Redis lists.
    RedisQueue {
        /// `host`, `port`.
        server: (String, u16),
        /// Of messages.
        format: MessageFormat,
    },
    /// Apache Kafka.
    Kafka(KafkaSettings),
    /// One that this program brings with it.
    Own {
        /// Its name.
        name: &'static str,
        /// What the user wrote for its servers.
        servers: Vec<String>,
    },
}

impl BrokerChoice {
    /// The names of psbench's brokers, as `--stream` takes them.
    pub const NAMES: [&'static str; 4] = ["kafka", "memory", "redis", "redis-queue"];

    /// The broker's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Memory => "memory",
            Self::Redis { .. } => "redis",
            Self::RedisQueue { .. } => "redis-queue",
            Self::Own { name, .. } => name,
        }
    }

    /// Whether its address means each host itself, such as `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Redis { server: (host, _), .. } | Self::RedisQueue { server: (host, _), .. } => is_loopback(host),
            Self::Kafka(settings) => settings.servers.iter().any(|(host, _)| is_loopback(host)),
            Self::Memory | Self::Own { .. } => false,
        }
    }

    /// Into how many partitions, each of which is ordered in itself, a topic is split: see [`Publisher`](super::Publisher).
    pub fn partitions(&self) -> u32 {
        match self {
            Self::Kafka(settings) => settings.partitions,
            Self::Memory | Self::Redis { .. } | Self::RedisQueue { .. } | Self::Own { .. } => 1,
        }
    }
}

impl fmt::Display for BrokerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(settings) => f.write_str(&settings.label()),
            Self::Memory => f.write_str("memory"),
            Self::Own { name, servers } if servers.is_empty() => f.write_str(name),
            Self::Own { name, servers } => write!(f, "{name} at {}", servers.join(" ")),
            Self::Redis { server: (host, port), .. } | Self::RedisQueue { server: (host, port), .. } => {
                write!(f, "{} at {host}:{port}", self.name())
            }
        }
    }
}
