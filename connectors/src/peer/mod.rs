//! Objects in the memory of the process that stored them, served to others over a Unix socket or TCP.
//!
//! The generator's [`PeerServer`] holds the objects; each worker's [`PeerClient`] gets them straight from there: no broker, no file,
//! and on the serving side no copy. A client proves that it may by a secret, which every proxy carries, and on a Unix socket by its
//! user, too. Neither the secret nor the objects are encrypted: TCP beyond one host is for networks that you trust.

mod client;
mod loans;
mod server;
mod service;
mod talk;
mod wire;

pub(crate) use self::client::CONNECTIONS;
pub use self::client::PeerClient;
pub use self::server::PeerServer;
pub(crate) use self::talk::Talk;
pub use crate::net::PeerAddress;
use crate::net::Protocol;

pub(crate) const PROTOCOL: Protocol = Protocol { name: "peer", magic: *b"PSBP", version: 2 };
