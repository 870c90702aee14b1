//! The registry of connectors: one variant each.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ::scistream::client::Gateways;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::endpoint::EndpointConnector;
use crate::file::FileConnector;
use crate::memory::MemoryConnector;
use crate::multi::{self, MultiConnector, Part};
use crate::own;
use crate::peer::{PeerAddress, PeerClient, PeerServer};
use crate::redis::{RedisConnector, RedisServer};
use crate::s3::{Place, S3Connector};
use crate::scistream::{self, Crossing, Reach, Route, ScistreamClient, ScistreamServer};
use crate::shm::{ShmClient, ShmServer};
use crate::{Connector, ConnectorError, KeySource, OWN_CONNECTORS};

/// All that another process needs to reach the objects of a connector. Small: every proxy carries one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectorConfig {
    /// Objects at an endpoint of ProxyStore.
    Endpoint {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// The endpoint's own identifier.
        id: Uuid,
    },
    /// Objects in this process.
    Memory {
        /// Names one space of objects within the process.
        space: Uuid,
        /// The most bytes it holds.
        limit: u64,
    },
    /// Objects as files.
    File {
        /// An absolute path, the same on every host.
        dir: PathBuf,
    },
    /// Objects in one of several connectors, by their sizes.
    Multi {
        /// The connectors and what each is for.
        parts: Vec<Part>,
        /// What objects ask for: parts without all of these are not used.
        tags: Vec<String>,
    },
    /// Objects on a Redis server.
    Redis(RedisServer),
    /// Objects in a bucket of S3. Credentials come from each process's environment.
    S3 {
        /// The bucket.
        bucket: String,
        /// Stands ahead of the objects' names.
        prefix: String,
        /// The service's URL; absent for AWS.
        endpoint: Option<String>,
        /// The bucket's region.
        region: String,
    },
    /// Objects in the memory of the process that stored them, served over a socket.
    Peer {
        /// Before [`open`](Self::open): where to listen. In a connector's own [`config`](Connector::config): where it does.
        address: PeerAddress,
        /// What a client must know to be served. Empty until [`open`](Self::open) makes it.
        secret: Secret,
        /// The most bytes the server holds.
        limit: u64,
    },
    /// Objects in the memory of the process that stored them, reached through gateways of SciStream.
    Scistream(Reach),
    /// Objects in shared memory, for processes of the same host.
    Shm {
        /// Before [`open`](Self::open): where to make the Unix socket; empty for a fresh one that only this user can enter. In a
        /// connector's own [`config`](Connector::config): where it is.
        path: PathBuf,
        /// The boot id of the host where the memory is. Nil until [`open`](Self::open) finds it.
        host: Uuid,
        /// What a client must know to be served. Empty until [`open`](Self::open) makes it.
        secret: Secret,
        /// The most bytes the server holds.
        limit: u64,
    },
    /// Objects where a connector that this program brings with it keeps them.
    Own {
        /// The name it is [registered](crate::OWN_CONNECTORS) under.
        name: String,
        /// What it needs to find its objects, in a form of its own.
        place: String,
    },
}

/// A shared secret, which neither `Debug` nor logs show.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The connector's name and place, as errors name it.
impl fmt::Display for ConnectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Endpoint { host, port, id } => write!(f, "{name} {id} at {host}:{port}"),
            Self::Memory { space, .. } => write!(f, "{name} {space}"),
            Self::File { dir } => write!(f, "{name} {}", dir.display()),
            Self::S3 { bucket, prefix, endpoint, .. } => {
                write!(f, "{name} {bucket}/{prefix} at {}", endpoint.as_deref().unwrap_or("AWS"))
            }
            Self::Multi { parts, .. } => {
                let parts: Vec<_> = parts.iter().map(|part| format!("{}{}", part.config, part.policy)).collect();
                write!(f, "{name} ({})", parts.join("; "))
            }
            Self::Redis(server) => write!(f, "{name} {server}"),
            Self::Peer { address, .. } => write!(f, "{name} {address}"),
            Self::Scistream(reach) => write!(f, "{name} {reach}"),
            Self::Shm { path, .. } => write!(f, "{name} {}", PeerAddress::Unix(path.clone())),
            Self::Own { place, .. } => write!(f, "{name} {place}"),
        }
    }
}

impl ConnectorConfig {
    /// The names of this crate's connectors, as `--ps-connector` takes them.
    pub const NAMES: [&'static str; 9] =
        ["endpoint", "file", "memory", "multi", "peer", "redis", "s3", "scistream", "shm"];

    /// The connector's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Endpoint { .. } => "endpoint",
            Self::Memory { .. } => "memory",
            Self::File { .. } => "file",
            Self::Multi { .. } => "multi",
            Self::Redis(_) => "redis",
            Self::S3 { .. } => "s3",
            Self::Peer { .. } => "peer",
            Self::Scistream(_) => "scistream",
            Self::Shm { .. } => "shm",
            Self::Own { name, .. } => name,
        }
    }

    /// The same for one more that will store objects, so that it shares no memory with the others: a bound holds for each.
    #[must_use]
    pub fn apart(&self) -> Self {
        match self {
            Self::Memory { limit, .. } => Self::Memory { space: Uuid::new_v4(), limit: *limit },
            Self::Multi { parts, tags } => {
                let apart = |part: &Part| Part { config: part.config.apart(), ..part.clone() };
                Self::Multi { parts: parts.iter().map(apart).collect(), tags: tags.clone() }
            }
            // These make a server of their own, or share a place outside the process.
            other => other.clone(),
        }
    }

    /// The gateways of SciStream through which objects, or some of them, are reached.
    pub fn crossings(&self) -> Vec<&Crossing> {
        match self {
            Self::Scistream(Reach::Through(crossing)) => vec![crossing],
            Self::Multi { parts, .. } => parts.iter().flat_map(|part| part.config.crossings()).collect(),
            _ => Vec::new(),
        }
    }

    /// What it, or a part of it, asks of private gateways, which are still to be [named](Self::through).
    pub fn private_routes(&self) -> Vec<&Route> {
        match self {
            Self::Scistream(Reach::Private(route)) => vec![route],
            Self::Multi { parts, .. } => parts.iter().flat_map(|part| part.config.private_routes()).collect(),
            _ => Vec::new(),
        }
    }

    /// The same through these private gateways, where it [asks](Self::private_routes) any for something.
    #[must_use]
    pub fn through(&self, gateways: &Gateways) -> Self {
        match self {
            Self::Scistream(Reach::Private(route)) => {
                Self::Scistream(Reach::Through(Box::new(Crossing::between(route, gateways))))
            }
            Self::Multi { parts, tags } => {
                let through = |part: &Part| Part { config: part.config.through(gateways), ..part.clone() };
                Self::Multi { parts: parts.iter().map(through).collect(), tags: tags.clone() }
            }
            other => other.clone(),
        }
    }

    /// What workers of a trial have to know of its connector ahead of proxies: which buckets and servers may see their credentials. What whoever
    /// stores knows beyond that is not for them.
    #[must_use]
    pub fn for_workers(&self) -> Option<Self> {
        match self {
            Self::S3 { .. } | Self::Redis(_) => Some(self.clone()),
            Self::Multi { parts, tags } => {
                let known = |part: &Part| Some(Part { config: part.config.for_workers()?, ..part.clone() });
                Some(Self::Multi { parts: parts.iter().filter_map(known).collect(), tags: tags.clone() })
            }
            _ => None,
        }
    }

    /// Notes that processes elsewhere could not reach the objects of this connector, where finding that out takes long: here it is tried
    /// once for each then, until one is reached.
    pub fn doubt(&self) {
        match self {
            Self::Scistream(reach) => scistream::doubt(reach),
            Self::Multi { parts, .. } => parts.iter().for_each(|part| part.config.doubt()),
            _ => {}
        }
    }

    /// Gives back what one that was [opened](Self::open) with these keys has at other hosts, where its process has ended without doing so.
    ///
    /// # Errors
    /// A gateway can't be reached, or refuses.
    pub fn abandon(&self, keys: &KeySource) -> Result<(), ConnectorError> {
        match self {
            Self::Scistream(Reach::Through(crossing)) => scistream::abandon(crossing, keys),
            Self::Multi { parts, .. } => {
                let mut abandoned = Ok(());
                for part in parts {
                    abandoned = abandoned.and(part.config.abandon(keys));
                }
                abandoned
            }
            _ => Ok(()),
        }
    }

    /// For whoever will store objects: makes the directory, starts the server, or connects.
    pub fn open(&self, keys: KeySource) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(match self {
            Self::Endpoint { host, port, id } => Arc::new(EndpointConnector::open(host, *port, *id, keys)?),
            Self::Memory { space, limit } => Arc::new(MemoryConnector::open(*space, *limit, keys)),
            Self::File { dir } => Arc::new(FileConnector::open(dir, keys)?),
            Self::S3 { bucket, prefix, endpoint, region } => {
                let place = Place { bucket, prefix, endpoint: endpoint.as_deref(), region };
                Arc::new(S3Connector::open(place, keys)?)
            }
            Self::Multi { parts, tags } => Arc::new(MultiConnector::open(parts, tags, &keys)?),
            Self::Redis(server) => Arc::new(RedisConnector::open(server, keys)?),
            Self::Peer { address, limit, .. } => Arc::new(PeerServer::start(address, *limit, keys)?),
            Self::Scistream(Reach::Through(crossing)) => Arc::new(ScistreamServer::open(crossing, &keys)?),
            Self::Scistream(Reach::Private(_)) => {
                return Err(self.unreachable("its private gateways are not there yet"));
            }
            Self::Scistream(Reach::At(_)) => return Err(self.unreachable("it is open, in another process")),
            Self::Shm { path, limit, .. } => Arc::new(ShmServer::start(path, *limit, keys)?),
            Self::Own { name, place } => own::factory(name)?.open(place, keys)?,
        })
    }

    /// For whoever resolves objects that another stored: `self` is that connector's [`config`](Connector::config). Makes nothing.
    pub fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(match self {
            Self::Memory { space, .. } => Arc::new(MemoryConnector::connect(*space)?),
            Self::Multi { parts, .. } => Arc::new(MultiConnector::connect(parts)?),
            Self::Peer { address, secret, limit } => Arc::new(PeerClient::connect(address, *secret, *limit)?),
            Self::Scistream(Reach::At(ways)) => Arc::new(ScistreamClient::connect(ways)?),
            Self::Scistream(_) => return Err(self.unreachable("no path through its gateways was made")),
            Self::Shm { path, host, secret, limit } => Arc::new(ShmClient::connect(path, *host, *secret, *limit)?),
            Self::File { dir } => Arc::new(FileConnector::connect(dir)?),
            Self::Own { name, place } => own::factory(name)?.connect(place)?,
            Self::Endpoint { .. } | Self::Redis(_) | Self::S3 { .. } => self.open(KeySource::random())?,
        })
    }

    /// Makes sure that whoever stores and resolves will be let, where that can be known ahead. [Opens](Self::open) nothing. Returns warnings.
    ///
    /// # Errors
    /// A server refuses something.
    pub fn check(&self) -> Result<Vec<String>, ConnectorError> {
        match self {
            Self::Redis(server) => RedisConnector::check(server).map(|warning| warning.into_iter().collect()),
            Self::Multi { parts, .. } => {
                let warnings: Result<Vec<_>, _> = parts.iter().map(|part| part.config.check()).collect();
                warnings.map(|warnings| warnings.concat())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn unreachable(&self, reason: &str) -> ConnectorError {
        ConnectorError::Unreachable { connector: self.to_string(), reason: reason.into() }
    }

    /// Whether the objects, or some of them, stay where they are when the process that stored them ends.
    pub fn outlives_process(&self) -> bool {
        match self {
            Self::Memory { .. } | Self::Peer { .. } | Self::Scistream(_) | Self::Shm { .. } => false,
            Self::Multi { parts, .. } => parts.iter().any(|part| part.config.outlives_process()),
            Self::Endpoint { .. } | Self::File { .. } | Self::Redis(_) | Self::S3 { .. } => true,
            Self::Own { name, .. } => OWN_CONNECTORS.get(name).is_some_and(|own| own.outlives_process()),
        }
    }

    /// The same, or the parts of it, with the objects that stay where they are when the process that stored them ends.
    #[must_use]
    pub fn outliving(&self) -> Option<Self> {
        match self {
            Self::Multi { parts, tags } => multi::outliving(parts, tags),
            other => other.outlives_process().then(|| other.clone()),
        }
    }

    /// Whether processes on other hosts can reach all the objects, given a network between them, and for files a directory that all mount.
    /// An address of the loopback interface is another matter, see [`is_loopback`](Self::is_loopback).
    pub fn reaches_other_hosts(&self) -> bool {
        match self {
            Self::Memory { .. } | Self::Scistream(Reach::Private(_)) | Self::Shm { .. } => false,
            Self::Peer { address, .. } => !matches!(address, PeerAddress::Unix(_)),
            Self::Multi { parts, .. } => parts.iter().all(|part| part.config.reaches_other_hosts()),
            Self::Redis(server) => !server.is_local(),
            Self::Endpoint { .. }
            | Self::File { .. }
            | Self::S3 { .. }
            | Self::Scistream(Reach::Through(_) | Reach::At(_)) => true,
            Self::Own { .. } => self.reaches_other_processes(),
        }
    }

    /// Whether objects, or some of them, are at an address that means each host itself, such as `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Peer {
                address: PeerAddress::Tcp { host, .. } | PeerAddress::Announced { announced: host, .. },
                ..
            }
            | Self::Endpoint { host, .. } => is_loopback(host),
            Self::Redis(server) => server.addresses().iter().any(|(host, _)| is_loopback(host)),
            Self::S3 { endpoint: Some(url), .. } => {
                let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let host = host.split('/').next().unwrap_or_default();
                is_loopback(host.rsplit_once(':').map_or(host, |(host, _)| host))
            }
            Self::Scistream(reach) => reach.is_loopback(),
            Self::Multi { parts, .. } => parts.iter().any(|part| part.config.is_loopback()),
            Self::Memory { .. }
            | Self::File { .. }
            | Self::Peer { .. }
            | Self::S3 { .. }
            | Self::Shm { .. }
            | Self::Own { .. } => false,
        }
    }

    /// Whether another process on this host can reach all the objects.
    pub fn reaches_other_processes(&self) -> bool {
        match self {
            Self::Memory { .. } => false,
            Self::Multi { parts, .. } => parts.iter().all(|part| part.config.reaches_other_processes()),
            Self::Endpoint { .. }
            | Self::File { .. }
            | Self::Peer { .. }
            | Self::Redis(_)
            | Self::S3 { .. }
            | Self::Scistream(_)
            | Self::Shm { .. } => true,
            Self::Own { name, .. } => OWN_CONNECTORS.get(name).is_some_and(|own| own.reaches_other_processes()),
        }
    }
}

/// Whether this host name or address means the host on which it is used.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().map_or_else(|_| host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_mean_themselves_are_known() {
        for (host, itself) in [
            ("localhost", true),
            ("127.0.0.2", true),
            ("::1", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("n1", false),
        ] {
            assert_eq!(is_loopback(host), itself, "{host}");
            let endpoint = Some(format!("http://{host}:9000/path"));
            let s3 = ConnectorConfig::S3 { bucket: "b".into(), prefix: "p".into(), endpoint, region: "r".into() };
            assert!(s3.is_loopback() == itself || host == "::1", "{host}");
        }
    }

    #[test]
    fn what_other_hosts_reach_is_known() {
        let peer = |address| ConnectorConfig::Peer { address, secret: Secret::default(), limit: 1 };
        assert!(!peer(PeerAddress::private()).reaches_other_hosts());
        let loopback = peer(PeerAddress::loopback());
        assert!(loopback.reaches_other_hosts() && loopback.is_loopback());
        assert!(!ConnectorConfig::Memory { space: Uuid::nil(), limit: 1 }.reaches_other_hosts());
        assert!(ConnectorConfig::File { dir: "/shared".into() }.reaches_other_hosts());
    }
}
