//! How the dispatcher's connections reach a broker's servers.

use std::sync::Arc;

use super::paths::{PathError, Paths};

/// How connections reach servers. Clones share the paths.
#[derive(Clone, Debug, Default)]
pub(super) enum Route {
    /// By the servers' own addresses.
    #[default]
    Direct,
    /// Through gateways.
    Through(Arc<Paths>),
}

impl Route {
    #[cfg(feature = "kafka")]
    pub(super) fn is_direct(&self) -> bool {
        matches!(self, Self::Direct)
    }

    /// Where to connect for the server at `host:port`. Waits for the gateways where a path has to be made.
    ///
    /// # Errors
    /// There is no path, and the gateways make none.
    pub(super) fn to(&self, host: &str, port: u16) -> Result<(String, u16), PathError> {
        match self {
            Self::Direct => Ok((host.to_owned(), port)),
            Self::Through(paths) => paths.to(host, port),
        }
    }
}
