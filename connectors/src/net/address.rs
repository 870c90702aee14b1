//! Where a server listens.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a [`PeerServer`](crate::peer::PeerServer) listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerAddress {
    /// A Unix socket at this path (at most 107 bytes); the empty path asks for a fresh one that only this user can enter.
    Unix(PathBuf),
    /// TCP.
    Tcp {
        /// Host name or address. A server told to listen at all addresses (`0.0.0.0`, `::`) announces its host's name.
        host: String,
        /// 0 asks for a free port.
        port: u16,
    },
}

impl PeerAddress {
    /// Asks for a Unix socket in a fresh directory that only this user can enter, under `$XDG_RUNTIME_DIR` or the directory for
    /// temporary files. It is removed with the server.
    pub fn private() -> Self {
        Self::Unix(PathBuf::new())
    }

    /// Asks for a free TCP port of the loopback interface.
    pub fn loopback() -> Self {
        Self::Tcp { host: "127.0.0.1".into(), port: 0 }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) if path.as_os_str().is_empty() => f.write_str("unix:(fresh)"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}
