//! What a reader holds, and how it gives that back.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use super::wire::Request;
use crate::lock::lock;
use crate::net::Socket;

/// The way back for leases: a connection of its own, so that whoever drops the last `Bytes` of an object waits for nobody.
#[derive(Debug)]
pub(super) struct Releases {
    socket: Socket,
    /// Requests, the first of them perhaps sent in part. As many as there are leases, at most.
    unsent: Mutex<Vec<u8>>,
}

impl Releases {
    pub(super) fn over(socket: Socket) -> Self {
        Self { socket, unsent: Mutex::default() }
    }

    /// Sends what it can without waiting. The rest goes with the next call: a server that takes nothing has other troubles.
    pub(super) fn flush(&self) {
        self.send(&mut lock(&self.unsent));
    }

    fn release(&self, lease: u64) {
        let mut unsent = lock(&self.unsent);
        unsent.extend_from_slice(&Request::Release(lease).encode());
        self.send(&mut unsent);
    }

    fn send(&self, unsent: &mut Vec<u8>) {
        while !unsent.is_empty() {
            match self.socket.try_send(unsent) {
                Ok(sent) => drop(unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The server has ended, and all leases with it.
                Err(_) => unsent.clear(),
            }
        }
    }
}

/// The right to read one object in its segment; goes back to the server when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    number: u64,
    releases: Arc<Releases>,
}

impl Lease {
    /// Of the number that the server gave.
    pub(super) fn new(number: u64, releases: &Arc<Releases>) -> Self {
        Self { number, releases: Arc::clone(releases) }
    }

    /// What the server knows it by.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.releases.release(self.number);
    }
}
