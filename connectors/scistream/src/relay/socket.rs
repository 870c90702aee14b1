//! Reads and writes that spare the system call which only says that there is no more.
//!
//! The system tells of new readiness once, and a read that brought less than there was room for, or a write that took less than there
//! was, shows that the readiness is used up. tokio knows this as well, but not for shared streams, nor for vectored writes.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll, ready};

use rustix::io::readv;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads once into memory that is not empty; 0 is the end of the stream.
pub(crate) fn poll_read(stream: &TcpStream, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        let room = buffer.len();
        let read = once(stream, Interest::READABLE, room, || {
            let (read, _) = recv(stream, &mut *buffer, RecvFlags::empty())?;
            Ok(read)
        });
        if let Some(read) = read {
            return Poll::Ready(read);
        }
    }
}

/// As [`poll_read`], into several places, the first ones first.
pub(crate) fn poll_read_vectored(
    stream: &TcpStream,
    context: &mut Context<'_>,
    places: &mut [IoSliceMut<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        let room = places.iter().map(|place| place.len()).sum();
        if let Some(read) = once(stream, Interest::READABLE, room, || Ok(readv(stream, &mut *places)?)) {
            return Poll::Ready(read);
        }
    }
}

/// Writes once from all parts, of which there is at least one; none is empty.
pub(crate) fn poll_write(
    stream: &TcpStream,
    context: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let offered = parts.iter().map(|part| part.len()).sum();
        let written = once(stream, Interest::WRITABLE, offered, || match parts {
            [part] => Ok(send(stream, part, SendFlags::NOSIGNAL)?),
            parts => Ok(sendmsg(stream, parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?),
        });
        if let Some(written) = written {
            return Poll::Ready(written);
        }
    }
}

/// `None`: it would have blocked. tokio takes that error for the end of a readiness, so a part of what was possible is told as one.
fn once(
    stream: &TcpStream,
    interest: Interest,
    possible: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut part = None;
    let result = stream.try_io(interest, || match call()? {
        moved if 0 < moved && moved < possible => {
            part = Some(moved);
            Err(io::ErrorKind::WouldBlock.into())
        }
        moved => Ok(moved),
    });
    match (part, result) {
        (Some(moved), _) => Some(Ok(moved)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => None,
        (None, result) => Some(result),
    }
}
