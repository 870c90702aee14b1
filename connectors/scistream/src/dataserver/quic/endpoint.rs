//! QUIC endpoints of a session: their sockets, and the tasks that drive them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Endpoint, Runtime, ServerConfig, TokioRuntime, VarInt};
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_send_buffer_size,
    set_socket_send_buffer_size_force,
};
use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::narrow::Narrow;
use super::transport;
use crate::forward::ForwardOptions;
use crate::relay::Tasks;

/// Of the datagrams that a socket has for its endpoint, in bytes; `--socket-buffer` says otherwise. Holds what arrives while the thread
/// does something else.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Of the datagrams that were sent and are still in this host. Less than the other one, so that gateways on one host wait for each other
/// instead of losing packets.
const SEND_BUFFER: usize = 2 << 20;

/// The session was released, or its control server ended.
pub(super) const RELEASED: VarInt = VarInt::from_u32(0);
/// There are as many connections as a gateway may have.
pub(super) const CROWDED: VarInt = VarInt::from_u32(1);

/// An endpoint that closes its connections when this is dropped.
#[derive(Debug)]
pub(super) struct Closing(pub(super) Endpoint);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(RELEASED, b"released");
    }
}

/// Makes an endpoint on a socket. Its tasks are the session's and run on this thread. Has to be called from within its runtime.
pub(super) fn endpoint(
    tasks: &Tasks,
    thread: &Handle,
    socket: UdpSocket,
    server: Option<ServerConfig>,
) -> io::Result<Closing> {
    let config = transport::endpoint().map_err(io::Error::other)?;
    let drivers = Drivers { tasks: tasks.clone(), thread: thread.clone() };
    Endpoint::new(config, server, socket, Arc::new(drivers)).map(Closing)
}

/// A socket that connects to an address of this family.
pub(super) fn socket_to(target: SocketAddr, options: &ForwardOptions) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    enlarge(&socket, options);
    Ok(socket)
}

/// Gives a socket large buffers: as large as was asked for if this process may, else as the system allows (`net.core.rmem_max`,
/// `wmem_max`).
pub(super) fn enlarge(socket: &UdpSocket, options: &ForwardOptions) {
    let receive = options.socket_buffer.unwrap_or(RECEIVE_BUFFER);
    let send = options.socket_buffer.unwrap_or(SEND_BUFFER);
    let _ =
        set_socket_recv_buffer_size_force(socket, receive).or_else(|_| set_socket_recv_buffer_size(socket, receive));
    let _ = set_socket_send_buffer_size_force(socket, send).or_else(|_| set_socket_send_buffer_size(socket, send));
}

/// Runs quinn's own tasks as tasks of the session, so that none outlives it.
#[derive(Debug)]
struct Drivers {
    tasks: Tasks,
    thread: Handle,
}

impl Runtime for Drivers {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, mut driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        /// What it takes until a closed connection has told its peer: closing reaches its driver, which sends.
        const TURNS: usize = 8;
        let end = self.tasks.end().clone();
        self.tasks.attach(&self.thread, async move {
            if end.run_until_cancelled(&mut driver).await.is_some() {
                return;
            }
            let turns = async {
                for _ in 0..TURNS {
                    yield_now().await;
                }
            };
            // Otherwise it would stay for three times the round trip, to answer stray packets.
            tokio::select! {
                biased;
                () = driver => {}
                () = turns => {}
            }
        });
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Narrow::new(TokioRuntime.wrap_udp_socket(socket)?)))
    }
}
