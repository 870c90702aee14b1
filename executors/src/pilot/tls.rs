//! TLS between a worker and its dispatcher.
//!
//! A thread at each end moves bytes between the TLS connection and a socket pair, on which frames travel as they do without: the rest of
//! this crate knows nothing of it. Each end proves itself to the other by what the invitation holds: the dispatcher by its
//! certificate, which was made for this executor, the worker by its token.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::fleet::channel::Channel;

/// The name that the certificate is for, and that workers want. Where they connect matters to nobody: the certificate is known by itself.
const NAME: &str = "psbench";
/// Given to the other side to shake hands: a stranger may say nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes that are moved at once: 16 records.
const BUFFER: usize = 256 << 10;

/// The dispatcher's side.
pub(super) struct Keeper {
    config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
}

impl Keeper {
    /// Makes a certificate.
    pub(super) fn new() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).map_err(io::Error::other)?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], key))
            .map_err(io::Error::other)?;
        Ok(Self { config: Arc::new(config), certificate })
    }

    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// For a worker that connected. What is wrong with its TLS shows as the end of the channel.
    pub(super) fn accept(&self, socket: TcpStream) -> io::Result<Channel> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        Ok(relay(socket, async move |socket| acceptor.accept(socket).await)?.channel)
    }
}

/// The worker's side: trusts this certificate alone.
pub(super) fn connect(socket: TcpStream, certificate: Vec<u8>) -> io::Result<Relay> {
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.into()).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    relay(socket, async move |socket| {
        connector.connect(ServerName::try_from(NAME).map_err(io::Error::other)?, socket).await
    })
}

/// A connection, and the thread that moves its bytes.
pub(super) struct Relay {
    pub(super) channel: Channel,
    /// Ends when both sides have.
    pub(super) thread: JoinHandle<()>,
}

/// Shakes hands and moves bytes in a thread of its own, until both sides have ended.
fn relay<S, H>(socket: TcpStream, shake_hands: H) -> io::Result<Relay>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: AsyncFnOnce(tokio::net::TcpStream) -> io::Result<S> + Send + 'static,
{
    let (outside, inside) = UnixStream::pair()?;
    // The kernel watches the connection, as without TLS.
    let tuned = socket.try_clone()?;
    Channel::network(tuned)?;
    socket.set_nonblocking(true)?;
    inside.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let thread = thread::Builder::new().name("psbench-tls".to_owned()).spawn(move || {
        let moved = runtime.block_on(async {
            let mut inside = tokio::net::UnixStream::from_std(inside)?;
            let socket = tokio::net::TcpStream::from_std(socket)?;
            let mut encrypted =
                timeout(HANDSHAKE, shake_hands(socket)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            copy_bidirectional_with_sizes(&mut inside, &mut encrypted, BUFFER, BUFFER).await
        });
        if let Err(error) = moved {
            tracing::debug!("a TLS connection broke: {error}");
        }
    })?;
    Ok(Relay { channel: outside.into(), thread })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn connected(certificate: impl FnOnce(&Keeper) -> Vec<u8>) -> (Channel, Channel) {
        let keeper = Keeper::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let worker = connect(worker, certificate(&keeper)).unwrap().channel;
        (keeper.accept(listener.accept().unwrap().0).unwrap(), worker)
    }

    #[test]
    fn bytes_arrive_and_ends_are_told() {
        let (door, worker) = connected(|keeper| keeper.certificate().to_vec());
        let sent = vec![7; 3_000_000];
        thread::scope(|scope| {
            scope.spawn(|| {
                worker.write_all(&sent).unwrap();
                worker.shut_down(std::net::Shutdown::Write);
            });
            let mut received = Vec::new();
            assert_eq!(door.read_into(&mut received, usize::MAX).unwrap(), sent.len());
            assert!(received == sent);
        });
        door.write_all(b"still there").unwrap();
        drop(door);
        let mut received = Vec::new();
        worker.read_into(&mut received, usize::MAX).unwrap();
        assert_eq!(received, b"still there");
    }

    #[test]
    fn a_worker_trusts_nobody_else() {
        let (_door, worker) = connected(|_| Keeper::new().unwrap().certificate().to_vec());
        let _ = worker.write_all(b"token");
        assert!(matches!(worker.read(&mut [0]), Ok(0) | Err(_)), "it hung up");
    }
}
