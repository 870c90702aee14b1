//! What a user asked for.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::scistream::client::Gateways;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::endpoint::{EndpointConnector, EndpointLocation};
use crate::file::FileConnector;
use crate::memory::MemoryConnector;
use crate::multi::{MultiConnector, Part};
use crate::own;
use crate::peer::{PeerAddress, PeerServer};
use crate::redis::{RedisConnector, RedisServer};
use crate::s3::{Bucket, S3Connector};
use crate::scistream::{Crossing, Reach, Route, ScistreamServer};
use crate::shm::ShmServer;
use crate::{
    Address, Connector, ConnectorError, KeySource, OWN_CONNECTORS, endpoint, file, memory, multi, peer, redis, s3,
    scistream, shm,
};

/// What a user asked for: the connector at which whoever stores puts objects. It may hold what gateways want to see, so it is told to whoever
/// stores alone; others get the [`Address`] of the [open](Self::open) connector.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectorSpec {
    /// Objects at an endpoint of ProxyStore.
    Endpoint(EndpointLocation),
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
    /// Objects in a bucket of S3.
    S3(Bucket),
    /// Objects in the memory of the process that stores them, served over a socket.
    Peer {
        /// Where to listen.
        address: PeerAddress,
        /// The most bytes that are held.
        limit: u64,
    },
    /// Objects in the memory of the process that stores them, reached through gateways of SciStream.
    Scistream(Reach),
    /// Objects in shared memory, for processes of the same host.
    Shm {
        /// The most bytes that are held.
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
impl fmt::Display for ConnectorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Endpoint(endpoint) => write!(f, "{name} {endpoint}"),
            Self::Memory { space, .. } => write!(f, "{name} {space}"),
            Self::File { dir } => write!(f, "{name} {}", dir.display()),
            Self::S3(bucket) => write!(f, "{name} {bucket}"),
            Self::Multi { parts, .. } => {
                let parts: Vec<_> = parts.iter().map(|part| format!("{}{}", part.spec, part.policy)).collect();
                write!(f, "{name} ({})", parts.join("; "))
            }
            Self::Redis(server) => write!(f, "{name} {server}"),
            Self::Peer { address, .. } => write!(f, "{name} {address}"),
            Self::Scistream(reach) => write!(f, "{name} {reach}"),
            Self::Shm { .. } => write!(f, "{name} {}", PeerAddress::private()),
            Self::Own { place, .. } => write!(f, "{name} {place}"),
        }
    }
}

impl ConnectorSpec {
    /// The connector's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Endpoint(_) => endpoint::DESCRIPTOR.name,
            Self::Memory { .. } => memory::DESCRIPTOR.name,
            Self::File { .. } => file::DESCRIPTOR.name,
            Self::Multi { .. } => multi::DESCRIPTOR.name,
            Self::Redis(_) => redis::DESCRIPTOR.name,
            Self::S3(_) => s3::DESCRIPTOR.name,
            Self::Peer { .. } => peer::DESCRIPTOR.name,
            Self::Scistream(_) => scistream::DESCRIPTOR.name,
            Self::Shm { .. } => shm::DESCRIPTOR.name,
            Self::Own { name, .. } => name,
        }
    }

    /// The same for one more that will store objects, so that it shares no memory with the others: a bound holds for each.
    #[must_use]
    pub fn apart(&self) -> Self {
        match self {
            Self::Memory { limit, .. } => Self::Memory { space: Uuid::new_v4(), limit: *limit },
            Self::Multi { parts, tags } => {
                let apart = |part: &Part| Part { spec: part.spec.apart(), ..part.clone() };
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
            Self::Multi { parts, .. } => parts.iter().flat_map(|part| part.spec.crossings()).collect(),
            _ => Vec::new(),
        }
    }

    /// What it, or a part of it, asks of private gateways, which are still to be [named](Self::through).
    pub fn private_routes(&self) -> Vec<&Route> {
        match self {
            Self::Scistream(Reach::Private(route)) => vec![route],
            Self::Multi { parts, .. } => parts.iter().flat_map(|part| part.spec.private_routes()).collect(),
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
                let through = |part: &Part| Part { spec: part.spec.through(gateways), ..part.clone() };
                Self::Multi { parts: parts.iter().map(through).collect(), tags: tags.clone() }
            }
            other => other.clone(),
        }
    }

    /// The services to which workers may show their credentials.
    pub fn services(&self) -> Vec<Address> {
        match self {
            // One that can't be written is in no proxy either.
            Self::S3(bucket) => Address::of(&bucket.whole()).into_iter().collect(),
            Self::Redis(server) => Address::of(server).into_iter().collect(),
            Self::Multi { parts, .. } => parts.iter().flat_map(|part| part.spec.services()).collect(),
            _ => Vec::new(),
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
                    abandoned = abandoned.and(part.spec.abandon(keys));
                }
                abandoned
            }
            _ => Ok(()),
        }
    }

    /// For whoever will store objects: makes the directory, starts the server, or connects.
    ///
    /// # Errors
    /// What is to hold the objects can't be made or reached.
    pub fn open(&self, keys: KeySource) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(match self {
            Self::Endpoint(endpoint) => Arc::new(EndpointConnector::open(endpoint, keys)?),
            Self::Memory { space, limit } => Arc::new(MemoryConnector::open(*space, *limit, keys)?),
            Self::File { dir } => Arc::new(FileConnector::open(dir, keys)?),
            Self::S3(bucket) => Arc::new(S3Connector::open(bucket, keys)?),
            Self::Multi { parts, tags } => Arc::new(MultiConnector::open(parts, tags, &keys)?),
            Self::Redis(server) => Arc::new(RedisConnector::open(server, keys)?),
            Self::Peer { address, limit } => Arc::new(PeerServer::start(address, *limit, keys)?),
            Self::Scistream(Reach::Through(crossing)) => Arc::new(ScistreamServer::open(crossing, &keys)?),
            Self::Scistream(Reach::Private(_)) => {
                let reason = "its private gateways are not there yet".into();
                return Err(ConnectorError::Unreachable { connector: self.to_string(), reason });
            }
            Self::Shm { limit } => Arc::new(ShmServer::start(Path::new(""), *limit, keys)?),
            Self::Own { name, place } => own::factory(name)?.open(place, keys)?,
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
                let warnings: Result<Vec<_>, _> = parts.iter().map(|part| part.spec.check()).collect();
                warnings.map(|warnings| warnings.concat())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whether the objects, or some of them, stay where they are when the process that stored them ends.
    pub fn outlives_process(&self) -> bool {
        match self {
            Self::Memory { .. } | Self::Peer { .. } | Self::Scistream(_) | Self::Shm { .. } => false,
            Self::Multi { parts, .. } => parts.iter().any(|part| part.spec.outlives_process()),
            Self::Endpoint(_) | Self::File { .. } | Self::Redis(_) | Self::S3(_) => true,
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
            Self::Multi { parts, .. } => parts.iter().all(|part| part.spec.reaches_other_hosts()),
            Self::Redis(server) => !server.is_local(),
            Self::Endpoint(_) | Self::File { .. } | Self::S3(_) | Self::Scistream(Reach::Through(_)) => true,
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
            | Self::Endpoint(EndpointLocation { host, .. }) => is_loopback(host),
            Self::Redis(server) => server.addresses().iter().any(|(host, _)| is_loopback(host)),
            Self::S3(bucket) => bucket.host().is_some_and(is_loopback),
            Self::Scistream(reach) => reach.is_loopback(),
            Self::Multi { parts, .. } => parts.iter().any(|part| part.spec.is_loopback()),
            Self::Memory { .. } | Self::File { .. } | Self::Peer { .. } | Self::Shm { .. } | Self::Own { .. } => false,
        }
    }

    /// What it is made of, where it is several connectors.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Multi { parts, .. } => parts,
            _ => &[],
        }
    }

    /// The most bytes of objects that the process which stores them holds, and whether it holds copies of them. `(0, false)`: they are
    /// elsewhere.
    pub fn held(&self) -> (u64, bool) {
        match self {
            Self::Memory { limit, .. } | Self::Peer { limit, .. } => (*limit, false),
            Self::Shm { limit } => (*limit, true),
            Self::Scistream(reach) => (reach.route().limit, false),
            Self::Multi { parts, .. } => parts
                .iter()
                .map(|part| part.spec.held())
                .fold((0, false), |(limit, copied), (more, copies)| (limit.saturating_add(more), copied || copies)),
            _ => (0, false),
        }
    }

    /// Whether whoever resolves an object reads it where it was stored, without a copy of its own.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::Shm { .. })
    }

    /// The TCP port at which whoever stores listens, where it is told which.
    pub fn fixed_port(&self) -> Option<u16> {
        let address = match self {
            Self::Peer { address, .. } => address,
            Self::Scistream(reach) => reach.route().listen.as_ref()?,
            _ => return self.parts().iter().find_map(|part| part.spec.fixed_port()),
        };
        match address {
            PeerAddress::Tcp { port, .. } | PeerAddress::Announced { port, .. } => {
                Some(*port).filter(|port| *port != 0)
            }
            PeerAddress::Unix(_) => None,
        }
    }

    /// Whether another process on this host can reach all the objects.
    pub fn reaches_other_processes(&self) -> bool {
        match self {
            Self::Memory { .. } => false,
            Self::Multi { parts, .. } => parts.iter().all(|part| part.spec.reaches_other_processes()),
            Self::Endpoint(_)
            | Self::File { .. }
            | Self::Peer { .. }
            | Self::Redis(_)
            | Self::S3(_)
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
    use crate::Location;
    use crate::multi::Policy;

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
            let bucket = Bucket { bucket: "b".into(), prefix: "p".into(), endpoint, region: "r".into() };
            let s3 = ConnectorSpec::S3(bucket);
            assert!(s3.is_loopback() == itself || host == "::1", "{host}");
        }
    }

    #[test]
    fn what_other_hosts_reach_is_known() {
        let peer = |address| ConnectorSpec::Peer { address, limit: 1 };
        assert!(!peer(PeerAddress::private()).reaches_other_hosts());
        let loopback = peer(PeerAddress::loopback());
        assert!(loopback.reaches_other_hosts() && loopback.is_loopback());
        assert!(!ConnectorSpec::Memory { space: Uuid::nil(), limit: 1 }.reaches_other_hosts());
        assert!(ConnectorSpec::File { dir: "/shared".into() }.reaches_other_hosts());
    }

    fn multi(spec: ConnectorSpec) -> ConnectorSpec {
        let part = |spec| Part { spec, policy: Policy::default() };
        let files = ConnectorSpec::File { dir: "/tmp".into() };
        ConnectorSpec::Multi { parts: vec![part(files), part(spec)], tags: Vec::new() }
    }

    #[test]
    fn a_bucket_is_known_by_its_service_region_and_name() {
        let bucket = |bucket: &str, endpoint: Option<&str>, region: &str| Bucket {
            bucket: bucket.into(),
            prefix: Uuid::new_v4().to_string(),
            endpoint: endpoint.map(Into::into),
            region: region.into(),
        };
        let own = ConnectorSpec::S3(bucket("b", Some("http://s3"), "r"));
        for known in [own.services(), multi(own).services()] {
            let is_known = |bucket: Bucket| bucket.shown().iter().all(|shown| known.contains(&shown.service));
            assert!(is_known(bucket("b", Some("http://s3"), "r")));
            assert!(!is_known(bucket("b", Some("http://evil"), "r")));
            assert!(!is_known(bucket("b", None, "r")));
            assert!(!is_known(bucket("b", Some("http://s3"), "other")));
            assert!(!is_known(bucket("other", Some("http://s3"), "r")));
        }
        assert_eq!(ConnectorSpec::File { dir: "/tmp".into() }.services(), []);
    }

    #[test]
    fn a_redis_is_known_by_all_that_reaches_it() {
        let at = |url| ConnectorSpec::Redis(RedisServer::from_url(url, 1).unwrap());
        let known = multi(at("rediss://u@h")).services();
        assert_eq!(at("rediss://u@h").services(), known);
        for url in ["redis://u@h", "rediss://u@evil", "rediss://v@h"] {
            assert_ne!(at(url).services(), known, "{url}");
        }
    }
}
