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
use crate::auth::Identity;
use crate::dataserver::door::Door as Strangers;
use crate::proto::control_server::ControlServer as ControlService;
use crate::proto::gateway::gateway_server::GatewayServer as GatewayService;
use crate::{ControlServer, Seldom};

/// How long a client may take for its first word after its handshake, which has as long.
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// Clients that may be together in their handshakes; the oldest makes way for one more.
const STRANGERS: usize = 1024;

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
        let room = Arc::new(Semaphore::new(control.config.limits.connections));
        let (strangers, refusals) = (Arc::new(Strangers::new(STRANGERS)), Arc::default());
        let door = Door { tls, strangers, room, connected, refusals, shortages: Seldom::default() };
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
    strangers: Arc<Strangers>,
    /// For connections that are through their handshakes.
    room: Arc<Semaphore>,
    connected: mpsc::Sender<Connection>,
    refusals: Arc<Seldom>,
    shortages: Seldom,
}

impl Door {
    async fn open(self, listener: TcpListener) {
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    self.shortages.warn(format!("can't accept a client: {error}"));
                    sleep(SHORTAGE).await;
                    continue;
                }
            };
            let (tls, connected) = (self.tls.clone(), self.connected.clone());
            let (strangers, room, refusals) = (self.strangers.clone(), self.room.clone(), self.refusals.clone());
            tokio::spawn(async move {
                let shaken = strangers.admit(peer.ip(), handshake(socket, tls)).await;
                let (io, reached) = match shaken {
                    Ok(shaken) => shaken,
                    Err(error) => return tracing::debug!(%peer, "a client's handshake failed: {error}"),
                };
                let Ok(room) = room.try_acquire_owned() else {
                    let many = "there are as many as this server takes on";
                    return refusals.warn(format!("turned a client away, {peer}: {many}"));
                };
                let silent = Some(Box::pin(sleep(GREETING_LIMIT)));
                // The server is ending where nobody takes it.
                let _ = connected.send(Connection { io, silent, reached, _room: room }).await;
            });
        }
    }
}

async fn handshake(socket: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<(Io, Reached)> {
    socket.set_nodelay(true)?;
    let at = socket.local_addr().ok().map(|address| address.ip());
    let io = match tls {
        Some(tls) => Io::Tls(Box::new(tls.accept(socket).await?)),
        None => {
            // Without a handshake the first word tells that there is a client.
            socket.peek(&mut [0]).await?;
            Io::Plain(socket)
        }
    };
    let certificate = match &io {
        Io::Plain(_) => None,
        Io::Tls(io) => io.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|of| by_certificate(of)),
    };
    Ok((io, Reached { at, certificate }))
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
