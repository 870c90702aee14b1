//! The side that stores and serves.

use std::io;
use std::path::Path;

use bytes::Bytes;
use uuid::Uuid;

use super::host::this_host;
use super::service::SharedObjects;
use super::{NAME, ShmLocation};
use crate::net::{Listener, PeerAddress, Server};
use crate::object_map::ObjectMap;
use crate::{Address, Connector, ConnectorError, Key, KeySource, Secret};

/// Holds objects in memory that [`ShmClient`](super::ShmClient)s in other processes of this host map, until it is dropped. What they
/// have got by then stays with them.
#[derive(Debug)]
pub struct ShmServer {
    location: ShmLocation,
    address: Address,
    keys: KeySource,
    server: Server<SharedObjects>,
}

impl ShmServer {
    /// Starts to serve at a Unix socket; [`location`](Self::location) says where that is and holds the secret.
    ///
    /// `path`: at most 107 bytes; the empty path asks for a fresh one that only this user can enter. `limit`: the most bytes of
    /// objects that it holds. A `put` above waits for evictions: 30 s without any, and it fails.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Io`] where it can't listen at `path`.
    pub fn start(path: &Path, limit: u64, keys: KeySource) -> Result<Self, ConnectorError> {
        let address = PeerAddress::Unix(path.into());
        let failed = |action: &str| {
            let (connector, action) = (format!("{NAME} {address}"), action.to_owned());
            move |source| ConnectorError::Io { connector, action, source }
        };
        let host = this_host().map_err(failed("tell which host this is"))?;
        let listener = Listener::bind(&address).map_err(failed("listen"))?;
        let PeerAddress::Unix(path) = listener.address().clone() else {
            return Err(failed("listen")(io::ErrorKind::Unsupported.into()));
        };
        let secret = Secret(*Uuid::new_v4().as_bytes());
        let location = ShmLocation { path, host, secret };
        let address = Address::of(&location)?;
        let objects = SharedObjects::new(ObjectMap::new(address.to_string(), limit));
        let server = Server::start(listener, secret, objects).map_err(failed("start its thread"))?;
        Ok(Self { location, address, keys, server })
    }

    /// Where it is, for clients.
    pub fn location(&self) -> &ShmLocation {
        &self.location
    }

    fn shared(&self) -> &SharedObjects {
        self.server.service()
    }
}

impl Connector for ShmServer {
    /// Copies the object once, or keeps it as it is where it is small.
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let key = self.keys.next(object.len() as u64);
        let room = self.shared().objects.room_for(object.len() as u64)?;
        let stored = self.shared().share(object).map_err(|source| ConnectorError::Io {
            connector: self.address.to_string(),
            action: format!("make shared memory for {key}"),
            source,
        })?;
        room.fill(&key, stored);
        Ok(key)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.shared().objects.get(key).map(Bytes::from))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.shared().objects.contains(key))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.shared().objects.take(key).is_some())
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.shared().objects.take(key).map(Bytes::from))
    }

    fn held(&self) -> Option<u64> {
        Some(self.shared().objects.len())
    }

    fn stop_waiting(&self) {
        self.shared().objects.stop_waiting();
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}
