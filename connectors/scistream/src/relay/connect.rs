//! Making connections, and setting them up.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_recv_buffer_size, set_socket_send_buffer_size, set_tcp_keepcnt, set_tcp_keepidle,
    set_tcp_keepintvl, set_tcp_nodelay,
};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Path;
use crate::forward::{ReservedPort, Target};

/// Between the first attempts to connect; later ones wait longer.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A host that vanished is noticed within two minutes, where no data is on its way to it; where some is, the kernel gives up by itself
/// (`net.ipv4.tcp_retries2`). `TCP_USER_TIMEOUT` would be faster there, but ends connections to consumers that merely pause as well.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Accepts at a port. What it accepts has the path's buffers and congestion control from its first byte on, and still needs [`tune`].
pub(crate) fn listen(path: &Path, port: ReservedPort) -> io::Result<TcpListener> {
    // Before it listens: the window's scale depends on the buffer.
    prepare(path, port.as_fd())?;
    port.listen()
}

/// Connects to a target; tries again while it refuses, for as long as the path allows in all. The connection is tuned.
pub(crate) async fn connect(path: &Path, target: &Target) -> io::Result<TcpStream> {
    let until = Instant::now() + path.options.connect_timeout;
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt(path, target, until).await {
            Ok(connection) => return Ok(connection),
            // It accepted, and ended the connection before anybody looked: another attempt would be a second connection to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                path.meter.reset();
                return Err(error);
            }
            Err(error) if Instant::now() + pause >= until => {
                path.meter.refused();
                return Err(io::Error::new(error.kind(), format!("target {target}: {error}")));
            }
            Err(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tries each of a target's addresses once, until then. The connection is tuned.
pub(super) async fn attempt(path: &Path, target: &Target, until: Instant) -> io::Result<TcpStream> {
    let addresses = timeout_at(until, lookup_host((target.host(), target.port()))).await??.collect();
    first_of(path, addresses, until).await
}

/// An address that does not answer leaves the others their share of the time.
async fn first_of(path: &Path, addresses: Vec<SocketAddr>, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (left, address) in (1..=addresses.len() as u32).rev().zip(addresses) {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        prepare(path, socket.as_fd())?;
        let share = until.saturating_duration_since(Instant::now()) / left;
        match timeout(share, socket.connect(address)).await {
            Ok(Ok(connection)) => return tune(path, &connection).map(|()| connection),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Err(error),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// What has to be known before a handshake. Accepted connections have it from their listener.
fn prepare(path: &Path, socket: impl AsFd) -> io::Result<()> {
    if let Some(size) = path.options.socket_buffer {
        set_socket_recv_buffer_size(&socket, size)?;
        set_socket_send_buffer_size(&socket, size)?;
    }
    path.congestion.prepare(socket)
}

/// Sets a connection up, accepted or made, as the path wants it.
pub(crate) fn tune(path: &Path, connection: &TcpStream) -> io::Result<()> {
    set_tcp_nodelay(connection, true)?;
    set_socket_keepalive(connection, true)?;
    set_tcp_keepidle(connection, KEEPALIVE_AFTER)?;
    set_tcp_keepintvl(connection, KEEPALIVE_INTERVAL)?;
    set_tcp_keepcnt(connection, KEEPALIVE_PROBES)?;
    path.congestion.settle(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::ForwardOptions;

    const BOUND: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_leaves_the_next_one_time() {
        let path = Path::nowhere(ForwardOptions::default());
        // Whose queue is full drops what comes.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(1).unwrap();
        let silent_at = silent.local_addr().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&silent_at, Duration::from_millis(300));
        let _queued: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![silent_at, there.local_addr().unwrap()];
        let connected = first_of(&path, addresses, Instant::now() + Duration::from_secs(3));
        let connected = timeout(BOUND, connected).await.unwrap().unwrap();
        assert_eq!(connected.peer_addr().unwrap(), there.local_addr().unwrap());
    }
}
