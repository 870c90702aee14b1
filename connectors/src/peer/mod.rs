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
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::Location;
use crate::descriptor::Descriptor;
use crate::net::Protocol;
use crate::{Connector, ConnectorError, Secret};

pub(crate) const DESCRIPTOR: Descriptor =
    Descriptor::of::<PeerLocation>(NAME, "The generator's memory, served to workers over a socket");

const NAME: &str = "peer";

/// Where a [`PeerServer`] listens, and how a client proves that it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLocation {
    /// Where it listens.
    pub address: PeerAddress,
    /// What a client must know to be served.
    pub secret: Secret,
}

impl fmt::Display for PeerLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Location for PeerLocation {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(PeerClient::connect(self)?))
    }
}

pub(crate) const PROTOCOL: Protocol = Protocol { name: "peer", magic: *b"PSBP", version: 2 };
