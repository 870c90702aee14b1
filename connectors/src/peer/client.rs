//! The side that resolves.

use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;

use super::wire::{ANSWER_LEN, Answer, Operation, Request};
use super::{PROTOCOL, PeerAddress};
use crate::net::{Failures, Socket, greet};
use crate::pool::Pool;
use crate::{Connector, ConnectorConfig, ConnectorError, Key, Secret};

/// The most connections of one client.
const CONNECTIONS: usize = 64;
/// The most requests sent ahead of their answers: so few that they fit in the sockets' buffers, whatever the server does.
const PIPELINE: usize = 256;

/// Reaches the objects of a [`PeerServer`](super::PeerServer) in another process, and can't store any there.
#[derive(Debug)]
pub struct PeerClient {
    config: ConnectorConfig,
    failures: Failures,
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
        Ok(Self { failures: Failures::new(&config), config, pool })
    }

    fn ask(&self, socket: &Socket, operation: Operation, key: &Key) -> Result<Answer, ConnectorError> {
        let request = Request { operation, id: key.id }.encode();
        self.send(socket, &request, key)?;
        self.receive_answer(socket, key)
    }

    fn send(&self, socket: &Socket, requests: &[u8], key: &Key) -> Result<(), ConnectorError> {
        socket.send(&mut [IoSlice::new(requests)]).map_err(|error| self.failures.io(key, error))
    }

    fn receive_answer(&self, socket: &Socket, key: &Key) -> Result<Answer, ConnectorError> {
        let mut head = [0; ANSWER_LEN];
        io::Read::read_exact(&mut &*socket, &mut head).map_err(|error| self.failures.io(key, error))?;
        Answer::decode(&head).ok_or_else(|| self.failures.protocol(key, format!("this is no answer: {head:02x?}")))
    }

    /// Receives an object; nothing is allocated for one that is not of the size it was stored with.
    fn fetch(&self, socket: &Socket, operation: Operation, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        let answer = self.ask(socket, operation, key)?;
        if !answer.found {
            return Ok(None);
        }
        self.failures.check_size(key, answer.size)?;
        let len = usize::try_from(answer.size).map_err(|_| self.failures.io(key, ErrorKind::OutOfMemory.into()))?;
        let object = socket.receive(len).map_err(|error| self.failures.io(key, error))?;
        Ok(Some(object.into()))
    }
}

impl Connector for PeerClient {
    fn put(&self, _: Bytes) -> Result<Key, ConnectorError> {
        Err(self.failures.put())
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.pool.run(|socket| self.fetch(socket, Operation::Get, key))
    }

    fn exists(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.pool.run(|socket| Ok(self.ask(socket, Operation::Exists, key)?.found))
    }

    fn evict(&self, key: &Key) -> Result<bool, ConnectorError> {
        self.pool.run(|socket| Ok(self.ask(socket, Operation::Evict, key)?.found))
    }

    fn evict_batch(&self, keys: &[Key]) -> Result<u64, ConnectorError> {
        let mut evicted = 0;
        for chunk in keys.chunks(PIPELINE) {
            let requests: Vec<u8> =
                chunk.iter().flat_map(|key| Request { operation: Operation::Evict, id: key.id }.encode()).collect();
            evicted += self.pool.run(|socket| {
                self.send(socket, &requests, &chunk[0])?;
                chunk.iter().try_fold(0, |count, key| Ok(count + u64::from(self.receive_answer(socket, key)?.found)))
            })?;
        }
        Ok(evicted)
    }

    fn take(&self, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.pool.take(|socket| self.fetch(socket, Operation::Take, key))
    }

    fn config(&self) -> &ConnectorConfig {
        &self.config
    }
}
