//! Objects in shared memory: mapped by their readers, not copied to them. For one host.
//!
//! The generator's [`ShmServer`] copies each object once, into a *segment* of shared memory (a sealed `memfd`), and says over a
//! private Unix socket where it is. Each worker's [`ShmClient`] maps a segment the first time that it meets it, and from then on an
//! object costs it one round trip, whatever its size. Segments are used again and again: touching fresh memory costs more than the
//! copy.
//!
//! What keeps `Bytes` from changing while someone reads them: a reader has a *lease* on each object that it holds, and the server
//! writes to a segment only while there is no lease on it and no name for what is in it. Leases come back when the last clone of the
//! `Bytes` is dropped; while they are on less than 1 MiB in all, with the reader's next request. Those of a reader that is gone
//! don't come back: its segments are never used again, and the system frees each when nobody maps it any more. Seals keep everyone
//! but the server from writing to a segment, and everyone from shrinking it, which would kill whoever reads there.
//!
//! Objects under 32 KiB go over the socket, as [`peer`](crate::peer)'s do, because that is as fast; so do those beyond 512 segments
//! or 65536 leases at a time, and those for which the system has no more descriptors or memory. What readers hold does not count as
//! held by the server, as with `peer`. Segments that wait for their next object take as much memory as the server may hold, at most;
//! and a segment is up to an eighth larger than its object.

mod client;
mod host;
mod lease;
mod leases;
mod mapping;
mod segments;
mod server;
mod service;
mod wire;

pub use self::client::ShmClient;
pub use self::server::ShmServer;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::Location;
use crate::descriptor::Descriptor;
use crate::net::{PeerAddress, Protocol};
use crate::{Connector, ConnectorError, Secret};

pub(crate) const DESCRIPTOR: Descriptor = Descriptor::of::<ShmLocation>(
    NAME,
    "Memory that the generator shares with workers on its host, mapped and not copied",
);

const NAME: &str = "shm";

/// Where a [`ShmServer`] listens, and how a client proves that it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShmLocation {
    /// Its Unix socket.
    pub path: PathBuf,
    /// The boot id of the host where the memory is.
    pub host: Uuid,
    /// What a client must know to be served.
    pub secret: Secret,
}

impl fmt::Display for ShmLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PeerAddress::Unix(self.path.clone()).fmt(f)
    }
}

impl Location for ShmLocation {
    fn connector(&self) -> &str {
        NAME
    }

    fn connect(&self) -> Result<Arc<dyn Connector>, ConnectorError> {
        Ok(Arc::new(ShmClient::connect(self)?))
    }
}

const PROTOCOL: Protocol = Protocol { name: "shm", magic: *b"PSBS", version: 1 };
