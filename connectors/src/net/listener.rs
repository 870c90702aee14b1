//! Where a server listens, and what it leaves behind.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{Shutdown, accept_with, shutdown};
use uuid::Uuid;

use super::{PeerAddress, Socket};

/// A listening socket; its path in the file system goes with it.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    address: PeerAddress,
    /// Removed in this order.
    leftovers: Vec<PathBuf>,
}

impl Listener {
    /// Listens at `address`.
    pub(crate) fn bind(address: &PeerAddress) -> io::Result<Self> {
        match address {
            PeerAddress::Tcp { host, port } => {
                let listener = TcpListener::bind((host.as_str(), *port))?;
                let bound = listener.local_addr()?;
                let host = if bound.ip().is_unspecified() { host_name() } else { host.clone() };
                let address = PeerAddress::Tcp { host, port: bound.port() };
                Ok(Self { fd: listener.into(), address, leftovers: Vec::new() })
            }
            PeerAddress::Unix(path) if path.as_os_str().is_empty() => {
                let dir = private_dir()?;
                let listener = Self::bind_unix(&dir.join("socket"));
                match listener {
                    Ok(mut listener) => {
                        listener.leftovers.push(dir);
                        Ok(listener)
                    }
                    Err(error) => {
                        fs::remove_dir(&dir)?;
                        Err(error)
                    }
                }
            }
            PeerAddress::Unix(path) => Self::bind_unix(path),
        }
    }

    fn bind_unix(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let path = fs::canonicalize(path)?;
        Ok(Self { fd: listener.into(), address: PeerAddress::Unix(path.clone()), leftovers: vec![path] })
    }

    /// Where it listens, as clients must name it.
    pub(crate) fn address(&self) -> &PeerAddress {
        &self.address
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self) -> io::Result<Socket> {
        Socket::new(accept_with(&self.fd, rustix::net::SocketFlags::CLOEXEC)?)
    }

    /// Ends an [`accept`](Self::accept) in another thread, and all later ones.
    pub(crate) fn shut_down(&self) {
        // On Linux this wakes whoever waits in `accept`, for both kinds of socket.
        let _ = shutdown(&self.fd, Shutdown::Both);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for path in &self.leftovers {
            let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            if let Err(error) = removed {
                tracing::warn!("socket {}: {} stays behind, remove it: {error}", self.address, path.display());
            }
        }
    }
}

/// Makes a fresh directory that only this user can enter.
fn private_dir() -> io::Result<PathBuf> {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let parent = runtime_dir.map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("psbench-{}", Uuid::new_v4().simple()));
    DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
