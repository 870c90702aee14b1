//! The side that stores and serves.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use uuid::Uuid;

use super::PeerAddress;
use super::listener::Listener;
use super::service::Service;
use crate::object_map::ObjectMap;
use crate::{Connector, ConnectorConfig, ConnectorError, Key, KeySource, Secret};

/// Holds objects in this process and serves them to [`PeerClient`](super::PeerClient)s, until it is dropped.
#[derive(Debug)]
pub struct PeerServer {
    config: ConnectorConfig,
    keys: KeySource,
    service: Arc<Service>,
    acceptor: Option<JoinHandle<()>>,
}

impl PeerServer {
    /// Starts to serve at `address`; [`config`](Connector::config) says where that is and holds the secret.
    ///
    /// `limit`: the most bytes of objects that it holds. A `put` above waits for evictions: 30 s without any, and it fails.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Io`] where it can't listen at `address`.
    pub fn start(address: &PeerAddress, limit: u64, keys: KeySource) -> Result<Self, ConnectorError> {
        let failed = |action: &str| {
            let (connector, action) = (format!("peer {address}"), action.to_owned());
            move |source| ConnectorError::Io { connector, action, source }
        };
        let listener = Listener::bind(address).map_err(failed("listen"))?;
        let secret = Secret(*Uuid::new_v4().as_bytes());
        let config = ConnectorConfig::Peer { address: listener.address().clone(), secret, limit };
        let service = Arc::new(Service::new(listener, ObjectMap::new(config.to_string(), limit), secret));
        let acceptor = thread::Builder::new().name("peer-acceptor".into()).spawn({
            let service = Arc::clone(&service);
            move || service.run()
        });
        let acceptor = acceptor.map_err(failed("start its thread"))?;
        Ok(Self { config, keys, service, acceptor: Some(acceptor) })
    }
}

impl Connector for PeerServer {
    fn put(&self, object: Bytes) -> Result<Key, ConnectorError> {
        let key = self.keys.next(object.len() as u64);
        self.service.objects.put(&key, object)?;
        Ok(key)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.service.objects.get(key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.service.objects.contains(key))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.service.objects.take(key).is_some())
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        Ok(self.service.objects.take(key))
    }

    fn config(&self) -> &ConnectorConfig {
        &self.config
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.service.stop();
        // It has logged whatever went wrong in it.
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}
