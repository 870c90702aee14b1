//! What the kernel tells of a socket.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::relay::{tcp_info, unacknowledged};

/// How far a socket's sender is: a byte's position is fixed once it is in the send buffer, and where it started is what this told then.
///
/// The sum of what was acknowledged and what waits for it. (`bytes_sent - bytes_retrans + notsent_bytes` is nearly the same, but counts
/// a segment twice that was dropped before it left this host, and such a stream would be ended too early.) Between the two calls an
/// acknowledgement may arrive, which makes the sum too small, never too large: whoever waits for a position just asks again.
pub(super) fn position(socket: impl AsFd) -> io::Result<u64> {
    let acknowledged = tcp_info(socket.as_fd())?.tcpi_bytes_acked;
    Ok(acknowledged + unacknowledged(socket)?)
}

/// Bytes that a socket has received in order; the end of the stream counts as one.
pub(super) fn received(socket: impl AsFd) -> io::Result<u64> {
    Ok(tcp_info(socket.as_fd())?.tcpi_bytes_received)
}

/// Makes the program look at what arrived before it was there. Nothing is taken away.
pub(super) fn kick(socket: impl AsFd) -> io::Result<()> {
    match recv(socket, &mut [0], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
        // An error is told once, and would be lost.
        Err(error) if error != Errno::AGAIN && error != Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}

/// Receives what the program passed; 0: the stream ended.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    match recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((_, bytes)) => Ok(bytes),
        Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}
