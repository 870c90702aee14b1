//! The side that stores and serves.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ::scistream::client::{ClientError, Code, ConnectRequest, HeldPath};
use ::scistream::dataserver::Target;
use bytes::Bytes;

use super::keeper::Keeper;
use super::{Consumer, Crossing, NAME, Reach, Site, Ways};
use crate::peer::{PeerAddress, PeerLocation, PeerServer};
use crate::{Address, Connector, ConnectorError, Key, KeySource, is_loopback};

/// Holds objects in this process and serves them through gateways to [`ScistreamClient`](super::ScistreamClient)s, until it is dropped.
#[derive(Debug)]
pub struct ScistreamServer {
    /// Where the paths end now.
    address: Arc<RwLock<Address>>,
    /// Given back ahead of the server: until then gateways connect.
    _paths: Keeper,
    peer: PeerServer,
}

impl ScistreamServer {
    /// Listens, and asks the gateways for a path to each site. Whoever has the crossing and knows where `keys` start can
    /// [give them back](crate::ConnectorSpec::abandon).
    ///
    /// # Errors
    /// It can't listen, or a gateway can't be reached or refuses; then no path is left.
    pub fn open(crossing: &Crossing, keys: &KeySource) -> Result<Self, ConnectorError> {
        let listen = match &crossing.route.listen {
            Some(address) => address.clone(),
            None => {
                let ip = address_towards(&crossing.producer.address).map_err(|source| {
                    let action = format!("find this host's address on the way to {}", crossing.producer.address);
                    ConnectorError::Io { connector: name(crossing), action, source }
                })?;
                PeerAddress::Tcp { host: ip.to_string(), port: 0 }
            }
        };
        let peer = PeerServer::start(&listen, crossing.route.limit, keys.clone())?;
        let PeerLocation { address, secret } = peer.location().clone();
        let target: Target = address.to_string().parse().map_err(|_| {
            unusable(
                crossing,
                format!("gateways can't connect to {address}; give an address of this host: --ps-address"),
            )
        })?;
        let mut paths = Vec::new();
        let mut sites = Vec::new();
        for consumer in &crossing.consumers {
            let request = crossing.request(crossing.uid(keys, consumer), target.clone());
            let path = make(crossing, consumer, &request).map_err(|error| refused(crossing, consumer, &error))?;
            sites.push(Site::new(&consumer.site, path.listeners()));
            paths.push(path);
        }
        let ways = Ways { sites, secret };
        let address = Arc::new(RwLock::new(Address::of(&ways)?));
        let kept = Keeper::start(paths, ways, Arc::clone(&address)).map_err(|source| {
            let action = "start the thread that looks after its paths".into();
            ConnectorError::Io { connector: name(crossing), action, source }
        })?;
        Ok(Self { address, _paths: kept, peer })
    }
}

/// Private gateways are started anew where one ends: as long as that may take, they are asked again.
fn make(crossing: &Crossing, consumer: &Consumer, request: &ConnectRequest) -> Result<HeldPath, ClientError> {
    const STARTS: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(200);
    let gateways = crossing.gateways(consumer);
    let until = Instant::now() + STARTS;
    loop {
        match HeldPath::make(&gateways, request) {
            Err(error) if crossing.private && may_have_ended(&error) && Instant::now() < until => {
                sleep(PAUSE);
                // What the other one has of it, or this one has kept.
                let _ = gateways.release(request.uid);
            }
            made => return made,
        }
    }
}

/// Whether a control server that ends within an answer may be why, or one that is stopped.
fn may_have_ended(error: &ClientError) -> bool {
    let broke_off = |code| matches!(code, Code::Unknown | Code::Internal | Code::Cancelled);
    match error {
        ClientError::Barred { .. } | ClientError::Timeout { .. } => true,
        ClientError::Refused { code, .. } if broke_off(*code) => true,
        other => other.may_pass(),
    }
}

/// Gives back the paths of a server that ended without doing so itself. Those that are not there any more are none.
///
/// # Errors
/// A gateway can't be reached, or refuses. All others are asked nevertheless.
pub(crate) fn abandon(crossing: &Crossing, keys: &KeySource) -> Result<(), ConnectorError> {
    let mut given_back = Ok(());
    for consumer in &crossing.consumers {
        let released = crossing.gateways(consumer).release(crossing.uid(keys, consumer));
        given_back = given_back.and(released.map_err(|error| refused(crossing, consumer, &error)));
    }
    given_back
}

/// This host's address on the way to a gateway, at which the gateway can connect to it: loopback where that is this host.
///
/// # Errors
/// There is no way there.
pub fn address_towards(gateway: &Target) -> io::Result<IpAddr> {
    if is_loopback(gateway.host()) {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let mut last = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in (gateway.host(), gateway.port()).to_socket_addrs()? {
        match source_address(address) {
            Ok(ip) => return Ok(ip),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The address that packets to `destination` come from. None is sent.
fn source_address(destination: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(destination)?;
    Ok(socket.local_addr()?.ip())
}

fn name(crossing: &Crossing) -> String {
    format!("{NAME} {}", Reach::Through(Box::new(crossing.clone())))
}

fn unusable(crossing: &Crossing, reason: String) -> ConnectorError {
    ConnectorError::Unreachable { connector: name(crossing), reason }
}

/// In whose words it is: the option's that named the gateway.
fn refused(crossing: &Crossing, consumer: &Consumer, error: &ClientError) -> ConnectorError {
    let Consumer { site, gateway } = consumer;
    let action = match error.address() {
        Some(address) if crossing.private => format!("ask the private gateway at {address} for a path"),
        Some(address) if *address == crossing.producer.address => format!("--scistream-producer-s2cs {address}"),
        Some(address) if site.is_empty() => format!("--scistream-consumer-s2cs {address}"),
        Some(address) => format!("--scistream-site {site}={address}"),
        None => format!("ask {} and {} for a path", crossing.producer.address, gateway.address),
    };
    ConnectorError::Refused { connector: NAME.into(), action, reason: error.to_string() }
}

impl Connector for ScistreamServer {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        self.peer.put(object)
    }

    fn put_batch(&self, objects: Vec<Bytes>) -> Result<Vec<Key>, ConnectorError> {
        self.peer.put_batch(objects)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.peer.get(key)
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.peer.exists(key)
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.peer.evict(key)
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        self.peer.evict_batch(keys)
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.peer.take(key)
    }

    fn held(&self) -> Option<u64> {
        self.peer.held()
    }

    fn stop_waiting(&self) {
        self.peer.stop_waiting();
    }

    fn address(&self) -> Address {
        self.address.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
