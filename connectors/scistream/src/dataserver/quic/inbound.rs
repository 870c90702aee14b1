//! The producer's side: accepts connections of the other gateway, and connects each stream to the target.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Incoming, RecvStream, SendStream, ServerConfig};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::chunk::Chunks;
use super::endpoint::{CROWDED, Closing, endpoint, enlarge};
use super::stream::{Stream, carry};
use super::transport::{Times, transport};
use super::{GREETING, PROTOCOL};
use crate::dataserver::door::Door;
use crate::dataserver::identity::server_config;
use crate::forward::ReservedPort;
use crate::relay::{Path, ResetOnDrop, Tasks, connect};

/// Connections that shake hands at a time.
const HANDSHAKES: usize = 64;
/// Connections of the other gateway at a time. It needs as many as it makes ahead of time, and one more for each that both have not
/// given up yet.
const CONNECTIONS: usize = 64;
/// How long a stream's greeting may take.
const GREETED_WITHIN: Duration = Duration::from_secs(10);

/// A lane at the producer's side.
#[derive(Debug)]
pub(super) struct Inbound {
    lane: usize,
    path: Arc<Path>,
    times: Times,
    tasks: Tasks,
    thread: Handle,
    server: ServerConfig,
    chunks: Arc<Chunks>,
    door: Door,
    connections: Semaphore,
    /// The latest of the other gateway's: the next one is set up for the path that this one found.
    latest: Mutex<Option<Connection>>,
}

impl Inbound {
    /// What all lanes of a session prove themselves by, and recognise the other gateway.
    pub(super) fn crypto(path: &Path) -> io::Result<Arc<QuicServerConfig>> {
        let config = server_config(&path.secret, PROTOCOL).map_err(io::Error::other)?;
        Ok(Arc::new(QuicServerConfig::try_from(config).map_err(io::Error::other)?))
    }

    /// Accepts at a port from now on.
    pub(super) fn start(
        lane: usize,
        port: ReservedPort,
        path: &Arc<Path>,
        crypto: &Arc<QuicServerConfig>,
        tasks: &Tasks,
        times: Times,
    ) -> io::Result<()> {
        let mut server = ServerConfig::with_crypto(Arc::clone(crypto) as Arc<_>);
        server
            .transport_config(transport(&path.options, times, Duration::ZERO))
            .max_incoming(HANDSHAKES)
            .incoming_buffer_size(16 << 10)
            .incoming_buffer_size_total(1 << 20);
        let (socket, number) = port.into_udp();
        enlarge(&socket, &path.options);
        let thread = tasks.thread();
        let entered = thread.enter();
        let endpoint = endpoint(tasks, &thread, socket, Some(server.clone()))?;
        drop(entered);
        let inbound = Arc::new(Self {
            lane,
            path: Arc::clone(path),
            times,
            tasks: tasks.clone(),
            thread: thread.clone(),
            server,
            chunks: Chunks::new(&path.meter),
            door: Door::new(HANDSHAKES),
            connections: Semaphore::new(CONNECTIONS),
            latest: Mutex::default(),
        });
        tasks.spawn_on(&thread, async move {
            inbound.accept(&endpoint).await;
            // The port is this session's for TCP too, as long as it forwards.
            drop(number);
        });
        Ok(())
    }

    async fn accept(self: Arc<Self>, endpoint: &Closing) {
        while let Some(incoming) = endpoint.0.accept().await {
            if !incoming.remote_address_validated() {
                // Whoever only claims to be at an address gets no more than this there, which is smaller than what was sent.
                let _ = incoming.retry();
                continue;
            }
            let inbound = Arc::clone(&self);
            self.tasks.spawn_on(&self.thread, async move {
                let from = incoming.remote_address().ip();
                match inbound.door.admit(from, inbound.shake_hands(incoming)).await {
                    Ok(connection) => inbound.serve(connection).await,
                    Err(error) => tracing::debug!("somebody did not prove to be the other gateway: {error}"),
                }
            });
        }
    }

    /// Once this returns, the peer has proved that it knows the session's secret.
    async fn shake_hands(&self, incoming: Incoming) -> io::Result<Connection> {
        let mut server = self.server.clone();
        let round_trip = self.latest().as_ref().map_or(Duration::ZERO, Connection::min_rtt);
        server.transport_config(transport(&self.path.options, self.times, round_trip));
        Ok(incoming.accept_with(Arc::new(server))?.await?)
    }

    fn latest(&self) -> MutexGuard<'_, Option<Connection>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self: Arc<Self>, connection: Connection) {
        let Ok(_place) = self.connections.try_acquire() else {
            tracing::warn!("the other gateway has {CONNECTIONS} connections already: one more is closed");
            connection.close(CROWDED, b"too many connections");
            return;
        };
        *self.latest() = Some(connection.clone());
        tracing::info!(peer = %connection.remote_address(), round_trip = ?connection.rtt(), "the other gateway connected");
        let error = loop {
            match connection.accept_bi().await {
                Ok((send, recv)) => {
                    let inbound = Arc::clone(&self);
                    self.tasks.spawn_on(&self.thread, async move {
                        if let Err(error) = inbound.connect(send, recv).await {
                            tracing::debug!("a connection: {error}");
                        }
                    });
                }
                Err(error) => break error,
            }
        };
        tracing::info!("the other gateway's connection ended: {error}");
    }

    async fn connect(&self, send: SendStream, mut recv: RecvStream) -> io::Result<()> {
        let mut greeting = [0; GREETING.len()];
        let greeted = timeout(GREETED_WITHIN, recv.read_exact(&mut greeting)).await;
        let stream = Stream::new(send, recv);
        greeted?.map_err(io::Error::other)?;
        if greeting != GREETING {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a stream that does not begin as one of ours"));
        }
        let open = self.path.meter.opened();
        let target = ResetOnDrop::new(connect(&self.path, &self.path.targets[self.lane]).await?);
        let carried = carry(target, stream, &self.path, &self.chunks).await;
        drop(open);
        carried
    }
}
