//! Taking on the connections of user clients.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream;
use ring::digest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::ask::LONGEST_TARGET;
use super::care::care;
use super::error::ControlError;
use super::service::Service;
use crate::ControlServer;
use crate::auth::Identity;
use crate::proto::control_server::ControlServer as ControlService;
use crate::proto::gateway::gateway_server::GatewayServer as GatewayService;

/// How long a client may take for its handshake, and then for its first word.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// After how long of silence a client is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Requests of one connection that may be open at once; a request that waits for hello is one.
const STREAMS: u32 = 256;

/// The least and the most that a message may take, in bytes, whatever the ports are: nobody has proved anything when it is read.
const LONGEST_MESSAGE: (usize, usize) = (128 << 10, 1 << 20);

/// In bytes, of a message beside its targets.
const BESIDE_TARGETS: usize = 4 << 10;

/// How long clients may take to hear that this server ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where this process has no descriptor left, waiting is all there is to do.
const SHORTAGE: Duration = Duration::from_millis(50);

impl ControlServer {
    /// Serves user clients at this listener until it is told to shut down; then ends all sessions. Without TLS whoever reads the network
    /// reads tokens and keys.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        shutdown: CancellationToken,
    ) -> Result<(), ControlError> {
        let control = &self.0;
        tokio::select! {
            () = control.restore() => {}
            () = shutdown.cancelled() => {}
        }
        let (connected, connections) = mpsc::channel(64);
        let door = Door { tls, room: Arc::new(Semaphore::new(control.config.limits.connections)), connected };
        let service = Service(Arc::clone(control));
        let gone = CancellationToken::new();
        let longest = (control.config.ports.count() * LONGEST_TARGET + BESIDE_TARGETS)
            .clamp(LONGEST_MESSAGE.0, LONGEST_MESSAGE.1);
        let serving = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .max_concurrent_streams(STREAMS)
            .add_service(ControlService::new(service.clone()).max_decoding_message_size(longest))
            .add_service(GatewayService::new(service).max_decoding_message_size(longest))
            .serve_with_incoming_shutdown(
                stream::unfold(connections, async |mut connections| {
                    connections.recv().await.map(|connection| (Ok::<_, io::Error>(connection), connections))
                }),
                gone.clone().cancelled_owned(),
            );
        // Ends with this future, whoever drops it.
        let mut serving = AbortOnDropHandle::new(tokio::spawn(serving));
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = door.open(listener) => {}
            () = care(Arc::clone(control)) => {}
        }
        // Requests that wait end with their sessions, so that connections can end.
        control.shut_down().await;
        gone.cancel();
        match timeout(FAREWELL, &mut serving).await {
            Ok(Ok(Ok(()))) | Err(_) => Ok(()),
            Ok(Ok(Err(error))) => Err(ControlError::Serve(error.to_string())),
            Ok(Err(error)) => Err(ControlError::Serve(error.to_string())),
        }
    }
}

/// Lets clients in.
struct Door {
    tls: Option<TlsAcceptor>,
    /// For connections, those in their handshake among them.
    room: Arc<Semaphore>,
    connected: mpsc::Sender<Connection>,
}

impl Door {
    async fn open(self, listener: TcpListener) {
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::warn!("can't accept a client: {error}");
                    sleep(SHORTAGE).await;
                    continue;
                }
            };
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
                tracing::warn!(%peer, "turned a client away: there are as many as this server takes on");
                continue;
            };
            let (tls, connected) = (self.tls.clone(), self.connected.clone());
            tokio::spawn(async move {
                match timeout(GREETING_LIMIT, handshake(socket, tls, room)).await {
                    Ok(Ok(connection)) => {
                        // The server is ending where nobody takes it.
                        let _ = connected.send(connection).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, "a client's handshake failed: {error}"),
                    Err(_) => tracing::debug!(%peer, "a client's handshake took too long"),
                }
            });
        }
    }
}

async fn handshake(socket: TcpStream, tls: Option<TlsAcceptor>, room: OwnedSemaphorePermit) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    let at = socket.local_addr().ok().map(|address| address.ip());
    let io = match tls {
        Some(tls) => Io::Tls(Box::new(tls.accept(socket).await?)),
        None => Io::Plain(socket),
    };
    let certificate = match &io {
        Io::Plain(_) => None,
        Io::Tls(io) => io.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|of| by_certificate(of)),
    };
    let reached = Reached { at, certificate };
    Ok(Connection { io, silent: Some(Box::pin(sleep(GREETING_LIMIT))), reached, _room: room })
}

/// Whoever proved to have this certificate.
fn by_certificate(certificate: &[u8]) -> Identity {
    let digest = digest::digest(&digest::SHA256, certificate);
    let shown: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Identity::new(format!("certificate-{shown}"))
}

/// How a client reached this server.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    /// At which of its addresses.
    pub(crate) at: Option<IpAddr>,
    /// Whom its certificate makes it; absent: it was asked for none.
    pub(crate) certificate: Option<Identity>,
}

/// A client's connection.
struct Connection {
    io: Io,
    /// Until the client has said something.
    silent: Option<Pin<Box<Sleep>>>,
    reached: Reached,
    _room: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Reached;

    fn connect_info(&self) -> Reached {
        self.reached.clone()
    }
}

/// Calls a method of whichever stream there is.
macro_rules! either {
    ($self:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $self.get_mut().io {
            Io::Plain(io) => Pin::new(io).$method($($argument),*),
            Io::Tls(io) => Pin::new(&mut **io).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = either!(self.as_mut(), poll_read, cx, buf);
        if read.is_ready() {
            self.silent = None;
        } else if let Some(silent) = &mut self.silent {
            ready!(silent.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, poll_write, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown, cx)
    }
}
