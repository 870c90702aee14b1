//! How connections end, so that nobody takes a part of a stream for the whole.
//!
//! A stream that its sender ended is passed on with its end: half-close after the drain, each way for itself. Whatever else ends a
//! connection (either side's reset, an error, a session's release, a limit) ends both sides by a reset.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connection that is reset when it is dropped, a task's cancellation included, unless it was [handed on](Self::into_inner).
#[derive(Debug)]
pub(crate) struct ResetOnDrop<S: AsFd = TcpStream>(Option<S>);

impl<S: AsFd> ResetOnDrop<S> {
    pub(crate) fn new(connection: S) -> Self {
        Self(Some(connection))
    }

    /// Hands it on.
    pub(crate) fn into_inner(mut self) -> S {
        match self.0.take() {
            Some(connection) => connection,
            None => unreachable!("only handing on takes the connection, and takes all of this"),
        }
    }
}

impl<S: AsFd> Drop for ResetOnDrop<S> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            reset(connection);
        }
    }
}

impl<S: AsFd> Deref for ResetOnDrop<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.0 {
            Some(connection) => connection,
            None => unreachable!("only handing on takes the connection, and takes all of this"),
        }
    }
}

impl<S: AsFd> DerefMut for ResetOnDrop<S> {
    fn deref_mut(&mut self) -> &mut S {
        match &mut self.0 {
            Some(connection) => connection,
            None => unreachable!("only handing on takes the connection, and takes all of this"),
        }
    }
}

/// Ends a connection by a reset, so that whoever is at its other end does not take it for a whole stream.
pub(super) fn reset(connection: impl AsFd) {
    // Fails where the connection is gone already.
    let _ = set_socket_linger(&connection, Some(Duration::ZERO));
    drop(connection);
}

/// Tells the receiver that the stream is whole; the other way goes on.
///
/// # Errors
/// The connection is gone.
pub(crate) fn end_stream(connection: &TcpStream) -> io::Result<()> {
    Ok(shutdown(connection, Shutdown::Write)?)
}

/// What a connection that was reset by its other end is known by.
pub(crate) fn reset_by_peer() -> io::Error {
    Errno::CONNRESET.into()
}

/// Waits until a connection fails: reset by its other end, or given up by the kernel. Also while nobody reads from it or writes to it.
pub(crate) async fn broken(connection: &TcpStream) -> io::Error {
    match connection.ready(Interest::ERROR).await {
        // Whoever asked before took the error with him.
        Ok(_) => connection.take_error().ok().flatten().unwrap_or_else(reset_by_peer),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        (client, TcpStream::from_std(accepted).unwrap())
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_is_reset() {
        let (mut client, accepted) = pair();
        drop(ResetOnDrop::new(accepted));
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_connection_that_is_handed_on_is_not_reset() {
        let (mut client, accepted) = pair();
        accepted.writable().await.unwrap();
        accepted.try_write(b"x").unwrap();
        drop(ResetOnDrop::new(accepted).into_inner());
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 1);
    }
}
