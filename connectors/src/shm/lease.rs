//! What a reader holds, and how it gives that back.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::sync::{Arc, Mutex};

use super::wire::Request;
use crate::lock::lock;
use crate::net::Socket;

/// Leases on fewer bytes than this, in all, wait for the client's next request and go ahead of it: to wake the server for each
/// would cost more than to copy a small object.
const WAIT_BELOW: u64 = 1 << 20;

/// The way back for leases. Whoever drops the last `Bytes` of an object waits for nobody.
#[derive(Debug)]
pub(super) struct Releases {
    /// A connection that nothing else goes over.
    socket: Socket,
    returned: Mutex<Returned>,
}

#[derive(Debug, Default)]
struct Returned {
    /// Requests that wait for one to go with.
    waiting: Vec<u8>,
    /// What their leases were on.
    waiting_bytes: u64,
    /// Requests, the first of them perhaps sent in part. As many as there were leases, at most.
    unsent: Vec<u8>,
}

impl Releases {
    pub(super) fn over(socket: Socket) -> Self {
        Self { socket, returned: Mutex::default() }
    }

    /// Sends a request, and ahead of it the leases that wait for one.
    pub(super) fn send_with(&self, socket: &Socket, request: Request) -> io::Result<()> {
        let waiting = {
            let mut returned = lock(&self.returned);
            returned.waiting_bytes = 0;
            self.send(&mut returned.unsent);
            mem::take(&mut returned.waiting)
        };
        let sent = socket.send(&mut [IoSlice::new(&waiting), IoSlice::new(&request.encode())]);
        if sent.is_err() {
            // Sent twice they do no harm: no lease has the number of an earlier one.
            lock(&self.returned).waiting.extend_from_slice(&waiting);
        }
        sent
    }

    fn release(&self, lease: u64, bytes: u64) {
        let mut returned = lock(&self.returned);
        let Returned { waiting, waiting_bytes, unsent } = &mut *returned;
        waiting.extend_from_slice(&Request::Release(lease).encode());
        *waiting_bytes += bytes;
        if *waiting_bytes >= WAIT_BELOW {
            unsent.append(waiting);
            *waiting_bytes = 0;
            self.send(unsent);
        }
    }

    /// Sends what the connection takes at once. The rest goes with the next call: a server that takes nothing has other troubles.
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
    /// The object's.
    bytes: u64,
    releases: Arc<Releases>,
}

impl Lease {
    /// Of the number that the server gave, on an object of so many bytes.
    pub(super) fn new(number: u64, bytes: u64, releases: &Arc<Releases>) -> Self {
        Self { number, bytes, releases: Arc::clone(releases) }
    }

    /// What the server knows it by.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.releases.release(self.number, self.bytes);
    }
}
