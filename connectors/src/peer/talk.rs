//! What a client says, over whatever connection it has.

use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;

use super::wire::{ANSWER_LEN, Answer, Operation, Request};
use crate::net::{Failures, Socket};
use crate::{ConnectorError, Key};

/// The most requests sent ahead of their answers: so few that they fit in the sockets' buffers, whatever the server does.
const PIPELINE: usize = 256;

/// Asks a [`PeerServer`](super::PeerServer).
#[derive(Debug)]
pub(crate) struct Talk {
    failures: Failures,
}

impl Talk {
    /// For errors, `connector` is its name and place.
    pub(crate) fn new(connector: String) -> Self {
        Self { failures: Failures::new(connector) }
    }

    pub(crate) fn get(&self, socket: &Socket, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.fetch(socket, Operation::Get, key)
    }

    /// The object, which is deleted with that, whether or not it arrives.
    pub(crate) fn take(&self, socket: &Socket, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.fetch(socket, Operation::Take, key)
    }

    /// The object, which stays until it is [confirmed](Self::confirm).
    pub(crate) fn borrow(&self, socket: &Socket, key: &Key) -> Result<Option<Bytes>, ConnectorError> {
        self.fetch(socket, Operation::Lend, key)
    }

    /// Says that an object has arrived, so that it is deleted. Waits for no answer: there is none.
    pub(crate) fn confirm(&self, socket: &Socket, key: &Key) -> Result<(), ConnectorError> {
        self.send(socket, &Request { operation: Operation::Confirm, id: key.id }.encode(), key)
    }

    pub(crate) fn exists(&self, socket: &Socket, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.ask(socket, Operation::Exists, key)?.found)
    }

    pub(crate) fn evict(&self, socket: &Socket, key: &Key) -> Result<bool, ConnectorError> {
        Ok(self.ask(socket, Operation::Evict, key)?.found)
    }

    /// Deletes several objects and returns how many there were. `on_connection` makes one request, which may be repeated.
    pub(crate) fn evict_batch(
        &self,
        keys: &[Key],
        on_connection: impl Fn(&dyn Fn(&Socket) -> Result<u64, ConnectorError>) -> Result<u64, ConnectorError>,
    ) -> Result<u64, ConnectorError> {
        let mut evicted = 0;
        for chunk in keys.chunks(PIPELINE) {
            let requests: Vec<u8> =
                chunk.iter().flat_map(|key| Request { operation: Operation::Evict, id: key.id }.encode()).collect();
            evicted += on_connection(&|socket| {
                self.send(socket, &requests, &chunk[0])?;
                chunk.iter().try_fold(0, |count, key| Ok(count + u64::from(self.receive_answer(socket, key)?.found)))
            })?;
        }
        Ok(evicted)
    }

    /// Said of whoever wants to store.
    pub(crate) fn refuse_put(&self) -> ConnectorError {
        self.failures.put()
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
