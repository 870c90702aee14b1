//! Which congestion control a leg's sender uses.
//!
//! BBR paces, on short legs too, where it costs more than it gives: two gateways on one host carry twice as much without it. A socket
//! that has begun with BBR stays paced whatever it is told later (`sk_pacing_status` is never taken back), so a socket begins with one
//! that does not pace, and changes to the system's own once its handshake has shown that the leg is long.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::forward::Congestion;

/// From here on a leg is long: no switched local network takes as much, no two sites take less.
const LONG: Duration = Duration::from_millis(1);

/// Those that do not pace; the first that is allowed is taken.
const UNPACED: [&str; 2] = ["cubic", "reno"];

/// What the sockets of a session begin with, and what they change to.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// `None`: the system's own.
    first: Option<String>,
    /// On long legs; `None`: it stays.
    long: Option<String>,
}

impl Choice {
    /// What these options come to on this host.
    pub(crate) fn of(congestion: &Congestion) -> Self {
        match congestion {
            Congestion::System => Self::default(),
            Congestion::Named(name) => Self { first: Some(name.clone()), long: None },
            Congestion::Auto => Self::unpaced().unwrap_or_default(),
        }
    }

    /// `None` where the system's own does not pace anyway, or where it has to do since nothing else is allowed.
    fn unpaced() -> Option<Self> {
        let probe = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
        let own = tcp_congestion(&probe).ok()?;
        if !own.starts_with("bbr") {
            return None;
        }
        let first = UNPACED.into_iter().find(|name| set_tcp_congestion(&probe, name).is_ok())?;
        Some(Self { first: Some(first.into()), long: Some(own) })
    }

    /// Whether sockets can have it here.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub(crate) fn check(&self) -> io::Result<()> {
        self.prepare(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
    }

    /// Before a socket listens or connects.
    ///
    /// # Errors
    /// There is none of this name, or only root may use it.
    pub(crate) fn prepare(&self, socket: impl AsFd) -> io::Result<()> {
        let Some(name) = &self.first else { return Ok(()) };
        set_tcp_congestion(socket, name).map_err(|error| {
            let error = io::Error::from(error);
            let remedy = "those of net.ipv4.tcp_allowed_congestion_control can be chosen";
            io::Error::new(error.kind(), format!("congestion control {name:?}: {error}; {remedy}"))
        })
    }

    /// Once a connection is there.
    pub(crate) fn settle(&self, connection: impl AsFd) -> io::Result<()> {
        match &self.long {
            Some(name) if round_trip(connection.as_fd())?.is_some_and(|shortest| shortest >= LONG) => {
                Ok(set_tcp_congestion(connection, name)?)
            }
            _ => Ok(()),
        }
    }
}

/// The shortest that was seen on a connection, at first that of its handshake; `None`: none yet.
fn round_trip(connection: BorrowedFd<'_>) -> io::Result<Option<Duration>> {
    const UNKNOWN: u32 = u32::MAX;
    let shortest = tcp_info(connection)?.tcpi_min_rtt;
    Ok((shortest != UNKNOWN && shortest != 0).then(|| Duration::from_micros(shortest.into())))
}

/// What the kernel tells of a connection, see tcp(7). Older kernels leave later fields zero.
pub(crate) fn tcp_info(connection: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `tcp_info` is integers only, for which zeros are values; the kernel writes at most `len` bytes of it.
    #[allow(unsafe_code)]
    let (returned, info) = unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let at = (&raw mut info).cast();
        (libc::getsockopt(connection.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, at, &mut len), info)
    };
    if returned == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn short_legs_are_not_paced() {
        let choice = Choice::of(&Congestion::Auto);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        choice.prepare(&listener).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        for connection in [&client, &accepted] {
            // As long as nothing holds the kernel up for a millisecond in the middle of a handshake with itself.
            if round_trip(connection.as_fd()).unwrap().is_some_and(|shortest| shortest >= LONG) {
                return;
            }
        }
        choice.settle(&accepted).unwrap();
        assert!(!tcp_congestion(&accepted).unwrap().starts_with("bbr"));
    }

    #[test]
    fn a_congestion_control_by_name_is_taken_or_named() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Choice::of(&Congestion::Named("reno".into())).prepare(&socket).unwrap();
        assert_eq!(tcp_congestion(&socket).unwrap(), "reno");
        let error = Choice::of(&Congestion::Named("none-such".into())).prepare(&socket).unwrap_err();
        assert!(error.to_string().contains("none-such"), "{error}");
    }
}
