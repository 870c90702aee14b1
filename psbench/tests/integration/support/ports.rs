//! Ports for the sessions of control servers.

use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Above those that the system hands out, and those of `free_port`.
const FIRST: u16 = 61_001;
/// How many a range has.
const COUNT: u16 = 11;

/// Eleven ports that no other test takes, of this process or of another: whoever has them holds a socket that is named after them.
pub(crate) fn ports() -> String {
    let range = port_range();
    format!("{}-{}", range.start(), range.end())
}

/// The same as numbers.
pub(crate) fn port_range() -> RangeInclusive<u16> {
    static HELD: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let ranges = (u16::MAX - FIRST) / COUNT;
    let some = (uuid::Uuid::new_v4().as_u128() % u128::from(ranges)) as u16;
    let range = (0..ranges).find_map(|next| {
        let first = FIRST + (some + next) % ranges * COUNT;
        let name = SocketAddr::from_abstract_name(format!("psbench-test-ports-{first}")).unwrap();
        let held = UnixListener::bind_addr(&name).ok()?;
        let free = (first..first + COUNT).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        free.then_some((first, held))
    });
    let (first, held) = range.expect("found no free ports");
    HELD.lock().unwrap().push(held);
    first..=first + COUNT - 1
}
