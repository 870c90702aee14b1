//! Redis as a broker: pub/sub, or lists as queues.
//!
//! Pub/sub drops a subscriber that falls behind by more than the server's output buffer limit; queues drop nothing, and fill the
//! server's memory instead.

mod expiry;
mod publisher;
mod resp;
mod subscriber;

use std::collections::BTreeMap;
use std::time::Duration;

use psbench_connectors::redis::{
    Connection, DEFAULT_VALUE_LIMIT, RedisKind, RedisServer, evicts, refuse_replica, remedy, try_channel, try_list,
    value_limit,
};
use redis::RedisError;
use uuid::Uuid;

pub(super) use self::expiry::abandon;
pub(super) use self::publisher::RedisPublisher;
use self::resp::CONNECT_TIME;
use super::{Broker, BrokerConfig, BrokerError, MessageFormat, Route, Subscriber};
use crate::environment::BrokerInfo;
use crate::units::Size;

/// What stands ahead of an item in a message is shorter, bytes.
const HEAD: u64 = 1024;

/// For a server that ended a connection, or one between, to take another; a try that has begun may last longer.
const RECONNECT: Duration = Duration::from_secs(5);

/// Between tries.
const PAUSE: Duration = Duration::from_millis(50);

/// How a topic lives on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PubSub,
    Queue,
}

/// A server, and how it is used.
#[derive(Clone, Debug)]
struct Server {
    address: RedisServer,
    route: Route,
    kind: Kind,
    format: MessageFormat,
}

/// The dispatcher's side.
#[derive(Debug)]
pub(super) struct RedisBroker(Server);

impl RedisBroker {
    /// Topics are channels.
    pub(super) fn pub_sub(address: &RedisServer, format: MessageFormat, route: &Route) -> Result<Self, BrokerError> {
        Self::connect(address, Kind::PubSub, format, route)
    }

    /// Topics are lists.
    pub(super) fn queue(address: &RedisServer, format: MessageFormat, route: &Route) -> Result<Self, BrokerError> {
        Self::connect(address, Kind::Queue, format, route)
    }

    fn connect(address: &RedisServer, kind: Kind, format: MessageFormat, route: &Route) -> Result<Self, BrokerError> {
        let server = Server { address: address.clone(), route: route.clone(), kind, format };
        server.control()?;
        Ok(Self(server))
    }
}

impl Broker for RedisBroker {
    fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscriber>, BrokerError> {
        let subscriber = subscriber::subscribe(&self.0, topic)?;
        self.0.note_list(topic);
        Ok(subscriber)
    }

    fn config(&self) -> BrokerConfig {
        let (server, format) = (self.0.address.clone(), self.0.format);
        match self.0.kind {
            Kind::PubSub => BrokerConfig::Redis { server, format },
            Kind::Queue => BrokerConfig::RedisQueue { server, format },
        }
    }

    fn delete(&self, topic: &str) -> Result<(), BrokerError> {
        if self.0.kind == Kind::Queue {
            let mut connection = self.0.control_for(topic)?;
            connection
                .query(redis::cmd("UNLINK").arg(topic))
                .map_err(|source| self.0.error("delete the queue", source))?;
            self.0.forget_list(topic);
        }
        Ok(())
    }

    fn subscribers(&self, topic: &str) -> Result<Option<u64>, BrokerError> {
        if self.0.kind == Kind::Queue {
            return Ok(None);
        }
        let mut connection = self.0.control()?;
        let counts: BTreeMap<String, u64> = connection
            .ask(redis::cmd("PUBSUB").arg("NUMSUB").arg(topic))
            .map_err(|source| self.0.error("count the subscribers", source))?;
        Ok(Some(counts.into_values().sum()))
    }

    fn check(&self, topic: &str, largest: u64) -> Result<Vec<String>, BrokerError> {
        let key = format!("{topic}-{}", Uuid::new_v4().simple());
        let mut connection = self.0.control_for(&key)?;
        if self.0.kind == Kind::Queue || self.0.address.kind != RedisKind::Cluster {
            refuse_replica(&mut connection).map_err(|source| self.0.error("connect", source))?;
        }
        let limit = value_limit(&mut connection).map_err(|source| self.0.error("ask for its settings", source))?;
        let limit = limit.unwrap_or(DEFAULT_VALUE_LIMIT);
        if largest.saturating_add(HEAD) > limit {
            let (item, limit) = (Size::from_bytes(largest), Size::from_bytes(limit));
            let reason = format!(
                "an item of {item} by the default method exceeds its proto-max-bulk-len of {limit}: raise that with `redis-cli CONFIG SET \
                 proto-max-bulk-len` (and client-query-buffer-limit with it), or use --stream-method proxy"
            );
            return Err(BrokerError::Protocol { broker: self.0.label(), reason });
        }
        let (tried, warning) = match self.0.kind {
            Kind::Queue => (try_list(&mut connection, &key), evicts(&mut connection)),
            Kind::PubSub => (try_channel(&mut connection, topic), None),
        };
        tried.map_err(|refused| self.0.error(&refused.action(), refused.source))?;
        Ok(warning.into_iter().map(|warning| format!("{}: {warning}", self.0.label())).collect())
    }

    fn info(&self) -> Result<BrokerInfo, BrokerError> {
        /// What decides how a stream fares.
        const SETTINGS: [&str; 8] = [
            "appendonly",
            "client-output-buffer-limit",
            "io-threads",
            "maxmemory",
            "maxmemory-policy",
            "proto-max-bulk-len",
            "save",
            "tcp-backlog",
        ];
        let mut connection = self.0.control()?;
        let mut configuration = BTreeMap::new();
        for setting in SETTINGS {
            // Managed servers refuse CONFIG: what can't be known is absent.
            configuration.extend(self::setting(&mut connection, setting).map(|value| (setting.to_owned(), value)));
        }
        // Valkey tells the Redis that it takes the place of, too.
        let valkey =
            server_info(&mut connection, "server", "valkey_version").map(|version| format!("valkey {version}"));
        let version = valkey.or_else(|| server_info(&mut connection, "server", "redis_version"));
        let version = version.unwrap_or_else(|| "unknown".into());
        Ok(BrokerInfo { name: self.0.name().into(), version, address: Some(self.0.place()), via: None, configuration })
    }
}

impl Server {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::PubSub => "redis",
            Kind::Queue => "redis-queue",
        }
    }

    fn place(&self) -> String {
        self.address.to_string()
    }

    fn label(&self) -> String {
        format!("{} at {}", self.name(), self.place())
    }

    /// Whether what is taken from a topic may be wanted by others: then nothing is taken ahead.
    fn is_sparing(&self) -> bool {
        self.kind == Kind::Queue && self.format == MessageFormat::ProxyStore
    }

    /// A connection for commands without bulk data.
    fn control(&self) -> Result<Connection, BrokerError> {
        self.control_within(CONNECT_TIME)
    }

    /// The same to where a topic is: a list is at one node of a cluster, channels are at all.
    fn control_for(&self, topic: &str) -> Result<Connection, BrokerError> {
        if self.kind == Kind::PubSub || self.address.kind != RedisKind::Cluster {
            return self.control();
        }
        Connection::open_for(&self.address, topic).map_err(|source| self.error("connect", source))
    }

    /// The same, if the server lets it in by answers that take up to so long, each.
    fn control_within(&self, limit: Duration) -> Result<Connection, BrokerError> {
        let failed = |source| self.error("connect", source);
        let connection = match (&self.route, self.address.address()) {
            (Route::Through(_), Some((host, port))) => {
                let way = self.route.to(host, port);
                let (host, port) = way.map_err(|source| BrokerError::Path { broker: self.label(), source })?;
                Connection::open_by(&self.address, (&host, port), limit).map_err(failed)?
            }
            _ => Connection::open(&self.address).map_err(failed)?,
        };
        connection.set_patience(Some(limit)).map_err(|error| failed(error.into()))?;
        Ok(connection)
    }

    fn error(&self, action: &str, source: RedisError) -> BrokerError {
        let remedy = remedy(&source, "--stream-servers");
        BrokerError::Redis { broker: self.label(), action: action.into(), source, remedy }
    }
}

/// Whether another connection may do what this one did not: it was cut, or its server is no longer, or not yet, the topic's.
fn is_cut(error: &RedisError) -> bool {
    const PASSING: [&str; 6] = ["MOVED", "READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"];
    error.is_connection_dropped() || error.code().is_some_and(|code| PASSING.contains(&code))
}

/// One setting of the server, where it tells.
fn setting(connection: &mut Connection, name: &str) -> Option<String> {
    let pairs: BTreeMap<String, String> = connection.ask(redis::cmd("CONFIG").arg("GET").arg(name)).ok()?;
    pairs.into_values().next()
}

/// One field of a section of INFO, where it is there.
fn server_info(connection: &mut Connection, section: &str, field: &str) -> Option<String> {
    let text: String = connection.ask(redis::cmd("INFO").arg(section)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(|value| value.trim().to_owned()))
}
