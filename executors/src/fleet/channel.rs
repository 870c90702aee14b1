//! A connected stream socket, of either family.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_congestion, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
    set_tcp_user_timeout,
};

/// A host that does not answer for as long has vanished.
const VANISHED: Duration = Duration::from_secs(20);
const PROBE: Duration = Duration::from_secs(5);

/// What frames travel on, within a host or between two.
///
/// The standard library's type for Unix sockets holds both kinds: only calls that all stream sockets have are made.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

impl Channel {
    /// A connection that may lead to another host: it breaks when that one vanishes.
    pub(crate) fn network(socket: TcpStream) -> io::Result<Self> {
        let within_host = socket.local_addr()?.ip() == socket.peer_addr()?.ip();
        set_tcp_nodelay(&socket, true)?;
        set_socket_keepalive(&socket, true)?;
        set_tcp_keepidle(&socket, PROBE)?;
        set_tcp_keepintvl(&socket, PROBE)?;
        set_tcp_keepcnt(&socket, u32::try_from(VANISHED.as_secs() / PROBE.as_secs()).unwrap_or(1))?;
        set_tcp_user_timeout(&socket, u32::try_from(VANISHED.as_millis()).unwrap_or(u32::MAX))?;
        if within_host {
            // Where BBR is the system's default it paces within a host, too, at less than half the speed.
            let _ = ["reno", "cubic"].into_iter().find(|algorithm| set_tcp_congestion(&socket, algorithm).is_ok());
        }
        Ok(OwnedFd::from(socket).into())
    }

    /// Reads what has come, or waits for something; 0 bytes at the end of the stream.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Appends `length` bytes to `memory`, which is not filled with zeros before; fewer at the end of the stream.
    pub(crate) fn read_into(&self, memory: &mut Vec<u8>, length: usize) -> io::Result<usize> {
        (&self.0).take(length as u64).read_to_end(memory)
    }

    /// Writes all of a few bytes.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    /// Another handle of the same connection.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// How long one read may wait; `None`: for ever.
    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)
    }

    /// Ends one direction or both. Fails, without harm, where the other end was faster.
    pub(crate) fn shut_down(&self, how: Shutdown) {
        let _ = self.0.shutdown(how);
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

impl From<UnixStream> for Channel {
    fn from(socket: UnixStream) -> Self {
        Self(socket)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
