//! What is left to do for a connection once its streams have ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Path;
use super::end::{ResetOnDrop, broken, reset};

/// Between looks at what is not delivered yet.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The end of a stream has a number of its own.
const END: u64 = 1;

/// Ends both sides of a connection: once their receivers have all that was written, if both streams came to their ends, else by
/// resets, which are counted.
///
/// Until then they are not closed: what is closed is the kernel's alone, which forgets it where such connections are many, and after
/// some minutes in which a receiver takes nothing. When the session ends before, they are: there is no reason to take back what is whole.
pub(crate) async fn conclude(
    path: &Path,
    sides: impl IntoIterator<Item = ResetOnDrop>,
    carried: io::Result<()>,
) -> io::Result<()> {
    let concluded: io::Result<()> = match carried {
        Ok(()) => {
            let sides = sides.into_iter().map(|side| deliver(side.into_inner(), path.options.idle_timeout));
            join_all(sides).await.into_iter().collect()
        }
        Err(error) => {
            path.meter.reset();
            drop(sides);
            return Err(error);
        }
    };
    if concluded.is_err() {
        path.meter.reset();
    }
    concluded
}

/// Waits until a receiver has all that was written to it. `patience`: for how long it may take nothing; `None`: as long as the session
/// goes on.
///
/// # Errors
/// It was reset before, by its receiver or because that took nothing.
async fn deliver(connection: TcpStream, patience: Option<Duration>) -> io::Result<()> {
    let mut left = unacknowledged(&connection)?;
    let (mut pause, mut since) = (SHORTEST_PAUSE, Instant::now());
    while left > 0 {
        let gone = tokio::select! {
            biased;
            error = broken(&connection) => Some(error),
            () = sleep(pause) => None,
        };
        let before = std::mem::replace(&mut left, unacknowledged(&connection)?);
        match (gone, patience) {
            // Whoever has all of it and then resets takes nothing back.
            (Some(error), _) => return if left > END { Err(error) } else { Ok(()) },
            (None, Some(patience)) if left == before && since.elapsed() >= patience => {
                reset(connection);
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{left} bytes not taken for {patience:?}"),
                ));
            }
            (None, _) if left < before => since = Instant::now(),
            (None, _) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Bytes in a socket's send buffer that were not acknowledged; the end of the stream counts as one.
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    let socket: BorrowedFd<'_> = socket.as_fd();
    // SAFETY: `SIOCOUTQ` of a TCP socket writes an int, see tcp(7).
    #[allow(unsafe_code)]
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, libc::c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream as Peer};

    use tokio::time::timeout;

    use super::*;
    use crate::forward::ForwardOptions;
    use crate::relay::end_stream;

    const BOUND: Duration = Duration::from_secs(60);
    /// More than a receiver's kernel takes by itself.
    const BYTES: usize = 1 << 20;

    /// A connection whose streams have both ended, and whose receiver has read nothing.
    async fn ended() -> (Peer, TcpStream, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 64 << 10).unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        reader.write_all(b"x").unwrap();
        reader.shutdown(Shutdown::Write).unwrap();
        writer.readable().await.unwrap();
        let mut written = 0;
        while written < BYTES {
            let Ok(Ok(())) = timeout(Duration::from_millis(100), writer.writable()).await else { break };
            written += writer.try_write(&vec![7; BYTES - written]).unwrap_or(0);
        }
        while writer.try_read(&mut [0; 10]).unwrap() > 0 {}
        end_stream(&writer).unwrap();
        assert!(unacknowledged(&writer).unwrap() > END);
        (reader, writer, written)
    }

    fn path(idle_timeout: Option<Duration>) -> Path {
        Path::nowhere(ForwardOptions { idle_timeout, ..ForwardOptions::default() })
    }

    async fn concluded(path: &Path, writer: TcpStream) -> io::Result<()> {
        conclude(path, [ResetOnDrop::new(writer)], Ok(())).await
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_a_receiver_that_pauses_has_all_of_it() {
        let (mut reader, writer, written) = ended().await;
        let path = path(None);
        let mut concluding = std::pin::pin!(concluded(&path, writer));
        let pausing = timeout(Duration::from_millis(300), &mut concluding);
        pausing.await.expect_err("it was given up with bytes that nobody has");
        let reading = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()).unwrap());
        timeout(BOUND, concluding).await.unwrap().unwrap();
        assert_eq!((reading.join().unwrap(), path.meter.traffic().connections_reset), (written, 0));
    }

    #[tokio::test]
    async fn the_sessions_end_takes_nothing_back() {
        let (mut reader, writer, written) = ended().await;
        timeout(Duration::from_millis(10), concluded(&path(None), writer)).await.unwrap_err();
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), written);
    }

    #[tokio::test]
    async fn a_receiver_that_resets_or_takes_nothing_for_too_long_ends_the_wait() {
        let path = path(Some(Duration::from_millis(50)));
        let (reader, writer, _) = ended().await;
        drop(reader);
        timeout(BOUND, concluded(&path, writer)).await.unwrap().unwrap_err();
        let (mut reader, writer, written) = ended().await;
        let error = timeout(BOUND, concluded(&path, writer)).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), path.meter.traffic().connections_reset), (io::ErrorKind::TimedOut, 2));
        let mut read = Vec::new();
        assert_eq!(reader.read_to_end(&mut read).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(read.len() < written);
    }
}
