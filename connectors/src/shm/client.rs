//! The side that resolves.

use std::collections::HashMap;
use std::io::{ErrorKind, IoSlice, Read};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::host::this_host;
use super::lease::{Lease, Releases};
use super::mapping::{LeasedObject, ReadMapping};
use super::wire::{ANSWER_LEN, Answer, MAPPED_LEN, Request, decode_segments, mapped_rest};
use super::{PROTOCOL, ShmLocation};
use crate::lock::lock;
use crate::net::{Failures, PeerAddress, Socket, greet};
use crate::pool::Pool;
use crate::{Address, Connector, ConnectorError, Key};

/// The most connections of one client, beside the one over which leases go back.
const CONNECTIONS: usize = 64;

/// Reaches the objects of a [`ShmServer`](super::ShmServer) in another process of this host, and can't store any there.
#[derive(Debug)]
pub struct ShmClient {
    address: Address,
    failures: Failures,
    pool: Pool<Socket>,
    releases: Arc<Releases>,
    /// By segment. Whenever one is added, those go that the server does not use any more: so there are never more than it has.
    mappings: Mutex<HashMap<u64, Arc<ReadMapping>>>,
}

impl ShmClient {
    /// Connects to the server there, over one connection for each thread in a request, 64 at most, and one more.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Unreachable`] on another host; others where there is no server, or it has another secret.
    pub fn connect(location: &ShmLocation) -> Result<Self, ConnectorError> {
        let address = Address::of(location)?;
        let connector = address.to_string();
        let here = this_host().map_err(|source| ConnectorError::Io {
            connector: connector.clone(),
            action: "tell which host this is".into(),
            source,
        })?;
        if here != location.host {
            return Err(ConnectorError::Unreachable {
                connector,
                reason:
                    "the objects are in another host's memory, which this one can't map: use the `peer` connector over \
                         TCP (--ps-connector peer --ps-address …)"
                        .into(),
            });
        }
        let failures = Failures::new(connector.clone());
        let (server, secret) = (PeerAddress::Unix(location.path.clone()), location.secret);
        let releases = Arc::new(Releases::over(greet(PROTOCOL, &server, &secret, &connector)?));
        let pool = Pool::new(CONNECTIONS, move || greet(PROTOCOL, &server, &secret, &connector))?;
        Ok(Self { address, failures, pool, releases, mappings: Mutex::default() })
    }

    fn ask(&self, socket: &Socket, request: Request, key: &Key) -> Result<Answer, ConnectorError> {
        let mut head = [0; ANSWER_LEN];
        self.releases
            .send_with(socket, request)
            .and_then(|()| (&*socket).read_exact(&mut head))
            .map_err(|error| self.failures.io(key, error))?;
        Answer::decode(&head).ok_or_else(|| self.failures.protocol(key, format!("this is no answer: {head:02x?}")))
    }

    fn is_found(&self, request: Request, key: &Key) -> Result<bool, ConnectorError> {
        self.pool.run(|socket| match self.ask(socket, request, key)? {
            Answer::Absent => Ok(false),
            Answer::Present => Ok(true),
            other => Err(self.failures.protocol(key, format!("{other:?} answers {request:?}"))),
        })
    }

    /// Receives an object or learns where it is; nothing is allocated or mapped for one that is not of the size it was stored with.
    fn fetch(&self, socket: &Socket, request: Request, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        match self.ask(socket, request, key)? {
            Answer::Absent => Ok(None),
            Answer::Present => Err(self.failures.protocol(key, format!("Present answers {request:?}"))),
            Answer::Inline { size } => {
                self.failures.check_size(key, size)?;
                let len = usize::try_from(size).map_err(|_| self.failures.io(key, ErrorKind::OutOfMemory.into()))?;
                let object = socket.receive(len).map_err(|error| self.failures.io(key, error))?;
                Ok(Some(object.into()))
            }
            Answer::Segment { size, segment, lease } => {
                let lease = Lease::new(lease, size, &self.releases);
                self.failures.check_size(key, size)?;
                let mapping = self.mapping(socket, segment, &lease, key)?;
                let object = LeasedObject::new(mapping, size, lease).ok_or_else(|| {
                    self.failures.protocol(key, format!("segment {segment} has less than {size} bytes"))
                })?;
                Ok(Some(Bytes::from_owner(object)))
            }
        }
    }

    fn mapping(
        &self,
        socket: &Socket,
        segment: u64,
        lease: &Lease,
        key: &Key,
    ) -> Result<Arc<ReadMapping>, ConnectorError> {
        if let Some(mapping) = lock(&self.mappings).get(&segment) {
            return Ok(Arc::clone(mapping));
        }
        let (mapping, live) = self.map(socket, lease, key)?;
        let mapping = Arc::new(mapping);
        let mut mappings = lock(&self.mappings);
        // Another thread may have mapped it meanwhile; both mappings are good.
        mappings.insert(segment, Arc::clone(&mapping));
        let gone: Vec<_> = mappings.extract_if(|number, _| live.binary_search(number).is_err()).collect();
        drop(mappings);
        // Unmapping takes long: not within the lock.
        drop(gone);
        Ok(mapping)
    }

    /// Asks for the leased segment, and which segments the server has, in order.
    fn map(&self, socket: &Socket, lease: &Lease, key: &Key) -> Result<(ReadMapping, Vec<u64>), ConnectorError> {
        let mut head = [0; MAPPED_LEN];
        let descriptor = socket
            .send(&mut [IoSlice::new(&Request::Map(lease.number()).encode())])
            .and_then(|()| socket.receive_with_descriptor(&mut head))
            .map_err(|error| self.failures.io(key, error))?;
        let len =
            mapped_rest(head).ok_or_else(|| self.failures.protocol(key, "it has more segments than it may".into()))?;
        let live = socket.receive(len).map_err(|error| self.failures.io(key, error))?;
        let mapping = ReadMapping::open(descriptor).map_err(|error| self.failures.io(key, error))?;
        Ok((mapping, decode_segments(&live)))
    }
}

impl Connector for ShmClient {
    fn put(&self, _: Bytes) -> Result<Key, ConnectorError> {
        Err(self.failures.put())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.pool.run(|socket| self.fetch(socket, Request::Get(key.id), key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.is_found(Request::Exists(key.id), key)
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.is_found(Request::Evict(key.id), key)
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.pool.take(|socket| self.fetch(socket, Request::Take(key.id), key))
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}
