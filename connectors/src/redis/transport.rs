//! What bytes go over to a server: TCP, TLS or a Unix socket.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_keepalive;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use scistream::tls::{ClientTls, Pem, TlsError};

use super::CONNECT_TIMEOUT;
use super::reply::ReadBulk;
use super::server::{RedisPlace, RedisServer, RedisTls};
use crate::io::write_full;
use crate::net::connect_tcp;

/// The most parts that Linux takes with one call (`UIO_MAXIOV`).
const MAX_PARTS: usize = 1024;

/// A connection's bytes. Reading goes by [`Read`].
#[derive(Debug)]
pub enum Transport {
    /// Without TLS.
    Tcp(TcpStream),
    /// With.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Within a host.
    Unix(UnixStream),
}

impl Transport {
    /// Connects to the first of the host's addresses that lets it, within 5 s each. `at`: where to connect in place of the server's own
    /// address.
    pub(super) fn connect(server: &RedisServer, at: Option<(&str, u16)>) -> io::Result<Self> {
        let transport = match &server.place {
            RedisPlace::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            RedisPlace::Tcp { host, port } => {
                let (to, port) = at.unwrap_or((host, *port));
                let stream = tcp(to, port)?;
                match &server.tls {
                    None => Self::Tcp(stream),
                    Some(files) => Self::Tls(Box::new(with_tls(stream, host, files)?)),
                }
            }
        };
        transport.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        Ok(transport)
    }

    /// How long to wait for bytes; `None`: for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Tls(stream) => stream.sock.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// How long to wait until the other side takes bytes.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
            Self::Tls(stream) => stream.sock.set_write_timeout(timeout),
            Self::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Sends all parts, from where they lie where there is no TLS.
    pub fn send(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => send(stream, parts),
            Self::Unix(stream) => send(stream, parts),
            Self::Tls(stream) => {
                parts.iter().try_for_each(|part| stream.write_all(part))?;
                stream.flush()
            }
        }
    }

    /// What ends it from another thread.
    pub fn closer(&self) -> io::Result<Closer> {
        Ok(match self {
            Self::Tcp(stream) => Closer::Tcp(stream.try_clone()?),
            Self::Tls(stream) => Closer::Tcp(stream.sock.try_clone()?),
            Self::Unix(stream) => Closer::Unix(stream.try_clone()?),
        })
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl ReadBulk for Transport {
    // Each socket by itself, since only its own type fills memory that was not zeroed before.
    fn read_bulk(&mut self, bulk: &mut Vec<u8>, length: u64) -> io::Result<()> {
        let read = match self {
            Self::Tcp(stream) => stream.take(length).read_to_end(bulk),
            Self::Tls(stream) => stream.take(length).read_to_end(bulk),
            Self::Unix(stream) => stream.take(length).read_to_end(bulk),
        };
        read.map(drop)
    }
}

/// Ends a connection from another thread.
#[derive(Debug)]
pub enum Closer {
    /// Over TCP, with TLS or without.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Closer {
    /// Whoever waits for an answer gets an error now.
    pub fn close(&self) {
        // Fails only where the connection has ended already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

fn send(socket: impl std::os::fd::AsFd, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    write_full(parts, |parts| {
        let parts = &parts[..parts.len().min(MAX_PARTS)];
        sendmsg(&socket, parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    })
}

fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = connect_tcp(host, port)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    // Finds out about hosts that vanished between requests.
    set_socket_keepalive(&stream, true)?;
    Ok(stream)
}

fn with_tls(stream: TcpStream, host: &str, files: &RedisTls) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let tls = client_tls(files).map_err(io::Error::other)?;
    let mut config = ClientConfig::clone(&tls.config());
    // Redis' protocol has no name there.
    config.alpn_protocols.clear();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    shake_hands(&mut stream).map_err(|error| match tls.explain(&error) {
        Some(_) if is_no_tls(&error) => {
            io::Error::new(ErrorKind::InvalidData, "it does not speak TLS there: write redis:// in place of rediss://")
        }
        Some(words) => io::Error::new(ErrorKind::InvalidData, words),
        None if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => io::Error::new(
            ErrorKind::InvalidData,
            "it did not answer TLS's hello within 5 s: write redis:// if it speaks no TLS there",
        ),
        None if error.kind() == ErrorKind::UnexpectedEof => {
            io::Error::new(ErrorKind::InvalidData, "it ended the connection at TLS's hello: does it speak TLS there?")
        }
        None => error,
    })?;
    Ok(stream)
}

/// What a client of a server with these files needs; reads them.
pub(super) fn client_tls(files: &RedisTls) -> Result<ClientTls, TlsError> {
    let client = match &files.client {
        Some((certificate, key)) => Some((Pem::read(certificate)?, Pem::read(key)?)),
        None => None,
    };
    match &files.ca {
        Some(ca) => ClientTls::pinned_to(&Pem::read(ca)?, client.as_ref()),
        None => ClientTls::system_roots(client.as_ref()),
    }
}

fn shake_hands(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> io::Result<()> {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(())
}

fn is_no_tls(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidMessage(_)))
}

/// Whether a server answers TLS's hello, by whatever certificate.
pub(super) fn speaks_tls(host: &str, port: u16, limit: Duration) -> bool {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    let (Ok(config), Ok(name), Ok(stream)) = (config, ServerName::try_from(host.to_owned()), tcp(host, port)) else {
        return false;
    };
    if stream.set_read_timeout(Some(limit)).is_err() {
        return false;
    }
    let Ok(connection) = ClientConnection::new(Arc::new(config), name) else { return false };
    match shake_hands(&mut StreamOwned::new(connection, stream)) {
        Ok(()) => true,
        Err(error) => {
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
            cause.is_some() && !is_no_tls(&error)
        }
    }
}
