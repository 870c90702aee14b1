//! A connected stream socket, Unix or TCP alike.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{
    Timeout, set_socket_keepalive, set_socket_timeout, set_tcp_congestion, set_tcp_nodelay, socket_peercred,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, SocketFlags, SocketType, connect, recv, recvmsg, send, sendmsg, shutdown, socket_with,
};

use super::{PeerAddress, STALL_TIMEOUT, address};
use crate::io::{read_full, write_full};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose transfers fail with [`ErrorKind::TimedOut`] when they stall for 30 s.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Connects within 5 s to each address that the host's name has.
    pub(crate) fn connect(address: &PeerAddress) -> io::Result<Self> {
        match address {
            PeerAddress::Unix(path) => {
                let path = address::unix(path)?;
                let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                set_socket_timeout(&fd, Timeout::Send, Some(CONNECT_TIMEOUT))?;
                connect(&fd, &path)?;
                Self::new(fd)
            }
            PeerAddress::Tcp { host, port } | PeerAddress::Announced { announced: host, port, .. } => {
                Self::new(connect_tcp(host, *port)?.into())
            }
        }
    }

    /// Takes over a connection that was made or accepted.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&fd, timeout, Some(STALL_TIMEOUT))?;
        }
        if let Some((local, remote)) = tcp_addresses(&fd)? {
            set_tcp_nodelay(&fd, true)?;
            // Finds out about hosts that vanished between requests.
            set_socket_keepalive(&fd, true)?;
            if local == remote || (local.is_loopback() && remote.is_loopback()) {
                keep_bbr_from_pacing(&fd);
            }
        }
        Ok(Self(fd))
    }

    /// Whether the other end is this user or root; always so where the transport does not tell.
    pub(crate) fn peer_is_trusted_user(&self) -> io::Result<bool> {
        if tcp_addresses(&self.0)?.is_some() {
            return Ok(true);
        }
        let uid = socket_peercred(&self.0)?.uid;
        Ok(uid.is_root() || uid == rustix::process::geteuid())
    }

    /// Sends all parts, with one system call where the socket takes them.
    pub(crate) fn send(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        write_full(parts, |parts| sendmsg(&self.0, parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL))
            .map_err(name_stall)
    }

    /// Receives exactly `len` bytes into memory of just that size.
    pub(crate) fn receive(&self, len: usize) -> io::Result<Vec<u8>> {
        read_full(&self.0, len).map_err(name_stall)
    }

    /// Sends as much as the socket takes at once.
    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| send(&self.0, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))?)
    }

    /// Sends the bytes, of which there is at least one, and a descriptor with the first. Only a Unix socket can.
    pub(crate) fn send_with_descriptor(&self, bytes: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL))
            .map_err(|error| name_stall(error.into()))?;
        self.send(&mut [IoSlice::new(&bytes[sent..])])
    }

    /// Fills the buffer and takes the descriptor that came with it.
    pub(crate) fn receive_with_descriptor(&self, buffer: &mut [u8]) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            retry_on_intr(|| recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC))
                .map_err(|error| name_stall(error.into()))?;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        (&*self).read_exact(&mut buffer[received.bytes..])?;
        descriptor.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no descriptor came with the answer"))
    }

    /// How long one read may wait; `None`: for ever.
    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, timeout)?)
    }

    /// Ends the connection, and every call on it in other threads.
    pub(crate) fn shut_down(&self) {
        // Fails where the other end was faster.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, _) = recv(&self.0, buffer, RecvFlags::empty()).map_err(|error| name_stall(error.into()))?;
        Ok(read)
    }
}

/// Connects to the first of the host's addresses that lets it, within 5 s each.
pub(crate) fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The local and the remote end's IP addresses; `None` for a Unix socket.
fn tcp_addresses(fd: &OwnedFd) -> io::Result<Option<(std::net::IpAddr, std::net::IpAddr)>> {
    let local = std::net::SocketAddr::try_from(rustix::net::getsockname(fd)?);
    let Ok(local) = local else { return Ok(None) };
    let Some(remote) = rustix::net::getpeername(fd)? else {
        return Err(ErrorKind::NotConnected.into());
    };
    let remote = std::net::SocketAddr::try_from(remote)?;
    Ok(Some((local.ip(), remote.ip())))
}

/// Where BBR is the system's default it paces within one host, too, at less than half the speed. The one that is allowed to
/// unprivileged users nearly everywhere comes first.
fn keep_bbr_from_pacing(fd: &OwnedFd) {
    for algorithm in ["reno", "cubic"] {
        if set_tcp_congestion(fd, algorithm).is_ok() {
            return;
        }
    }
}

/// A time limit on a socket shows as "try again", which tells a user nothing.
fn name_stall(error: io::Error) -> io::Error {
    if Errno::from_io_error(&error) == Some(Errno::AGAIN) {
        return io::Error::new(ErrorKind::TimedOut, "the transfer made no progress within its time limit (30 s)");
    }
    error
}
