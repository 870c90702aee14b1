//! The handshake of two gateways: rustls does it, and hands its keys over once either has proved who it is.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ConnectionTrafficSecrets, Error, ExtractedSecrets, ServerConfig};
use tokio::net::TcpStream;

use super::record::{Opener, RecordError, Sealer, record_len};
use super::stream::{read_some, write_all};

/// The most that is taken of a peer before it has proved who it is, in bytes. A handshake of two gateways takes less than 1 KiB.
const LONGEST_HANDSHAKE: usize = 8 << 10;

/// A connection whose two ends know each other.
#[derive(Debug)]
pub(crate) struct Session {
    /// For what goes out.
    pub(crate) sealer: Sealer,
    /// For what comes in.
    pub(crate) opener: Opener,
    /// The keys after these.
    pub(crate) keys: Keys,
    /// What came after the handshake, and was read with it.
    pub(crate) early: Vec<u8>,
}

/// The keys that follow, each way for itself. Whoever sends says when; that is once in a hundred gigabytes.
#[derive(Debug)]
pub(crate) struct Keys(Mutex<Box<dyn Rekey>>);

impl Keys {
    /// The next one for what goes out.
    pub(crate) fn next_out(&self) -> Result<(u64, ConnectionTrafficSecrets), RecordError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).next_out()?)
    }

    /// The next one for what comes in.
    pub(crate) fn next_in(&self) -> Result<(u64, ConnectionTrafficSecrets), RecordError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).next_in()?)
    }
}

impl Keys {
    /// For connections that never come to their next key.
    pub(super) fn none() -> Self {
        struct Never;
        impl Rekey for Never {
            fn next_out(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
                Err(Error::EncryptError)
            }

            fn next_in(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
                Err(Error::DecryptError)
            }
        }
        Self(Mutex::new(Box::new(Never)))
    }
}

trait Rekey: Send {
    fn next_out(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
    fn next_in(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
}

impl std::fmt::Debug for dyn Rekey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rekey")
    }
}

impl<D: Send> Rekey for KernelConnection<D> {
    fn next_out(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_tx_secret()
    }

    fn next_in(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_rx_secret()
    }
}

/// Connects as the gateway that proves itself to the one that accepts.
///
/// # Errors
/// The other side is not the session's gateway, or is gone. How long it takes is for the caller to bound.
pub(crate) async fn connect(config: &Arc<ClientConfig>, stream: &TcpStream) -> io::Result<Session> {
    // No part of the handshake: the key is what the other side is known by.
    let nobody = ServerName::try_from("gateway").map_err(io::Error::other)?;
    let party = UnbufferedClientConnection::new(Arc::clone(config), nobody).map_err(io::Error::other)?;
    shake(party, stream).await
}

/// Accepts as the gateway that is connected to; see [`connect`].
pub(crate) async fn accept(config: &Arc<ServerConfig>, stream: &TcpStream) -> io::Result<Session> {
    let party = UnbufferedServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    shake(party, stream).await
}

/// Either side of a handshake.
trait Party {
    type Data: Send + 'static;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn finish(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error>;
}

impl Party for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn finish(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl Party for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn finish(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

/// What a handshake wants next.
enum Next {
    Send,
    Receive,
    Nothing,
}

async fn shake<P: Party>(mut party: P, stream: &TcpStream) -> io::Result<Session> {
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    // Records are shown to rustls one by one, so that it takes none past the handshake.
    let mut shown = 0;
    loop {
        let (next, done_with) = step(&mut party, &mut incoming[..shown], &mut outgoing)?;
        incoming.drain(..done_with);
        shown -= done_with;
        match next {
            Next::Nothing => break,
            Next::Send => {
                write_all(stream, &outgoing).await?;
                outgoing.clear();
            }
            Next::Receive => loop {
                if let Some(len) = record_len(&incoming[shown..])?
                    && incoming.len() - shown >= len
                {
                    shown += len;
                    break;
                }
                let before = incoming.len();
                if before >= LONGEST_HANDSHAKE {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a handshake without end"));
                }
                incoming.resize(LONGEST_HANDSHAKE, 0);
                let read = read_some(stream, &mut incoming[before..]).await?;
                incoming.truncate(before + read);
                if read == 0 {
                    return Err(RecordError::Truncated.into());
                }
            },
        }
    }
    let (secrets, kernel) = party.finish().map_err(RecordError::from)?;
    Ok(Session {
        sealer: Sealer::new(secrets.tx)?,
        opener: Opener::new(secrets.rx)?,
        keys: Keys(Mutex::new(Box::new(kernel))),
        early: incoming,
    })
}

/// Takes a handshake as far as it goes with what came. Says how much of that is done with.
fn step(party: &mut impl Party, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> io::Result<(Next, usize)> {
    let mut done_with = 0;
    loop {
        let UnbufferedStatus { discard, state } = party.process(&mut incoming[done_with..]);
        done_with += discard;
        let next = match state.map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))? {
            ConnectionState::EncodeTlsData(mut message) => {
                let before = outgoing.len();
                outgoing.resize(before + LONGEST_HANDSHAKE, 0);
                let encoded = message.encode(&mut outgoing[before..]).map_err(io::Error::other)?;
                outgoing.truncate(before + encoded);
                continue;
            }
            ConnectionState::TransmitTlsData(said) => {
                said.done();
                Next::Send
            }
            ConnectionState::BlockedHandshake => Next::Receive,
            ConnectionState::WriteTraffic(_) => Next::Nothing,
            // Data ahead of the handshake's end, or the connection's end.
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the handshake was not finished")),
        };
        return Ok((next, done_with));
    }
}

/// Both ends of a connection, and what they agreed on.
#[cfg(test)]
pub(crate) async fn pair(config: (ClientConfig, ServerConfig)) -> [(TcpStream, Session); 2] {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (mut clients, mut servers) = config;
    clients.enable_secret_extraction = true;
    servers.enable_secret_extraction = true;
    let (clients, servers) = (Arc::new(clients), Arc::new(servers));
    let (one, other) = tokio::join!(connect(&clients, &client), accept(&servers, &server));
    [(client, one.unwrap()), (server, other.unwrap())]
}
