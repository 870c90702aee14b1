//! Which broker carries the stream.

use std::fmt;
use std::sync::Arc;

use psbench_connectors::is_loopback;
use psbench_connectors::redis::RedisServer;
use scistream::client::Gateways;

use super::{KafkaSettings, MessageFormat, PathPlan};

/// A broker, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerChoice {
    /// Inside psbench.
    Memory,
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
    /// One that this program brings with it.
    Own {
        /// Its name.
        name: &'static str,
        /// What the user wrote for its servers.
        servers: Vec<String>,
    },
    /// One at servers, at the generators' side, which the dispatcher reaches through SciStream's gateways.
    Through {
        /// The broker, as generators reach it.
        broker: Box<BrokerChoice>,
        /// The gateways.
        plan: Arc<PathPlan>,
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
            Self::Through { broker, .. } => broker.name(),
        }
    }

    /// The same broker, as generators reach it.
    pub fn itself(&self) -> &Self {
        match self {
            Self::Through { broker, .. } => broker.itself(),
            itself => itself,
        }
    }

    /// What it asks of gateways; `None`: it goes through none.
    pub fn path(&self) -> Option<&PathPlan> {
        match self {
            Self::Through { plan, .. } => Some(plan),
            _ => None,
        }
    }

    /// What it asks of private gateways that are still to be [named](Self::through); `None`: nothing.
    pub fn private_path(&self) -> Option<&PathPlan> {
        self.path().filter(|plan| plan.gateways.is_none())
    }

    /// The same through these private gateways, where it [asks](Self::private_path) any for something.
    #[must_use]
    pub fn through(&self, gateways: &Gateways) -> Self {
        match self {
            Self::Through { broker, plan } if plan.gateways.is_none() => {
                let plan = PathPlan { gateways: Some(gateways.clone()), ..PathPlan::clone(plan) };
                Self::Through { broker: broker.clone(), plan: Arc::new(plan) }
            }
            other => other.clone(),
        }
    }

    /// What is between it and the dispatcher.
    pub fn via(&self) -> Option<&'static str> {
        matches!(self, Self::Through { .. }).then_some("scistream")
    }

    /// Whether its address means each host itself, such as `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Redis { server, .. } | Self::RedisQueue { server, .. } => {
                server.addresses().iter().any(|(host, _)| is_loopback(host))
            }
            Self::Kafka(settings) => settings.servers.iter().any(|(host, _)| is_loopback(host)),
            Self::Memory | Self::Own { .. } => false,
            Self::Through { broker, .. } => broker.is_loopback(),
        }
    }

    /// Into how many partitions, each of which is ordered in itself, a topic is split: see [`Publisher`](super::Publisher).
    pub fn partitions(&self) -> u32 {
        match self {
            Self::Kafka(settings) => settings.partitions,
            Self::Memory | Self::Redis { .. } | Self::RedisQueue { .. } | Self::Own { .. } => 1,
            Self::Through { broker, .. } => broker.partitions(),
        }
    }
}

impl fmt::Display for BrokerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(settings) => f.write_str(&settings.label()),
            Self::Memory => f.write_str("memory"),
            Self::Through { broker, plan } => write!(f, "{broker} through {plan}"),
            Self::Own { name, servers } if servers.is_empty() => f.write_str(name),
            Self::Own { name, servers } => write!(f, "{name} at {}", servers.join(" ")),
            Self::Redis { server, .. } | Self::RedisQueue { server, .. } => write!(f, "{} at {server}", self.name()),
        }
    }
}
