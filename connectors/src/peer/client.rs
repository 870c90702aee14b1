//! The side that resolves.

use bytes::Bytes;

use super::{PROTOCOL, PeerAddress, Talk};
use crate::net::{Socket, greet};
use crate::pool::Pool;
use crate::{Connector, ConnectorConfig, ConnectorError, Key, Secret};

/// The most connections of one client.
pub(crate) const CONNECTIONS: usize = 64;

/// Reaches the objects of a [`PeerServer`](super::PeerServer) in another process, and can't store any there.
#[derive(Debug)]
pub struct PeerClient {
    config: ConnectorConfig,
    talk: Talk,
    pool: Pool<Socket>,
}

impl PeerClient {
    /// Connects to the server at `address`, over one connection for each thread in a request, 64 at most. `limit` is the
    /// server's, for [`config`](Connector::config).
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where there is no server, or it has another secret.
    pub fn connect(address: &PeerAddress, secret: Secret, limit: u64) -> Result<Self, ConnectorError> {
        let config = ConnectorConfig::Peer { address: address.clone(), secret, limit };
        let connector = config.to_string();
        let pool = Pool::new(CONNECTIONS, {
            let address = address.clone();
            move || greet(PROTOCOL, &address, &secret, &connector)
        })?;
        Ok(Self { talk: Talk::new(&config), config, pool })
    }
}

impl Connector for PeerClient {
    fn put(&self, _: Bytes) -> Result<Key, ConnectorError> {
        Err(self.talk.refuse_put())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.pool.run(|socket| self.talk.get(socket, key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.pool.run(|socket| self.talk.exists(socket, key))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.pool.run(|socket| self.talk.evict(socket, key))
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        self.talk.evict_batch(keys, |request| self.pool.run(|socket| request(socket)))
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.pool.take(|socket| self.talk.take(socket, key))
    }

    fn config(&self) -> &ConnectorConfig {
        &self.config
    }
}
