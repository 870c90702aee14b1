//! How connections end, so that nobody takes a part of a stream for the whole.
//!
//! A stream that its sender ended is passed on with its end: half-close after the drain, each way for itself. Whatever else ends a
//! connection (either side's reset, an error, a session's release, a limit) ends both sides by a reset.

use std::future::pending;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::dataserver::Meter;

/// A connection that is reset when it is dropped, a task's cancellation included, unless it was [closed](Self::close).
#[derive(Debug)]
pub(crate) struct ResetOnDrop<S: AsFd = TcpStream>(Option<S>);

impl<S: AsFd> ResetOnDrop<S> {
    pub(crate) fn new(connection: S) -> Self {
        Self(Some(connection))
    }

    /// Lets the kernel send what it still has, then the end of the stream.
    pub(crate) fn close(mut self) {
        self.0 = None;
    }

    /// Hands it on.
    pub(crate) fn into_inner(mut self) -> S {
        match self.0.take() {
            Some(connection) => connection,
            None => unreachable!("only closing takes the connection, and takes all of this"),
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
            None => unreachable!("only closing takes the connection, and takes all of this"),
        }
    }
}

impl<S: AsFd> DerefMut for ResetOnDrop<S> {
    fn deref_mut(&mut self) -> &mut S {
        match &mut self.0 {
            Some(connection) => connection,
            None => unreachable!("only closing takes the connection, and takes all of this"),
        }
    }
}

/// Ends a connection by a reset, so that whoever is at its other end does not take it for a whole stream.
fn reset(connection: impl AsFd) {
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

/// Ends both sides of a connection: as they are if both streams came to their ends, else by resets, which are counted.
pub(crate) fn conclude(
    meter: &Meter,
    sides: impl IntoIterator<Item = ResetOnDrop>,
    carried: io::Result<()>,
) -> io::Result<()> {
    match carried {
        Ok(()) => sides.into_iter().for_each(ResetOnDrop::close),
        Err(_) => {
            meter.reset();
            drop(sides);
        }
    }
    carried
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

/// Whether anything moves on a connection, either way.
#[derive(Debug, Default)]
pub(crate) struct Activity(AtomicU64);

impl Activity {
    /// Something moved. Costs an addition, not an atomic one: that counts get lost among threads does no harm, as long as they change.
    pub(crate) fn note(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Fails once nothing has moved for so long, up to a quarter later; never, if there is no limit.
    pub(crate) async fn idle(&self, limit: Option<Duration>) -> io::Error {
        const LOOKS: u32 = 4;
        let Some(limit) = limit else { return pending().await };
        let (mut seen, mut quiet) = (self.0.load(Relaxed), 0);
        while quiet < LOOKS {
            sleep(limit / LOOKS).await;
            let now = self.0.load(Relaxed);
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
        io::Error::new(io::ErrorKind::TimedOut, format!("nothing moved for {limit:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use tokio::time::Instant;

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
    async fn a_connection_that_is_closed_ends_its_stream() {
        let (mut client, accepted) = pair();
        accepted.writable().await.unwrap();
        accepted.try_write(b"x").unwrap();
        ResetOnDrop::new(accepted).close();
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_quiet_connection_is_idle() {
        let (activity, start) = (Activity::default(), Instant::now());
        let busy = async {
            for _ in 0..10 {
                sleep(Duration::from_secs(6)).await;
                activity.note();
            }
            pending::<()>().await;
        };
        tokio::select! {
            error = activity.idle(Some(Duration::from_secs(8))) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            () = busy => {}
        }
        assert!(
            (Duration::from_secs(68)..=Duration::from_secs(72)).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
    }
}
