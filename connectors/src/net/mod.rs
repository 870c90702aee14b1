//! What connectors have in common that serve objects from the process that stored them: sockets, Unix or TCP, and who is let in.
//!
//! A client proves that it may ask by a secret, which every proxy carries, and on a Unix socket by its user, too. Neither the secret
//! nor what follows it is encrypted.

mod address;
mod failures;
mod hello;
mod listener;
mod server;
mod socket;

use std::time::Duration;

pub use self::address::PeerAddress;
pub(crate) use self::failures::Failures;
pub(crate) use self::hello::{Protocol, be_let_in, greet};
pub(crate) use self::listener::Listener;
pub(crate) use self::server::{Server, Service};
pub(crate) use self::socket::{Socket, connect_tcp};

/// How long a transfer may make no progress.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
