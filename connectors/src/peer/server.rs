//! The side that stores and serves.

use bytes::Bytes;
use uuid::Uuid;

use super::loans::Loans;
use super::service::Served;
use super::{NAME, PeerAddress, PeerLocation};
use crate::net::{Listener, Server};
use crate::object_map::ObjectMap;
use crate::{Address, Connector, ConnectorError, Key, KeySource, Secret};

/// Holds objects in this process and serves them to [`PeerClient`](super::PeerClient)s, until it is dropped.
#[derive(Debug)]
pub struct PeerServer {
    location: PeerLocation,
    address: Address,
    keys: KeySource,
    server: Server<Served>,
}

impl PeerServer {
    /// Starts to serve at `address`; [`location`](Self::location) says where that is and holds the secret.
    ///
    /// `limit`: the most bytes of objects that it holds. A `put` above waits for evictions: 30 s without any, and it fails.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Io`] where it can't listen at `address`.
    pub fn start(address: &PeerAddress, limit: u64, keys: KeySource) -> Result<Self, ConnectorError> {
        let failed = |action: &str| {
            let (connector, action) = (format!("{NAME} {address}"), action.to_owned());
            move |source| ConnectorError::Io { connector, action, source }
        };
        let listener = Listener::bind(address).map_err(failed("listen"))?;
        let secret = Secret(*Uuid::new_v4().as_bytes());
        let location = PeerLocation { address: listener.address().clone(), secret };
        let address = Address::of(&location)?;
        let objects = ObjectMap::new(address.to_string(), limit);
        let served = Served { objects, loans: Loans::default() };
        let server = Server::start(listener, secret, served).map_err(failed("start its thread"))?;
        Ok(Self { location, address, keys, server })
    }

    /// Where it is, for clients.
    pub fn location(&self) -> &PeerLocation {
        &self.location
    }

    fn objects(&self) -> &ObjectMap {
        &self.server.service().objects
    }

    /// Where an object that is about to be confirmed is gone already.
    fn settled(&self, key: &Key) -> &ObjectMap {
        let Served { objects, loans } = self.server.service();
        loans.settle(&key.id);
        objects
    }
}

impl Connector for PeerServer {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let key = self.keys.next(object.len() as u64);
        self.objects().put(&key, object)?;
        Ok(key)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.settled(key).get(key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.settled(key).contains(key))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.settled(key).take(key).is_some())
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.settled(key).take(key))
    }

    fn held(&self) -> Option<u64> {
        self.server.service().loans.settle_all();
        Some(self.objects().len())
    }

    fn stop_waiting(&self) {
        self.objects().stop_waiting();
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}
