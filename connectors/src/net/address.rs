//! Where a server listens.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::net::SocketAddrUnix;
use serde::{Deserialize, Serialize};

/// Where a [`PeerServer`](crate::peer::PeerServer) listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerAddress {
    /// A Unix socket at this path (at most 107 bytes), or, after an `@`, of this name in Linux's abstract namespace. The empty path asks
    /// for a fresh one.
    Unix(PathBuf),
    /// TCP.
    Tcp {
        /// Host name or address. A server told to listen at all addresses (`0.0.0.0`, `::`) announces its host's name.
        host: String,
        /// 0 asks for a free port.
        port: u16,
    },
    /// TCP, for whoever is to listen: at one address, and announced as another.
    Announced {
        /// Host name or address to listen at.
        host: String,
        /// 0 asks for a free port.
        port: u16,
        /// Host name or address that clients are told.
        announced: String,
    },
}

impl PeerAddress {
    /// Asks for a fresh Unix socket in the abstract namespace, of which nothing is left when its process ends, however it ends. Only
    /// this user and root are served there.
    pub fn private() -> Self {
        Self::Unix(PathBuf::new())
    }

    /// Asks for a free TCP port of the loopback interface.
    pub fn loopback() -> Self {
        Self::Tcp { host: "127.0.0.1".into(), port: 0 }
    }
}

/// The system's form of a Unix socket's address.
pub(super) fn unix(path: &Path) -> io::Result<SocketAddrUnix> {
    Ok(match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        _ => SocketAddrUnix::new(path)?,
    })
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) if path.as_os_str().is_empty() => f.write_str("unix:(fresh)"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Announced { host, port, announced } => write!(f, "{host}:{port} (announced as {announced})"),
        }
    }
}
