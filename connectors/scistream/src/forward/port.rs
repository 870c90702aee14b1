//! Ports that a session has before it forwards.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

/// A port that is bound for TCP and for UDP, so that nobody else gets it, and does not accept yet.
#[derive(Debug)]
pub struct ReservedPort {
    tcp: OwnedFd,
    udp: OwnedFd,
    address: SocketAddr,
}

/// Connections that may wait to be accepted; the system's `somaxconn` bounds it too.
const BACKLOG: i32 = 1024;

/// Ports that are tried where any will do.
const MOST_CANDIDATES: u32 = 64;

impl ReservedPort {
    /// Binds it. Port 0 takes any that is free.
    ///
    /// # Errors
    /// It is taken, or not this host's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut attempts = if address.port() == 0 { MOST_CANDIDATES } else { 1 };
        loop {
            attempts -= 1;
            match Self::bind_once(address) {
                // A port that is free for connections may be taken for datagrams.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                bound => return bound,
            }
        }
    }

    fn bind_once(address: SocketAddr) -> io::Result<Self> {
        let tcp = bound(SocketType::STREAM, address)?;
        let address: SocketAddr = getsockname(&tcp)?.try_into()?;
        let udp = bound(SocketType::DGRAM, address)?;
        Ok(Self { tcp, udp, address })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections from now on. The socket does not block.
    pub(crate) fn listen(self) -> io::Result<TcpListener> {
        set_socket_reuseaddr(&self.tcp, true)?;
        listen(&self.tcp, BACKLOG)?;
        Ok(self.tcp.into())
    }

    /// Its socket for connections.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }

    /// Its socket for datagrams, which does not block, and what keeps its number from being used for connections meanwhile.
    pub(crate) fn into_udp(self) -> (UdpSocket, OwnedFd) {
        (self.udp.into(), self.tcp)
    }

    /// Gives it up for connections, for a program that binds it by itself; as long as its socket for datagrams is there, no other session
    /// reserves it.
    pub(crate) fn vacate(self) -> UdpSocket {
        self.udp.into()
    }
}

fn bound(kind: SocketType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if kind == SocketType::STREAM {
        // Connections of an earlier session that the kernel still winds up don't keep its port.
        set_socket_reuseaddr(&socket, true)?;
    }
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        // As long as nobody listens, whoever has this set, too, could bind the port again and listen first.
        set_socket_reuseaddr(&socket, false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_nobody_elses_until_it_is_given_up() {
        let port = ReservedPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = port.address();
        TcpListener::bind(address).unwrap_err();
        UdpSocket::bind(address).unwrap_err();
        std::net::TcpStream::connect(address).unwrap_err();
        drop(port.vacate());
        TcpListener::bind(address).unwrap();
        UdpSocket::bind(address).unwrap();
    }
}
