//! The side that resolves.

use bytes::Bytes;

use super::{PROTOCOL, PeerLocation, Talk};
use crate::net::{Socket, greet};
use crate::pool::Pool;
use crate::{Address, Connector, ConnectorError, Key};

/// The most connections of one client.
pub(crate) const CONNECTIONS: usize = 64;

/// Reaches the objects of a [`PeerServer`](super::PeerServer) in another process, and can't store any there.
#[derive(Debug)]
pub struct PeerClient {
    address: Address,
    talk: Talk,
    pool: Pool<Socket>,
}

impl PeerClient {
    /// Connects to the server there, over one connection for each thread in a request, 64 at most.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] where there is no server, or it has another secret.
    pub fn connect(location: &PeerLocation) -> Result<Self, ConnectorError> {
        let address = Address::of(location)?;
        let connector = address.to_string();
        let talk = Talk::new(connector.clone());
        let PeerLocation { address: server, secret } = location.clone();
        let pool = Pool::new(CONNECTIONS, move || greet(PROTOCOL, &server, &secret, &connector))?;
        Ok(Self { address, talk, pool })
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

    fn address(&self) -> Address {
        self.address.clone()
    }
}
