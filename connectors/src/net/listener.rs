//! Where a server listens, and what it leaves behind.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, accept_with, bind, listen, shutdown, socket_with};
use uuid::Uuid;

use super::{PeerAddress, Socket, address};

/// A listening socket; its path in the file system goes with it.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    address: PeerAddress,
    /// To be removed with it.
    leftover: Option<PathBuf>,
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
                Ok(Self { fd: listener.into(), address, leftover: None })
            }
            PeerAddress::Announced { host, port, announced } => {
                let mut listener = Self::bind(&PeerAddress::Tcp { host: host.clone(), port: *port })?;
                if let PeerAddress::Tcp { host, .. } = &mut listener.address {
                    host.clone_from(announced);
                }
                Ok(listener)
            }
            PeerAddress::Unix(path) if path.as_os_str().is_empty() => {
                let name = format!("@psbench-{}", Uuid::new_v4().simple());
                Self::bind_abstract(PathBuf::from(name))
            }
            PeerAddress::Unix(path) => Self::bind_unix(path),
        }
    }

    fn bind_unix(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().starts_with(b"@") {
            return Self::bind_abstract(path.into());
        }
        let listener = UnixListener::bind(path)?;
        let path = fs::canonicalize(path)?;
        Ok(Self { fd: listener.into(), address: PeerAddress::Unix(path.clone()), leftover: Some(path) })
    }

    fn bind_abstract(name: PathBuf) -> io::Result<Self> {
        /// As the standard library has it.
        const BACKLOG: i32 = 128;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&fd, &address::unix(&name)?)?;
        listen(&fd, BACKLOG)?;
        Ok(Self { fd, address: PeerAddress::Unix(name), leftover: None })
    }

    /// Where it listens, as clients must name it.
    pub(crate) fn address(&self) -> &PeerAddress {
        &self.address
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self) -> io::Result<Socket> {
        Socket::new(accept_with(&self.fd, SocketFlags::CLOEXEC)?)
    }

    /// Ends an [`accept`](Self::accept) in another thread, and all later ones.
    pub(crate) fn shut_down(&self) {
        // On Linux this wakes whoever waits in `accept`, for both kinds of socket.
        let _ = shutdown(&self.fd, Shutdown::Both);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.leftover
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!("socket {}: it stays behind, remove it: {error}", self.address);
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
